"""configMap, secret, downwardAPI and projected volumes: a folder or tmpfs that an atomic writer fills."""

from __future__ import annotations

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
        try:
            atomic_writer.write(request.folder, content, lambda: _own(request))
        except ValueError as exc:
            raise MountError(str(exc)) from None
        return request.folder


def _mode(mode: int | None) -> int:
    return _DEFAULT_MODE if mode is None else mode


def _own(request: Request) -> None:
    if request.fs_group is not None:
        ownership.give_to_group(request.folder, request.fs_group, read_only=True)
