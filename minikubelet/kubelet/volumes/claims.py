"""PersistentVolumeClaims: folders of the node's own that outlive pods, or what a PersistentVolume names."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

from minikubelet.kubelet.objects.data import PersistentVolume
from minikubelet.kubelet.objects.volumes import HostPathVolumeSource, Volume
from minikubelet.kubelet.volumes import ownership
from minikubelet.kubelet.volumes.empty_dir import make_folder
from minikubelet.kubelet.volumes.host_path import HostPath
from minikubelet.kubelet.volumes.plugin import MountError, Request, Surroundings

_NAME = re.compile(r"[a-z0-9][a-z0-9.-]{0,252}\Z")


@dataclass(frozen=True)
class _Place:
    """Where a claim's files are: a folder of ours, or a volume that someone else provides."""

    folder: str = ""
    volume: PersistentVolume | None = None


class Claim:
    """The plug-in."""

    def __init__(self, around: Surroundings, host_path: HostPath | None = None) -> None:
        self._around = around
        self._host_path = host_path or HostPath()

    async def look_up(self, request: Request) -> _Place:
        """See :class:`ContentPlugin`."""
        source = request.volume.persistent_volume_claim
        assert source is not None
        namespace, name = request.pod.metadata.namespace, source.claim_name
        claim = await self._around.lookups.claim(namespace, name)
        if claim is None:
            raise MountError(f'persistentvolumeclaim "{name}" not found')
        volume = await self._around.lookups.volume(claim)
        if volume is not None:
            wanted = volume.spec.claim_ref
            if wanted is not None and (wanted.namespace or "default", wanted.name) != (namespace, name):
                other = f"{wanted.namespace or 'default'}/{wanted.name}"
                raise MountError(f'volume "{volume.metadata.name}" is already bound to claim "{other}"')
            return _Place(volume=volume)
        if claim.spec.volume_name:
            raise MountError(f'persistentvolume "{claim.spec.volume_name}" not found')
        if not self._around.claims or not _NAME.match(namespace) or not _NAME.match(name):
            raise MountError(f'claim "{namespace}/{name}" can\'t be a folder of this node')
        return _Place(folder=os.path.join(self._around.claims, namespace, name))

    def write(self, request: Request, content: object) -> str:
        """See :class:`ContentPlugin`."""
        assert isinstance(content, _Place)
        if content.volume is not None:
            return self._bound(request, content.volume)
        make_folder(content.folder)
        self._own(request, content.folder)
        return content.folder

    def _bound(self, request: Request, volume: PersistentVolume) -> str:
        """A PersistentVolume's folder; a local one must be there and follows fsGroup, hostPath doesn't."""
        local, on_host = volume.spec.local, volume.spec.host_path
        source = on_host or HostPathVolumeSource(path=local.path if local else "", type="Directory")
        stand_in = Volume(name=request.volume.name, host_path=source)
        path = self._host_path.setup(Request(request.pod, stand_in, request.field, request.folder))
        if local is not None:
            self._own(request, path)
        return path

    @staticmethod
    def _own(request: Request, folder: str) -> None:
        source, context = request.volume.persistent_volume_claim, request.pod.spec.security_context
        if context is None or context.fs_group is None or (source is not None and source.read_only):
            return
        on_mismatch = context.fs_group_change_policy == "OnRootMismatch"
        ownership.give_to_group(folder, context.fs_group, on_mismatch=on_mismatch)
