"""What a pod needs next, worked out from its spec and what the runtime has; no side effects.

The rules are those of upstream's computePodActions (pkg/kubelet/kuberuntime/kuberuntime_manager.go).
"""

from __future__ import annotations

from collections.abc import Container as Collection
from dataclasses import dataclass, field
from typing import Protocol

from minikubelet.kubelet.defaults import is_sidecar
from minikubelet.kubelet.labels import container_hash
from minikubelet.kubelet.manifests.static import CONFIG_HASH
from minikubelet.kubelet.objects import Container, Pod
from minikubelet.kubelet.observed import CREATED, UNKNOWN, ObservedContainer, ObservedSandbox, PodView
from minikubelet.kubelet.restart_rules import reset_order, should_restart


class Health(Protocol):
    """What probes and hooks know of running containers."""

    def has_started(self, container: ObservedContainer) -> bool:
        """Its postStart hook is done and its startup probe, if any, has succeeded."""

    def failed_probe(self, container: ObservedContainer) -> str:
        """``liveness`` or ``startup`` if that probe says the container must be restarted, else empty."""


@dataclass
class Kill:
    """A running container to stop."""

    container: ObservedContainer
    spec: Container
    message: str
    probe: str = ""
    """The probe that failed, whose own grace period counts."""


@dataclass
class Plan:
    """The next steps, in the order they are done."""

    sandbox: ObservedSandbox | None = None
    """The sandbox to work in; None while there is none fit for it."""
    create_sandbox: bool = False
    attempt: int = 0
    stop_pod: bool = False
    """Stop everything that runs, the sandbox included."""
    reset: list[ObservedContainer] = field(default_factory=list)
    """Containers to end and remove, in this order, before the pod starts over in its sandbox."""
    kill: list[Kill] = field(default_factory=list)
    start_ephemeral: list[Container] = field(default_factory=list)
    start_init: list[Container] = field(default_factory=list)
    start: list[Container] = field(default_factory=list)


def needs_start(
    pod: Pod, container: Container, seen: ObservedContainer | None, over: Collection[str] = ()
) -> bool:
    """Whether a regular container is to be started (again)."""
    if seen is None:
        return container.name not in over
    if seen.state in (CREATED, UNKNOWN):
        return True
    return seen.has_exited and should_restart(pod, container, seen.exit_code)


def is_initialized(pod: Pod, view: PodView) -> bool:
    """Whether a regular container was ever made in the pod's newest sandbox."""
    return any(view.current(container.name) is not None for container in pod.spec.containers)


def make_plan(
    pod: Pod, view: PodView, health: Health, made: Collection[str] = (), over: Collection[str] = ()
) -> Plan:
    """The next steps for ``pod``; an empty plan when there is nothing to do.

    ``made``: names of containers that there were at some time, even if the runtime has none now.
    ``over``: names of those that the runtime has lost and that had ended, or count as ended, for good.
    """
    plan = Plan(sandbox=view.sandbox, reset=reset_order(pod, view))
    if plan.reset:
        return plan
    if _sandbox_unfit(pod, view):
        _plan_sandbox(pod, view, plan, over)
        return plan
    if _plan_init(pod, view, health, plan, over):
        _plan_regular(pod, view, health, plan, over)
    if not plan.stop_pod:
        plan.start_ephemeral = _ephemeral(pod, view, made)
    return plan


def _ephemeral(pod: Pod, view: PodView, made: Collection[str]) -> list[Container]:
    """Ephemeral containers that were never started: they are not restarted, whatever becomes of them."""
    found: list[Container] = []
    for container in pod.spec.ephemeral_containers:
        seen = view.latest(container.name)
        begun = container.name in made if seen is None else seen.state != CREATED
        if not begun:
            found.append(container)
    return found


def _sandbox_unfit(pod: Pod, view: PodView) -> bool:
    sandbox = view.sandbox
    if sandbox is None or not sandbox.ready:
        return True
    wanted = pod.metadata.annotations.get(CONFIG_HASH, "")
    return bool(wanted and sandbox.config_hash and sandbox.config_hash != wanted)


