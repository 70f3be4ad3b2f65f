"""In-place resize (KEP-1287): new CPU and memory in the manifest reach running containers without a restart.

A pod has three sets of resources: *desired* (the manifest), *allocated* (what the node has granted, the spec
that everything else works with) and *actuated* (what each container was made or last updated with). A change
goes to the second when it fits, from there through CRI to the third. The last two outlive the process.
What can't be resized in place replaces the pod: see :mod:`manifests.identity`.
"""

from __future__ import annotations

import logging

import msgspec

from minikubelet.base import clock
from minikubelet.base.errors import Code, NodeError
from minikubelet.kubelet.admission import Rejection
from minikubelet.kubelet.defaults import is_sidecar
from minikubelet.kubelet.demands import pod_limits
from minikubelet.kubelet.events import NORMAL, WARNING
from minikubelet.kubelet.manifests.identity import RESIZABLE
from minikubelet.kubelet.objects import Container, Pod
from minikubelet.kubelet.objects.containers import ResourceRequirements
from minikubelet.kubelet.objects.podspec import PodSpec
from minikubelet.kubelet.objects.podstatus import PodCondition
from minikubelet.kubelet.objects.quantity import parse
from minikubelet.kubelet.observed import PodView
from minikubelet.kubelet.pod_state import PodState
from minikubelet.kubelet.resources import linux_resources, sandbox_resources
from minikubelet.kubelet.terminator import Terminator

log = logging.getLogger(__name__)

_STATIC, _TOO_MUCH = "guaranteed_pod_cpu_manager_static_policy", "insufficient_node_allocatable"
"""Upstream's words for why a resize is infeasible."""
RESIZE = "/resize"
"""Key of a deferred or failed resize in ``PodState.not_before``."""


def with_resources(spec: PodSpec, resources: dict[str, ResourceRequirements]) -> PodSpec:
    """``spec`` with other resources for the containers named."""

    def changed(each: Container) -> Container:
        found = resources.get(each.name)
        return each if found is None else msgspec.structs.replace(each, resources=found)

    return msgspec.structs.replace(
        spec,
        containers=[changed(each) for each in spec.containers],
        init_containers=[changed(each) if is_sidecar(each) else each for each in spec.init_containers],
    )


def resizable(spec: PodSpec) -> list[Container]:
    """Containers that can be resized."""
    return [*spec.containers, *(each for each in spec.init_containers if is_sidecar(each))]


def _changed(one: ResourceRequirements, other: ResourceRequirements) -> set[str]:
    """Names of the resizable resources in which the two differ."""
    if one == other:
        return set()
    return {
        name
        for name in RESIZABLE
        for mine, yours in ((one.limits, other.limits), (one.requests, other.requests))
        if parse(mine.get(name, 0)) != parse(yours.get(name, 0))
    }


