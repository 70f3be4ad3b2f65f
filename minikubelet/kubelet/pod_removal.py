"""Removing what is left of a pod: in the runtime, and on disk."""

from __future__ import annotations

import asyncio
import contextlib
import shutil

from minikubelet.kubelet import podfiles
from minikubelet.kubelet.observed import PodView
from minikubelet.kubelet.pod_state import PodState


class PodRemoval:
    """Removes what belonged to one pod; nothing of it runs any more."""

    def __init__(self, state: PodState) -> None:
        self._state = state

    async def content(self) -> None:
        """What an evicted pod held on disk is what the node was short of: containers, volumes, logs."""
        await self.from_runtime(self._state.node.cache.view(self._state.pod.uid))
        await self._state.node.volumes.teardown(self._state.pod.uid)
        folder = podfiles.log_directory(self._state.node.config, self._state.pod)
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)

    async def old_sandboxes(self) -> None:
        """Remove former sandboxes once none of their containers is kept."""
        view = self._state.node.cache.view(self._state.pod.uid)
        for sandbox in view.sandboxes[1:]:
            if not sandbox.ready and not any(c.sandbox_id == sandbox.id for c in view.containers):
                await self._state.node.client.remove_pod_sandbox(sandbox.id)
                self._state.node.cache.remove(sandbox.id)

    async def from_runtime(self, view: PodView) -> None:
        """Sandboxes, containers, the cgroup. Raises NodeError."""
        node = self._state.node
        for sandbox in view.sandboxes:
            await node.client.remove_pod_sandbox(sandbox.id)
            node.cache.remove(sandbox.id)
        for container in node.cache.view(view.uid).containers:
            await node.client.remove_container(container.id)
            node.cache.remove(container.id)
        node.cgroups.remove(view.uid)

    def files(self) -> None:
        """Logs, and last the pod's folder: without it nobody knows of the logs. Raises OSError."""
        for folder in (
            podfiles.log_directory(self._state.node.config, self._state.pod),
            self._state.node.config.pod_dir(self._state.pod.uid),
        ):
            with contextlib.suppress(FileNotFoundError):
                shutil.rmtree(folder)