def _plan_sandbox(pod: Pod, view: PodView, plan: Plan, over: Collection[str]) -> None:
    plan.sandbox = None
    plan.attempt = view.sandbox.attempt + 1 if view.sandbox else 0
    restartable = pod.spec.restart_policy != "Never"
    if not restartable and view.containers and plan.attempt:
        plan.stop_pod = any(c.is_running for c in view.containers)
        return
    wanted = [
        container
        for container in pod.spec.containers
        if container.name not in over and not _done_for_good(pod, container, view.latest(container.name))
    ]
    if not wanted and (over or any(view.latest(container.name) for container in pod.spec.containers)):
        plan.stop_pod = any(c.is_running for c in view.containers)
        return
    plan.create_sandbox = True
    plan.stop_pod = bool(view.sandboxes)
    if pod.spec.init_containers:
        plan.start_init = pod.spec.init_containers[:1]
    else:
        plan.start = wanted


def _done_for_good(pod: Pod, container: Container, seen: ObservedContainer | None) -> bool:
    policy = container.restart_policy or pod.spec.restart_policy
    return policy == "OnFailure" and seen is not None and seen.has_exited and seen.exit_code == 0


def _plan_init(pod: Pod, view: PodView, health: Health, plan: Plan, over: Collection[str]) -> bool:
    """Plan the init containers; whether the regular ones may run."""
    initialized = is_initialized(pod, view)
    blocked = False
    # One that somebody has removed is done if a later one was made.
    made = [i for i, each in enumerate(pod.spec.init_containers) if view.current(each.name) is not None]
    for index, container in enumerate(pod.spec.init_containers):
        seen = view.current(container.name)
        if is_sidecar(container):
            if blocked:
                break
            blocked = not _plan_sidecar(container, seen, health, plan) and not initialized
        elif not initialized:
            if blocked:
                break
            if seen is None and (container.name in over or any(each > index for each in made)):
                continue
            if seen is None or seen.state in (CREATED, UNKNOWN):
                plan.start_init.append(container)
                _kill_unknown(container, seen, plan)
                blocked = True
            elif seen.is_running:
                blocked = True
            elif seen.exit_code != 0:
                if not should_restart(pod, container, seen.exit_code):
                    plan.start_init.clear()
                    plan.stop_pod = True
                    return False
                plan.start_init.append(container)
                blocked = True
    return not blocked


def _kill_unknown(container: Container, seen: ObservedContainer | None, plan: Plan) -> None:
    """Whether it runs is unclear: stop it before another one is started."""
    if seen is not None and seen.state == UNKNOWN:
        message = 'Container is in "unknown" state, try killing it before restart'
        plan.kill.append(Kill(seen, container, message))


def _plan_sidecar(container: Container, seen: ObservedContainer | None, health: Health, plan: Plan) -> bool:
    """Plan one sidecar; whether it counts as started."""
    if seen is None or not seen.is_running:
        plan.start_init.append(container)
        _kill_unknown(container, seen, plan)
        return False
    changed = seen.hash and seen.hash != container_hash(container)
    probe = health.failed_probe(seen)
    if changed or probe:
        why = "definition changed" if changed else f"failed {probe} probe"
        message = f"Init container {container.name} {why}, will be restarted"
        plan.kill.append(Kill(seen, container, message, probe))
        plan.start_init.append(container)
        return False
    return health.has_started(seen)


def _plan_regular(pod: Pod, view: PodView, health: Health, plan: Plan, over: Collection[str]) -> None:
    kept = 0
    for container in pod.spec.containers:
        seen = view.latest(container.name)
        if seen is None or not seen.is_running:
            if needs_start(pod, container, seen, over):
                plan.start.append(container)
                _kill_unknown(container, seen, plan)
            continue
        changed = bool(seen.hash) and seen.hash != container_hash(container)
        probe = health.failed_probe(seen)
        if not changed and not probe:
            kept += 1
            continue
        policy = container.restart_policy or pod.spec.restart_policy
        restart = changed or policy != "Never"
        why = "definition changed" if changed else f"failed {probe} probe"
        message = f"Container {container.name} {why}" + (", will be restarted" if restart else "")
        plan.kill.append(Kill(seen, container, message, probe))
        if restart:
            plan.start.append(container)
    if not kept and not plan.start:
        # Nothing regular is left to run, so sidecars have nothing to serve.
        plan.stop_pod = True
        plan.start_init.clear()
        plan.kill.clear()  # stopping the pod stops them, once and with the pod's grace period
