"""What a pod asks for as a whole: requests and limits over all of its containers.

The rules are those of k8s.io/component-helpers/resource: containers add up, init containers run one by one
beside the sidecars started before, pod-level values (KEP-2837) take the place of sums, overhead is added.
CPU counts in millicores, everything else in whole units.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from minikubelet.kubelet.objects import Container, Pod
from minikubelet.kubelet.objects.base import Quantity
from minikubelet.kubelet.objects.quantity import binary, decimal, milli, whole

Amounts = dict[str, int]
"""Resource name → millicores (``cpu``) or units."""


def amounts(quantities: Mapping[str, Quantity]) -> Amounts:
    """Quantities as numbers. Raises ValueError."""
    return {name: milli(value) if name == "cpu" else whole(value) for name, value in quantities.items()}


def quantities(sums: Amounts, given: Sequence[Mapping[str, Quantity]]) -> dict[str, Quantity]:
    """Sums as they are shown, each in the notation of the first amount that went into it."""
    shown: dict[str, Quantity] = {}
    for name, value in sums.items():
        if name == "cpu":
            shown[name] = f"{value}m" if value % 1000 else str(value // 1000)
        else:
            first = next((each[name] for each in given if name in each), "")
            shown[name] = binary(value) if str(first).endswith("i") else decimal(value)
    return shown


def container_requests(container: Container) -> Amounts:
    """Requests of one container; a limit without a request is a request too."""
    return amounts({**container.resources.limits, **container.resources.requests})


def container_limits(container: Container) -> Amounts:
    """Limits of one container."""
    return amounts(container.resources.limits)


def at_pod_level(name: str) -> bool:
    """Whether ``spec.resources`` may hold that resource."""
    return name in ("cpu", "memory") or name.startswith("hugepages-")


def pod_requests(pod: Pod) -> Amounts:
    """What the pod needs to run, its overhead included."""
    total = summed_requests(pod)
    if pod.spec.resources is not None:
        limits, requests = amounts(pod.spec.resources.limits), amounts(pod.spec.resources.requests)
        for name in limits.keys() | requests.keys():
            if not at_pod_level(name):
                continue
            if name in requests:
                total[name] = requests[name]
            elif name not in total:
                total[name] = limits[name]
    return _add(total, amounts(pod.spec.overhead))


def summed_requests(pod: Pod) -> Amounts:
    """What the containers need, pod-level values and overhead left out."""
    return _over_containers(
        [container_requests(each) for each in pod.spec.containers],
        [(_runs_on(each), container_requests(each)) for each in pod.spec.init_containers],
    )


def summed_limits(pod: Pod) -> Amounts:
    """The limits of the containers, pod-level values and overhead left out."""
    return _over_containers(
        [container_limits(each) for each in pod.spec.containers],
        [(_runs_on(each), container_limits(each)) for each in pod.spec.init_containers],
    )


def pod_limits(pod: Pod) -> Amounts:
    """The pod's limits; a resource that some container leaves unlimited still has the others' sum here."""
    total = summed_limits(pod)
    if pod.spec.resources is not None:
        for name, value in amounts(pod.spec.resources.limits).items():
            if at_pod_level(name):
                total[name] = value
    for name, value in amounts(pod.spec.overhead).items():
        if total.get(name):
            total[name] += value
    return total


def all_limited(pod: Pod, name: str) -> bool:
    """Whether the pod as a whole can't use more than its limits of ``name`` say."""
    if pod.spec.resources is not None and amounts(pod.spec.resources.limits).get(name):
        return True
    return all(container_limits(each).get(name) for each in [*pod.spec.containers, *pod.spec.init_containers])


def _runs_on(init: Container) -> bool:
    """Whether an init container is a sidecar."""
    return init.restart_policy == "Always"


def _over_containers(regular: Iterable[Amounts], init: Iterable[tuple[bool, Amounts]]) -> Amounts:
    total: Amounts = {}
    for each in regular:
        total = _add(total, each)
    sidecars: Amounts = {}
    highest: Amounts = {}
    for runs_on, each in init:
        if runs_on:
            total = _add(total, each)
            sidecars = _add(sidecars, each)
            highest = _max(highest, sidecars)
        else:
            highest = _max(highest, _add(sidecars, each))
    return _max(total, highest)


def _add(one: Amounts, other: Amounts) -> Amounts:
    return {name: one.get(name, 0) + other.get(name, 0) for name in one | other}


def _max(one: Amounts, other: Amounts) -> Amounts:
    return {name: max(one.get(name, 0), other.get(name, 0)) for name in one | other}
