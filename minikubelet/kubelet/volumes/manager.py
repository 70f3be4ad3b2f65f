"""The volumes of all pods: finds the plug-in of each, keeps them apart, takes them away."""

from __future__ import annotations

import asyncio
import functools
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from minikubelet.base import clock
from minikubelet.base.errors import Code, NodeError, invalid
from minikubelet.kubelet.metrics.storage import MOUNT, StorageInstruments
from minikubelet.kubelet.objects import Pod, Volume
from minikubelet.kubelet.volumes import removal, subpath
from minikubelet.kubelet.volumes.claims import Claim
from minikubelet.kubelet.volumes.content import ContentVolume
from minikubelet.kubelet.volumes.empty_dir import EmptyDir
from minikubelet.kubelet.volumes.host_path import HostPath
from minikubelet.kubelet.volumes.plugin import (
    ContentPlugin,
    Plugin,
    Request,
    SetupFailed,
    Surroundings,
)

_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,251}[A-Za-z0-9])?\Z")
_FOLDERS = {
    "empty_dir": "empty-dir",
    "host_path": "host-path",
    "config_map": "configmap",
    "secret": "secret",
    "downward_api": "downward-api",
    "projected": "projected",
    "persistent_volume_claim": "local-volume",
}
_CHANGING = ("config_map", "secret", "downward_api", "projected")
_JSON_NAMES = {field.name: field.encode_name for field in msgspec.structs.fields(Volume)}


class VolumeManager:
    """Volumes below ``root/POD UID/volumes/kubernetes.io~KIND/NAME``, the layout of upstream's kubelet.

    ``plugins`` maps a field name of :class:`Volume` to what makes such volumes; other kinds are refused.
    """

    def __init__(
        self,
        root: str,
        plugins: Mapping[str, Plugin | ContentPlugin] | None = None,
        around: Surroundings | None = None,
        counted: StorageInstruments | None = None,
    ) -> None:
        self._root = root
        self._counted = counted or StorageInstruments()
        around = around or Surroundings()
        content = ContentVolume(around)
        self._plugins: dict[str, Plugin | ContentPlugin] = {
            "empty_dir": EmptyDir(around),
            "host_path": HostPath(),
            "persistent_volume_claim": Claim(around),
            **dict.fromkeys(_CHANGING, content),
        }
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

        Raises SetupFailed for all that can't be had, once the others are made; each error names its field:
        UNIMPLEMENTED for a kind of volume that isn't supported, INVALID_ARGUMENT, FAILED_PRECONDITION.
        """
        return await self._make(pod, list(enumerate(pod.spec.volumes)))

    async def refresh(self, pod: Pod) -> None:
        """Bring the volumes up to date whose content can change. Raises SetupFailed."""
        changing = [
            (index, volume)
            for index, volume in enumerate(pod.spec.volumes)
            if any(getattr(volume, kind) is not None for kind in _CHANGING)
        ]
        await self._make(pod, changing)

    async def _make(self, pod: Pod, volumes: Sequence[tuple[int, Volume]]) -> dict[str, str]:
        self._volumes(pod.uid)
        jobs: list[_Job] = []
        failures: dict[str, NodeError] = {}
        for index, volume in volumes:
            try:
                jobs.append(await self._prepare(pod, index, volume))
            except NodeError as exc:
                failures[volume.name] = exc
        paths, more, seconds = await asyncio.to_thread(_carry_out, jobs)
        failures |= more
        for job in jobs:
            name = job.request.volume.name
            self._counted.operated(job.plugin, MOUNT, seconds[name], well=name not in more)
        if failures:
            raise SetupFailed(failures)
        return paths

    async def _prepare(self, pod: Pod, index: int, volume: Volume) -> _Job:
        """What is left to do in a thread. Raises NodeError."""
        field = f"spec.volumes[{index}]"
        if not _NAME.match(volume.name):
            raise invalid(f"{field}.name", f"{volume.name!r} is not a valid name")
        kind = self._kind(volume, index)
        folder = volume_folder(self._root, pod.uid, kind, volume.name)
        request = Request(pod, volume, f"{field}.{_JSON_NAMES[kind]}", folder)
        plugin: Any = self._plugins[kind]
        if hasattr(plugin, "look_up"):
            make = functools.partial(plugin.write, request, await plugin.look_up(request))
        else:
            make = functools.partial(plugin.setup, request)
        return _Job(request, make, f"kubernetes.io/{_FOLDERS.get(kind, kind)}")

    async def teardown(self, pod_uid: str) -> None:
        """Unmount and delete all volumes of a pod; idempotent. Raises OSError, NodeError for a bad UID."""
        await asyncio.to_thread(self._teardown, pod_uid)

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
            subpath.remove_all(pod)
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


def volume_folder(root: str, uid: str, kind: str, name: str) -> str:
    """A volume's own folder; ``kind`` is a field name of :class:`Volume`."""
    return os.path.join(root, uid, "volumes", f"kubernetes.io~{_FOLDERS.get(kind, kind)}", name)


@dataclass(frozen=True)
class _Job:
    """A volume whose content is known."""

    request: Request
    make: Callable[[], str]
    plugin: str
    """Upstream's name of the plug-in."""


def _carry_out(
    jobs: Sequence[_Job],
) -> tuple[dict[str, str], dict[str, NodeError], dict[str, float]]:
    """Host paths, what failed, and how many seconds each took, by volume name."""
    paths: dict[str, str] = {}
    failures: dict[str, NodeError] = {}
    seconds: dict[str, float] = {}
    for job in jobs:
        name, began = job.request.volume.name, clock.monotonic()
        try:
            paths[name] = job.make()
        except NodeError as exc:
            failures[name] = exc
        except OSError as exc:
            failures[name] = NodeError(Code.INTERNAL, f"volume {name}: {exc}", field=job.request.field)
        seconds[name] = clock.monotonic() - began
    return paths, failures, seconds


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
