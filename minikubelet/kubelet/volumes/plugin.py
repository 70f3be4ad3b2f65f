"""What a kind of volume has to offer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from minikubelet.base.errors import Code, NodeError
from minikubelet.kubelet.lookups import Lookups, NoLookups
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

    @property
    def fs_group(self) -> int | None:
        """The group that shall own the volume."""
        context = self.pod.spec.security_context
        return context.fs_group if context is not None else None


def _nothing() -> Mapping[str, int]:
    return {}


@dataclass(frozen=True)
class Surroundings:
    """What volumes are made of beside the pod."""

    lookups: Lookups = field(default_factory=NoLookups)
    allocatable: Callable[[], Mapping[str, int]] = _nothing
    """Of the node: millicores of cpu, else bytes."""
    claims: str = ""
    """Folder of the node's own claims: ``NAMESPACE/NAME``."""


class MountError(NodeError):
    """A volume can't be had now, in upstream's words: ``configmap "x" not found``."""

    def __init__(self, message: str) -> None:
        super().__init__(Code.FAILED_PRECONDITION, message)


class SetupFailed(NodeError):
    """Volumes of a pod that could not be made: name and error of each."""

    def __init__(self, failures: Mapping[str, NodeError]) -> None:
        first = next(iter(failures.values()))
        super().__init__(first.code, first.message, field=first.field)
        self.failures = failures


class Plugin(Protocol):
    """Makes volumes of one kind. Called in a worker thread, one call a volume at a time."""

    def setup(self, request: Request) -> str:
        """The host path to mount; does nothing where it is set up already. Raises NodeError or OSError."""


class ContentPlugin(Protocol):
    """Makes volumes whose content is looked up first, and may change while the pod runs."""

    async def look_up(self, request: Request) -> object:
        """What :meth:`write` needs. Raises NodeError."""

    def write(self, request: Request, content: object) -> str:
        """Make the volume or bring it up to date, in a worker thread. Raises NodeError or OSError."""
