"""What a pod's worker must know after a restart of the daemon and can't learn from the runtime."""

from __future__ import annotations

import logging
import os

import msgspec

from minikubelet.kubelet import podfiles
from minikubelet.kubelet.config import KubeletConfig
from minikubelet.kubelet.manifests.static import CONFIG_HASH
from minikubelet.kubelet.objects import Pod
from minikubelet.kubelet.objects.containers import EphemeralContainer, ResourceRequirements
from minikubelet.kubelet.objects.podstatus import PodStatus

log = logging.getLogger(__name__)


class BackoffState(msgspec.Struct):
    """A container's restart delay, seconds, and when it was set, nanoseconds since the epoch."""

    delay: float
    updated: int


class Failure(msgspec.Struct):
    """Why a pod as a whole was ended for good: it stays so after a restart."""

    reason: str
    message: str


class Checkpoint(msgspec.Struct, omit_defaults=True):
    """One pod's memory; a small JSON file in its folder, replaced atomically."""

    start_time: str = ""
    backoffs: dict[str, BackoffState] = msgspec.field(default_factory=dict)
    restarts: dict[str, int] = msgspec.field(default_factory=dict)
    """Highest restart count given out, by container."""
    reset: dict[str, int] = msgspec.field(default_factory=dict)
    """By container, the restart count of the one that was removed last so that all start over."""
    started: list[str] = msgspec.field(default_factory=list)
    """IDs of containers that were started (hook and startup probe done)."""
    ready: list[str] = msgspec.field(default_factory=list)
    """IDs of containers that were ready."""
    users: int = 0
    """First ID of the pod's user namespace on the node; 0: it has none."""
    users_length: int = 65536
    """How many IDs it has."""
    allocated: dict[str, ResourceRequirements] = msgspec.field(default_factory=dict)
    """Resources granted, by container."""
    actuated: dict[str, ResourceRequirements] = msgspec.field(default_factory=dict)
    """Resources that the newest container of that name was made or updated with."""
    ephemeral: list[EphemeralContainer] = msgspec.field(default_factory=list)
    """Containers that were added to the pod while it ran."""
    failure: Failure | None = None
    """The pod was evicted."""
    ended: PodStatus | None = None
    """What became of a pod that has ended by itself, for good: nothing is made of it again."""

    content: str = ""
    """The hash of the manifest that this is about: one with a UID of its own keeps that when it changes."""

    @property
    def is_over(self) -> bool:
        """Whether nothing of the pod is to run any more."""
        return self.ended is not None or self.failure is not None


def _path(config: KubeletConfig, uid: str) -> str:
    return os.path.join(config.pod_dir(uid), "checkpoint.json")


def load_for(config: KubeletConfig, pod: Pod) -> Checkpoint:
    """The checkpoint of a pod as it is now: how it ended counts for that manifest only."""
    found = load(config, pod.uid)
    content = pod.metadata.annotations.get(CONFIG_HASH, "")
    if found.content not in ("", content):
        found.ended = found.failure = None
    found.content = content
    return found


def load(config: KubeletConfig, uid: str) -> Checkpoint:
    """The pod's checkpoint; an empty one if there is none or it can't be read."""
    path = _path(config, uid)
    try:
        with open(path, "rb") as file:
            return msgspec.json.decode(file.read(1 << 20), type=Checkpoint)
    except FileNotFoundError:
        return Checkpoint()
    except (OSError, msgspec.DecodeError) as exc:
        log.warning("checkpoint %s can't be read, starting without: %s", path, exc)
        return Checkpoint()


def save(config: KubeletConfig, uid: str, checkpoint: Checkpoint) -> None:
    """Write the checkpoint. Raises OSError."""
    podfiles.write_checkpoint(_path(config, uid), msgspec.json.encode(checkpoint))
