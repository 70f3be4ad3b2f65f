"""The volumes of all pods: finds the plug-in of each, keeps them apart, takes them away."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Mapping

import msgspec

from minikubelet.base.errors import Code, NodeError, invalid
from minikubelet.kubelet.objects import Pod, Volume
from minikubelet.kubelet.volumes import removal
from minikubelet.kubelet.volumes.empty_dir import EmptyDir
from minikubelet.kubelet.volumes.host_path import HostPath
from minikubelet.kubelet.volumes.plugin import Plugin, Request

_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,251}[A-Za-z0-9])?\Z")
_FOLDERS = {"empty_dir": "empty-dir", "host_path": "host-path"}
_JSON_NAMES = {field.name: field.encode_name for field in msgspec.structs.fields(Volume)}


class VolumeManager:
    """Volumes below ``root/POD UID/volumes/kubernetes.io~KIND/NAME``, the layout of upstream's kubelet.

    ``plugins`` maps a field name of :class:`Volume` to what makes such volumes; other kinds are refused.
    """

    def __init__(self, root: str, plugins: Mapping[str, Plugin] | None = None) -> None:
        self._root = root
        self._plugins: dict[str, Plugin] = {"empty_dir": EmptyDir(), "host_path": HostPath()}
        self._plugins.update(plugins or {})

    def unsupported(self, pod: Pod) -> list[NodeError]:
        """One error for each volume of a kind that this node can't make."""
        errors = []
        for index, volume in enumerate(pod.spec.volumes):
            try:
                self._kind(volume, index)
            except NodeError as exc:
                errors.append(exc)
        return errors

    async def setup(self, pod: Pod) -> dict[str, str]:
        """Make all volumes of a pod, or find them made; host paths by volume name.

        Raises NodeError that names the field: UNIMPLEMENTED for a kind of volume that isn't supported,
        INVALID_ARGUMENT and FAILED_PRECONDITION for what can't be had.
        """
        return await asyncio.to_thread(self._setup, pod)

    async def teardown(self, pod_uid: str) -> None:
        """Unmount and delete all volumes of a pod; idempotent. Raises OSError, NodeError for a bad UID."""
        await asyncio.to_thread(self._teardown, pod_uid)

    def _setup(self, pod: Pod) -> dict[str, str]:
        base = self._volumes(pod.uid)
        paths = {}
        for index, volume in enumerate(pod.spec.volumes):
            field = f"spec.volumes[{index}]"
            if not _NAME.match(volume.name):
                raise invalid(f"{field}.name", f"{volume.name!r} is not a valid name")
            kind = self._kind(volume, index)
            folder = os.path.join(base, f"kubernetes.io~{_FOLDERS.get(kind, kind)}", volume.name)
            request = Request(pod, volume, f"{field}.{_JSON_NAMES[kind]}", folder)
            try:
                paths[volume.name] = self._plugins[kind].setup(request)
            except OSError as exc:
                message = f"volume {volume.name}: {exc}"
                raise NodeError(Code.INTERNAL, message, field=request.field) from exc
        return paths

    def _kind(self, volume: Volume, index: int) -> str:
        kinds = [name for name in _JSON_NAMES if name != "name" and getattr(volume, name) is not None]
        if not kinds:
            kinds = ["empty_dir"]  # unreachable after defaulting
        kind = kinds[0]
        field = f"spec.volumes[{index}].{_JSON_NAMES[kind]}"
        if len(kinds) > 1:
            raise invalid(f"spec.volumes[{index}]", "may not specify more than one volume type")
        if kind not in self._plugins:
            message = f"volumes of this kind are not supported by this node (volume {volume.name!r})"
            raise NodeError(Code.UNIMPLEMENTED, message, field=field)
        return kind

    def _volumes(self, uid: str) -> str:
        if not _NAME.match(uid):
            raise invalid("metadata.uid", f"{uid!r} can't be a folder's name")
        return os.path.join(self._root, uid, "volumes")

    def _teardown(self, uid: str) -> None:
        base = self._volumes(uid)
        try:
            pod = os.open(os.path.dirname(base), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError:
            return
        try:
            try:
                volumes = removal.open_folder(pod, "volumes")
            except FileNotFoundError:
                return
            try:
                for kind in os.listdir(volumes):
                    _unmount_all(volumes, kind)
            finally:
                os.close(volumes)
            removal.remove_tree_at(pod, "volumes")
        finally:
            os.close(pod)


def _unmount_all(volumes: int, kind: str) -> None:
    try:
        folder = removal.open_folder(volumes, kind)
    except NotADirectoryError:
        return
    try:
        for name in os.listdir(folder):
            try:
                removal.unmount_at(folder, name)
            except NotADirectoryError:
                continue
    finally:
        os.close(folder)
