"""Making a pod's sandbox."""

from __future__ import annotations

import asyncio
import contextlib
import os

from minikubelet.base.errors import NodeError
from minikubelet.kubelet import runtime_class
from minikubelet.kubelet.dns import omissions
from minikubelet.kubelet.environment import ContainerConfigError
from minikubelet.kubelet.events import NORMAL, WARNING
from minikubelet.kubelet.observed import ObservedSandbox, PodView
from minikubelet.kubelet.plan import Plan
from minikubelet.kubelet.pod_state import SANDBOX, PodState
from minikubelet.kubelet.pod_volumes import PodVolumes


class SandboxMaker:
    """Makes the sandboxes of one pod."""

    def __init__(self, state: PodState, volumes: PodVolumes) -> None:
        self._state = state
        self._volumes = volumes

    async def create(self, plan: Plan, view: PodView) -> ObservedSandbox | None:
        """Make the sandbox, and the volumes beside it; None if that failed and is to be tried again later."""
        state, node, pod = self._state, self._state.node, self._state.pod
        if view.sandbox is not None:
            message = "Pod sandbox changed, it will be killed and re-created."
            node.events.pod(pod, NORMAL, "SandboxChanged", message)
        volumes = asyncio.ensure_future(self._volumes.prepare())
        try:
            handler = runtime_class.resolve(pod, node.lookups)
            node.cgroups.ensure(pod)
            config = state.sandbox_config(plan.attempt, await state.user_namespace(), anew=True)
            for told in omissions(pod, node.config):
                node.events.pod(pod, WARNING, "DNSConfigForming", told)
            # The pod's folder is what a restarted kubelet knows it by: it comes first and goes last.
            os.makedirs(node.config.pod_dir(pod.uid), 0o750, exist_ok=True)
            os.makedirs(config.log_directory, 0o755, exist_ok=True)
            with node.instruments.starting_pod(handler, user_namespace=pod.spec.host_users is False):
                sandbox_id = await node.client.run_pod_sandbox(config, handler)
            await node.lifecycle.learn_sandbox(sandbox_id)
        except (NodeError, OSError, ContainerConfigError) as exc:
            await volumes
            message = f"Failed to create pod sandbox: {exc}"
            node.events.pod(pod, WARNING, "FailedCreatePodSandBox", message)
            state.retry_in(SANDBOX)
            with contextlib.suppress(NodeError):
                await node.lifecycle.refresh_pod(pod.uid)
            return None
        except asyncio.CancelledError:
            volumes.cancel()
            await asyncio.gather(volumes, return_exceptions=True)
            raise
        await volumes
        return node.cache.sandbox(sandbox_id)
