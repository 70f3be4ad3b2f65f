"""A pod's volumes as its worker sees them: made once, brought up to date, failures told."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

import msgspec

from minikubelet.base.errors import NodeError
from minikubelet.kubelet.events import WARNING
from minikubelet.kubelet.observed import PodView
from minikubelet.kubelet.pod_state import REFRESH, VOLUMES, PodState
from minikubelet.kubelet.volumes.plugin import SetupFailed

UPDATE_PERIOD = 60.0
"""Seconds until a running pod's volumes are brought up to date again after that has failed."""
_T = TypeVar("_T")


class PodVolumes:
    """The volumes of one pod, but those that are images: these a container gets when it is made."""

    def __init__(self, state: PodState) -> None:
        self._state = state

    async def prepare(self) -> bool:
        """Make the volumes once; whether they are there."""
        state = self._state
        if state.volumes is not None:
            return True
        if not state.take(VOLUMES):
            return False
        state.stale = False
        spec = state.pod.spec
        on_host = [volume for volume in spec.volumes if volume.image is None]
        narrowed = msgspec.structs.replace(spec, volumes=on_host)
        try:
            pod = msgspec.structs.replace(state.pod, spec=narrowed)
            state.volumes = await _to_its_end(state.node.volumes.setup(pod))
        except (NodeError, OSError) as exc:
            self._tell(exc)
            state.retry_in(VOLUMES)
            return False
        return True

    async def refresh(self, view: PodView) -> None:
        """Show running containers what has changed; what they have had stays if that can't be done."""
        state = self._state
        # Without either of these the volumes are yet to be made.
        in_use = state.volumes is not None or any(each.is_running for each in view.containers)
        if not (state.stale and in_use and state.take(REFRESH)):
            return
        state.stale = False
        try:
            await _to_its_end(state.node.volumes.refresh(state.pod))
        except (NodeError, OSError) as exc:
            self._tell(exc)
            state.stale = True
            state.retry_in(REFRESH, UPDATE_PERIOD)

    def _tell(self, exc: NodeError | OSError) -> None:
        events, pod = self._state.node.events, self._state.pod
        failures = exc.failures if isinstance(exc, SetupFailed) else {}
        for name, each in failures.items():
            message = f'MountVolume.SetUp failed for volume "{name}" : {each.message}'
            events.pod(pod, WARNING, "FailedMount", message)
        if not failures:
            events.pod(pod, WARNING, "FailedMount", f"MountVolume.SetUp failed: {exc}")


async def _to_its_end(work: Awaitable[_T]) -> _T:
    """Work in a thread can't be cancelled: what it makes must be there before it can be taken down."""
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task})
        raise
