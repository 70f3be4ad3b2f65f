"""configMap, secret, downwardAPI and projected volumes: a folder or tmpfs that an atomic writer fills."""

from __future__ import annotations

import os
import posixpath

from minikubelet.kubelet.defaults import all_containers
from minikubelet.kubelet.objects import Pod
from minikubelet.kubelet.volumes import atomic_writer, ownership, payload
from minikubelet.kubelet.volumes.atomic_writer import Payload
from minikubelet.kubelet.volumes.empty_dir import EmptyDir, make_folder
from minikubelet.kubelet.volumes.plugin import MountError, Request, Surroundings

_DEFAULT_MODE = 0o644


class ContentVolume:
    """The plug-in of all four kinds. All but configMap are kept in memory, as upstream does it."""

    def __init__(self, around: Surroundings) -> None:
        self._around = around
        self._memory = EmptyDir(around)

    async def look_up(self, request: Request) -> Payload:
        """See :class:`ContentPlugin`."""
        volume, pod, around = request.volume, request.pod, self._around
        namespace = pod.metadata.namespace
        if (config := volume.config_map) is not None:
            mode, optional = _mode(config.default_mode), bool(config.optional)
            return await payload.config_map_files(
                around, namespace, config.name, config.items, mode, optional
            )
        if (secret := volume.secret) is not None:
            mode, optional = _mode(secret.default_mode), bool(secret.optional)
            return await payload.secret_files(
                around, namespace, secret.secret_name, secret.items, mode, optional
            )
        if (downward := volume.downward_api) is not None:
            return payload.downward_files(around, pod, downward.items, _mode(downward.default_mode))
        assert volume.projected is not None
        return await payload.projected_files(around, pod, volume.projected)

    def write(self, request: Request, content: object) -> str:
        """See :class:`ContentPlugin`."""
        assert isinstance(content, dict)
        on_disk = request.volume.config_map is not None
        make_folder(request.folder, None if on_disk else self._memory.tmpfs_size(request))
        for inside in nested_mount_points(request.pod, request.volume.name):
            os.makedirs(os.path.join(request.folder, inside), mode=0o755, exist_ok=True)
        try:
            atomic_writer.write(request.folder, content, lambda: _own(request))
        except ValueError as exc:
            raise MountError(str(exc)) from None
        return request.folder


def nested_mount_points(pod: Pod, name: str) -> set[str]:
    """Where containers mount something else inside the volume ``name``, relative to it.

    The volume is read-only, so that a runtime could not make these folders itself.
    """
    found: set[str] = set()
    for container in all_containers(pod.spec):
        mounts = [(each.name, posixpath.normpath(f"/{each.mount_path}")) for each in container.volume_mounts]
        for own, top in mounts:
            below = {path for _, path in mounts if own == name and path.startswith(f"{top}/")}
            # What lies in another of these is inside that volume.
            outer = {path for path in below if not any(path.startswith(f"{each}/") for each in below)}
            found |= {posixpath.relpath(path, top) for path in outer}
    return found


def _mode(mode: int | None) -> int:
    return _DEFAULT_MODE if mode is None else mode


def _own(request: Request) -> None:
    if request.fs_group is not None:
        ownership.give_to_group(request.folder, request.fs_group, read_only=True)