class Resizer:
    """One pod's. The pod begins with what was allocated before a restart."""

    def __init__(self, state: PodState, terminator: Terminator) -> None:
        self._state = state
        self._terminator = terminator
        self._desired = state.pod.spec
        self._pending: Rejection | None = None
        self._error = ""
        self._moving = False
        allocated = state.memory.allocated
        state.pod.spec = with_resources(state.pod.spec, allocated)
        self._remember()

    @property
    def desired(self) -> PodSpec:
        """The spec as the manifest has it."""
        return self._desired

    def offer(self, pod: Pod) -> None:
        """The manifest may have other amounts now."""
        self._count(pod)
        self._desired = pod.spec
        self._state.not_before.pop(RESIZE, None)

    def _count(self, pod: Pod) -> None:
        counted = self._state.node.instruments.allocation
        before = {each.name: each.resources for each in resizable(self._desired)}
        for container in resizable(pod.spec):
            if container.name in before:
                counted.resized(before[container.name], container.resources)

    def retry(self) -> bool:
        """Try a deferred resize at the next look; whether there is one."""
        deferred = self._pending is not None and self._pending.reason == "Deferred"
        if deferred:
            self._state.not_before.pop(RESIZE, None)
        return deferred

    def conditions(self) -> list[PodCondition]:
        """PodResizePending and PodResizeInProgress, as long as they are true."""
        found = []
        if self._pending is not None:
            found.append(
                PodCondition(
                    type="PodResizePending",
                    status="True",
                    reason=self._pending.reason,
                    message=self._pending.message,
                )
            )
        if self._moving:
            reason = "Error" if self._error else ""
            found.append(
                PodCondition(type="PodResizeInProgress", status="True", reason=reason, message=self._error)
            )
        return found

    async def look(self, view: PodView) -> None:
        """Grant what fits, and bring running containers to it."""
        state = self._state
        if not state.may_try(RESIZE):
            return
        self._grant()
        if self._moving and await self._timed_move(view):
            self._moving, self._error = False, ""
            self._event(NORMAL, "ResizeCompleted", "Pod resize completed")

    def _grant(self) -> None:
        state = self._state
        wanted = {each.name: each.resources for each in resizable(self._desired)}
        current = {each.name: each.resources for each in resizable(state.pod.spec)}
        if not any(_changed(wanted[name], current[name]) for name in wanted.keys() & current.keys()):
            self._pending = None
            return
        grown = msgspec.structs.replace(state.pod, spec=with_resources(state.pod.spec, wanted))
        rejection = state.node.fits(grown)
        if rejection is not None:
            if rejection != self._pending:
                word = "ResizeDeferred" if rejection.reason == "Deferred" else "ResizeInfeasible"
                self._event(WARNING, word, f"Pod resize {rejection.reason}", rejection.message, grown)
                if rejection.reason == "Infeasible":
                    static = "CPU Manager" in rejection.message
                    state.node.instruments.allocation.infeasible.inc((_STATIC if static else _TOO_MUCH,))
            self._pending = rejection
            if rejection.reason == "Deferred":
                state.retry_in(RESIZE)
            return
        if self._pending is not None and self._pending.reason == "Deferred":
            state.node.instruments.allocation.accepted.inc(("pods_removed",))
        self._pending, self._moving = None, True
        self._before = pod_limits(state.pod)
        state.pod.spec = grown.spec
        self._remember()
        self._event(NORMAL, "ResizeStarted", "Pod resize started")

    def _remember(self) -> None:
        state = self._state
        state.memory.allocated = {each.name: each.resources for each in resizable(state.pod.spec)}
        for container in resizable(state.pod.spec):
            actuated = state.memory.actuated.get(container.name)
            if actuated is not None and _changed(actuated, container.resources):
                self._moving = True
        if not hasattr(self, "_before"):
            self._before = pod_limits(state.pod)

    async def _timed_move(self, view: PodView) -> bool:
        began = clock.monotonic()
        well = await self._move(view)
        seconds = self._state.node.instruments.allocation.resize_milliseconds
        seconds.observe((clock.monotonic() - began) * 1000, (str(well).lower(),))
        return well

    async def _move(self, view: PodView) -> bool:
        """Update the running containers; whether all have what they were granted."""
        state, node = self._state, self._state.node
        after = pod_limits(state.pod)
        grows = all(after.get(name, 0) >= self._before.get(name, 0) for name in RESIZABLE)
        try:
            if grows:
                node.cgroups.ensure(state.pod)
            for container in resizable(state.pod.spec):
                await self._move_container(container, view)
            if not grows:
                node.cgroups.ensure(state.pod)
            if view.sandbox is not None and view.sandbox.ready:
                await self._tell_sandbox(view.sandbox.id)
        except (NodeError, OSError) as exc:
            if str(exc) != self._error:
                self._event(WARNING, "ResizeError", "Pod resize error", str(exc))
            self._error = str(exc)
            state.retry_in(RESIZE)
            return False
        self._before = after
        return True

    async def _move_container(self, container: Container, view: PodView) -> None:
        state, node = self._state, self._state.node
        seen = view.latest(container.name)
        actuated = state.memory.actuated.get(container.name)
        if seen is None or not seen.is_running or actuated is None:
            return  # the next one is made with what is granted
        changed = _changed(actuated, container.resources)
        if not changed:
            return
        policy = {each.resource_name: each.restart_policy for each in container.resize_policy}
        if any(policy.get(name) == "RestartContainer" for name in changed):
            message = f"Container {container.name} resize requires restart"
            await self._terminator.kill(container, seen, message)
        else:
            wanted = linux_resources(state.pod, container, node.config.resources)
            if node.allocations is not None:
                node.allocations.unthrottle(state.pod, container, wanted)
            await node.client.update_container_resources(seen.id, wanted)
        state.memory.actuated[container.name] = container.resources
        state.save()

    async def _tell_sandbox(self, sandbox_id: str) -> None:
        try:
            await self._state.node.client.update_pod_sandbox_resources(
                sandbox_id, sandbox_resources(self._state.pod)
            )
        except NodeError as exc:
            if exc.code is not Code.UNIMPLEMENTED:
                raise

    def _event(self, kind: str, reason: str, words: str, error: str = "", pod: Pod | None = None) -> None:
        """Upstream's events: the words and the resources as JSON."""
        spec = (pod or self._state.pod).spec
        summary: dict[str, object] = {}
        for key, containers in (("initContainers", spec.init_containers), ("containers", spec.containers)):
            if containers:
                summary[key] = [
                    {"name": each.name, "resources": msgspec.to_builtins(each.resources)}
                    for each in containers
                ]
        summary["generation"] = self._state.pod.metadata.generation
        if error:
            summary["error"] = error
        text = f"{words}: {msgspec.json.encode(summary).decode()}"
        self._state.node.events.pod(self._state.pod, kind, reason, text)
