"""A pod's status from its spec, what the runtime has, and what probes and the worker know; pure.

Phases, conditions, reasons and messages are upstream's (pkg/kubelet/kubelet_pods.go, status/generate.go).
"""

from __future__ import annotations

import msgspec

from minikubelet.base import clock
from minikubelet.kubelet.container_status import (
    UNSEEN,
    Known,
    Waiting,
    container_status,
    ephemeral_status,
)
from minikubelet.kubelet.defaults import all_containers, is_sidecar
from minikubelet.kubelet.demands import pod_limits, pod_requests, quantities
from minikubelet.kubelet.objects import ContainerStatus, Pod, PodStatus
from minikubelet.kubelet.objects.containers import ResourceRequirements
from minikubelet.kubelet.objects.podstatus import (
    ContainerState,
    ContainerStateTerminated,
    HostIP,
    PodCondition,
    PodIP,
)
from minikubelet.kubelet.observed import PodView
from minikubelet.kubelet.phase import FAILED, SUCCEEDED, make_phase
from minikubelet.kubelet.plan import is_initialized
from minikubelet.kubelet.resources import qos_class
from minikubelet.kubelet.restart_rules import may_restart_all, restarts_all


def make_status(pod: Pod, view: PodView, known: Known, now_ns: int) -> PodStatus:
    """The status; ``pod.status`` is the previous one, from which transition times are kept."""
    if known.failure is not None and not view.sandboxes and not view.containers:
        return _ended(pod, known.failure)
    init = [container_status(pod, c, view, known, is_init=True) for c in pod.spec.init_containers]
    regular = [container_status(pod, c, view, known, is_init=False) for c in pod.spec.containers]
    for each in regular:
        each.allocated_resources_status = known.devices.get(each.name, [])
    ephemeral = [ephemeral_status(pod, c, view, known) for c in pod.spec.ephemeral_containers]
    if known.failure is not None and all(each.has_exited for each in view.containers):
        _settle(init, regular, is_initialized(pod, view))
    phase = make_phase(pod, init, regular, is_initialized(pod, view))
    status = PodStatus(
        phase=phase,
        qos_class=qos_class(pod),
        start_time=known.start_time or None,
        init_container_statuses=init,
        container_statuses=regular,
        ephemeral_container_statuses=ephemeral,
    )
    _pod_level(pod, status)
    if known.failure is not None:
        status.phase, status.reason, status.message = FAILED, known.failure.reason, known.failure.message
    _addresses(pod, view, known, status)
    conditions = _conditions(pod, view, status)
    if may_restart_all(pod):
        conditions.append(_restarting_all(pod, view, status))
    conditions += known.resize
    if known.disrupted:
        conditions.append(
            PodCondition(
                type="DisruptionTarget",
                status="True",
                reason="TerminationByKubelet",
                message=status.message,
            )
        )
    status.conditions = _with_times(conditions, pod.status.conditions, now_ns)
    return status


def _ended(pod: Pod, failure: Waiting) -> PodStatus:
    """A failed pod that has nothing in the runtime (any more): what was last known of it stays."""
    return msgspec.structs.replace(
        pod.status, phase=FAILED, reason=failure.reason, message=failure.message, qos_class=qos_class(pod)
    )


def _settle(init: list[ContainerStatus], regular: list[ContainerStatus], initialized: bool) -> None:
    """Nothing of a pod that has failed as a whole waits any more: what was to be started never will be.

    Those whose turn hadn't come keep waiting, which tells how far the pod got (upstream's TerminatePod).
    """
    begun = [index for index, each in enumerate(init) if each.state.waiting is None]
    whose_turn_it_was = init[: max(begun, default=0) + 1]
    if initialized or not init:
        whose_turn_it_was = whose_turn_it_was + regular
    for each in whose_turn_it_was:
        if each.state.waiting is not None:
            ended = ContainerStateTerminated(exit_code=137, reason="ContainerStatusUnknown", message=UNSEEN)
            each.state = ContainerState(terminated=ended)


def _pod_level(pod: Pod, status: PodStatus) -> None:
    """The sums over all containers, as upstream shows them for the pod as a whole."""
    if not (status.container_statuses or status.init_container_statuses):
        return
    lists = [each for each in (pod.spec.resources, *(c.resources for c in all_containers(pod.spec))) if each]
    limits = quantities(pod_limits(pod), [each.limits for each in lists])
    requests = quantities(pod_requests(pod), [{**each.limits, **each.requests} for each in lists])
    status.allocated_resources = requests
    if requests or limits:
        status.resources = ResourceRequirements(requests=requests, limits=limits)


# --- addresses and conditions --------------------------------------------------------------------------


