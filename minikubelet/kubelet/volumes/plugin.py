"""What a kind of volume has to offer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from minikubelet.kubelet.objects import Pod, Volume


@dataclass(frozen=True, slots=True)
class Request:
    """One volume of one pod."""

    pod: Pod
    volume: Volume
    field: str
    """Path of the source in the manifest, ``spec.volumes[0].emptyDir``."""
    folder: str
    """The volume's own folder below the pod's, not made yet; a plug-in may leave it unmade."""


class Plugin(Protocol):
    """Makes volumes of one kind. Called in a worker thread, one call a volume at a time."""

    def setup(self, request: Request) -> str:
        """The host path to mount; does nothing where it is set up already. Raises NodeError or OSError."""