def _addresses(pod: Pod, view: PodView, known: Known, status: PodStatus) -> None:
    status.host_ips = [HostIP(ip=ip) for ip in known.host_ips]
    status.host_ip = known.host_ips[0] if known.host_ips else ""
    ips = known.host_ips if pod.spec.host_network and view.sandbox else view.ips
    if not ips and not any(each.ready for each in view.sandboxes):
        ips = [each.ip for each in pod.status.pod_ips]  # the last it had
    status.pod_ips = [PodIP(ip=ip) for ip in ips]
    status.pod_ip = ips[0] if ips else ""


def _conditions(pod: Pod, view: PodView, status: PodStatus) -> list[PodCondition]:
    sandbox = view.sandbox
    fit = sandbox is not None and sandbox.ready and bool(sandbox.ips or pod.spec.host_network)
    containers_ready = _containers_ready(pod, status)
    return [
        PodCondition(type="PodReadyToStartContainers", status=_word(fit)),
        _initialized(pod, view, status),
        _ready(pod, containers_ready),
        containers_ready,
        PodCondition(type="PodScheduled", status="True"),
    ]


def _word(value: bool) -> str:
    return "True" if value else "False"


def _list(names: list[str]) -> str:
    return "[" + " ".join(names) + "]"


def _initialized(pod: Pod, view: PodView, status: PodStatus) -> PodCondition:
    if status.phase == SUCCEEDED:
        return PodCondition(type="Initialized", status="True", reason="PodCompleted")
    incomplete = [
        container.name
        for container, each in zip(pod.spec.init_containers, status.init_container_statuses, strict=True)
        if not (each.started if is_sidecar(container) else each.ready)
    ]
    # Once initialized, a pod stays so, also while its init containers run once more.
    before = any(each.type == "Initialized" and each.status == "True" for each in pod.status.conditions)
    if not incomplete or before or is_initialized(pod, view):
        return PodCondition(type="Initialized", status="True")
    message = f"containers with incomplete status: {_list(incomplete)}"
    return PodCondition(
        type="Initialized", status="False", reason="ContainersNotInitialized", message=message
    )


def _restarting_all(pod: Pod, view: PodView, status: PodStatus) -> PodCondition:
    """KEP-5532."""
    kind = "AllContainersRestarting"
    if status.phase in (SUCCEEDED, FAILED):
        reason = "PodCompleted" if status.phase == SUCCEEDED else "PodFailed"
        return PodCondition(type=kind, status="False", reason=reason)
    if not restarts_all(pod, view):
        return PodCondition(type=kind, status="False")
    message = "container exited with restart policy rule"
    return PodCondition(type=kind, status="True", reason="RestartAllContainersStarted", message=message)


def _containers_ready(pod: Pod, status: PodStatus) -> PodCondition:
    if status.phase in (SUCCEEDED, FAILED):
        reason = "PodCompleted" if status.phase == SUCCEEDED else "PodFailed"
        return PodCondition(type="ContainersReady", status="False", reason=reason)
    sidecars = [
        each
        for container, each in zip(pod.spec.init_containers, status.init_container_statuses, strict=True)
        if is_sidecar(container)
    ]
    unready = [each.name for each in [*sidecars, *status.container_statuses] if not each.ready]
    if not unready:
        return PodCondition(type="ContainersReady", status="True")
    message = f"containers with unready status: {_list(unready)}"
    return PodCondition(type="ContainersReady", status="False", reason="ContainersNotReady", message=message)


def _ready(pod: Pod, containers_ready: PodCondition) -> PodCondition:
    if containers_ready.status == "True" and pod.spec.readiness_gates:
        present = {each.type: each.status for each in pod.status.conditions}
        lacking = []
        for gate in pod.spec.readiness_gates:
            kind = gate.condition_type
            if kind not in present:
                lacking.append(f'corresponding condition of pod readiness gate "{kind}" does not exist.')
            elif present[kind] != "True":
                lacking.append(
                    f'the status of pod readiness gate "{kind}" is not "True", but {present[kind]}'
                )
        if lacking:
            return PodCondition(
                type="Ready", status="False", reason="ReadinessGatesNotReady", message=", ".join(lacking)
            )
    return PodCondition(
        type="Ready",
        status=containers_ready.status,
        reason=containers_ready.reason,
        message=containers_ready.message,
    )


def _with_times(new: list[PodCondition], old: list[PodCondition], now_ns: int) -> list[PodCondition]:
    former = {each.type: each for each in old}
    now = clock.rfc3339(now_ns)
    for condition in new:
        before = former.get(condition.type)
        same = before is not None and before.status == condition.status
        condition.last_transition_time = before.last_transition_time if before and same else now
    return new
