"""Requests and limits: names of resources, amounts, and how containers and the pod go together."""

from __future__ import annotations

from collections.abc import Mapping

from minikubelet.kubelet.demands import at_pod_level, container_limits, summed_requests
from minikubelet.kubelet.manifests.yaml_reader import Path
from minikubelet.kubelet.objects import Pod
from minikubelet.kubelet.objects.base import Quantity
from minikubelet.kubelet.objects.containers import ContainerResizePolicy, ResourceRequirements
from minikubelet.kubelet.objects.quantity import parse
from minikubelet.kubelet.validation.checker import QUALIFIED, SUBDOMAIN, Checker

_STANDARD = ("cpu", "memory", "ephemeral-storage")
_HUGE = "hugepages-"


def validate_resources(
    check: Checker, at: Path, resources: ResourceRequirements, of_pod: bool = False
) -> None:
    """Check requests and limits at ``at``, of a container or of the pod as a whole."""
    for group in ("limits", "requests"):
        amounts: dict[str, Quantity] = getattr(resources, group)
        for name, amount in amounts.items():
            limit = resources.limits.get(name)
            if group == "requests" and limit == amount:
                continue  # a default taken from the limit, which was looked at already
            path: Path = (*at, group, name)
            _name(check, path, name, of_pod)
            if _amount(check, path, name, amount) and group == "requests":
                _against_limit(check, at, name, amount, limit)
    named = {*resources.limits, *resources.requests}
    if any(name.startswith(_HUGE) for name in named) and not named & {"cpu", "memory"}:
        check.add(at, "Forbidden: HugePages require cpu or memory")
    if resources.claims:
        check.add((*at, "claims"), "Forbidden: static pods may not reference resourceclaims")


def validate_pod_resources(check: Checker, pod: Pod) -> None:
    """Check ``spec.resources`` (KEP-2837): containers must fit into it."""
    whole = pod.spec.resources
    if whole is None:
        return
    at: Path = ("spec", "resources")
    before = len(check.problems)
    validate_resources(check, at, whole, of_pod=True)
    if len(check.problems) > before:
        return
    try:
        together = summed_requests(pod)
        limits = [container_limits(each) for each in pod.spec.containers]
    except ValueError:
        return  # told where it stands
    own = ResourceRequirements(limits=whole.limits, requests=whole.requests)
    for name, amount in own.requests.items():
        if together.get(name, 0) > _number(name, amount):
            check.invalid(
                (*at, "requests", name),
                amount,
                "must be greater than or equal to aggregate container requests",
            )
    for name, amount in own.limits.items():
        if any(each.get(name, 0) > _number(name, amount) for each in limits):
            check.invalid(
                (*at, "limits", name), amount, "must be greater than or equal to containers' limits"
            )


def validate_overhead(check: Checker, overhead: Mapping[str, Quantity]) -> None:
    """Check ``spec.overhead``: amounts as a container's limits."""
    at: Path = ("spec", "overhead")
    for name, amount in overhead.items():
        _name(check, (*at, name), name, False)
        _amount(check, (*at, name), name, amount)
    if any(name.startswith(_HUGE) for name in overhead) and not overhead.keys() & {"cpu", "memory"}:
        check.add(at, "Forbidden: HugePages require cpu or memory")


def validate_resize_policy(
    check: Checker, at: Path, policies: list[ContainerResizePolicy], restart_policy: str
) -> None:
    """Check what a container says about resizes; ``restart_policy`` is the pod's."""
    seen: set[str] = set()
    for index, each in enumerate(policies):
        path: Path = (*at, index)
        if each.resource_name in seen:
            check.add(path, f'Duplicate value: "{each.resource_name}"')
        seen.add(each.resource_name)
        check.one_of((*path, "resourceName"), each.resource_name, ("cpu", "memory"))
        check.one_of((*path, "restartPolicy"), each.restart_policy, ("NotRequired", "RestartContainer"))
        if restart_policy == "Never" and each.restart_policy != "NotRequired":
            why = "must be 'NotRequired' when pod `restartPolicy` is 'Never'"
            check.invalid((*path, "restartPolicy"), each.restart_policy, why)


def _number(name: str, amount: Quantity) -> float:
    """As :func:`minikubelet.kubelet.demands.amounts` counts."""
    return float(parse(amount) * (1000 if name == "cpu" else 1))


def _name(check: Checker, at: Path, name: str, of_pod: bool) -> None:
    if of_pod:
        if not at_pod_level(name):
            check.one_of(at, name, ("cpu", "hugepages-", "memory"))
        return
    prefix, slash, bare = name.rpartition("/")
    if len(bare) > 63 or not QUALIFIED.match(bare) or (slash and not SUBDOMAIN.match(prefix)):
        check.invalid(at, name, "name part must consist of alphanumeric characters, '-', '_' or '.'")
    elif not slash and name not in _STANDARD and not name.startswith(_HUGE):
        check.invalid(at, name, "must be a standard resource type or fully qualified")
    elif slash and "kubernetes.io" not in prefix and name.startswith("requests."):
        check.invalid(at, name, "doesn't follow extended resource name standard")


def _is_extended(name: str) -> bool:
    return "/" in name and "kubernetes.io/" not in name


def _amount(check: Checker, at: Path, name: str, amount: Quantity) -> bool:
    """Whether an amount can be compared."""
    try:
        value = parse(amount)
    except ValueError as exc:
        check.invalid(at, amount, str(exc))
        return False
    if value < 0:
        check.invalid(at, amount, "must be greater than or equal to 0")
    elif _is_extended(name) and value.denominator != 1:
        check.invalid(at, amount, "must be an integer")
    elif name.startswith(_HUGE):
        _huge_pages(check, at, name, amount)
    return True


def _huge_pages(check: Checker, at: Path, name: str, amount: Quantity) -> None:
    try:
        page = parse(name.removeprefix(_HUGE))
    except ValueError:
        page = parse(0)
    if page <= 0 or parse(amount) % page:
        check.invalid(at, amount, f"{amount} is not positive integer multiple of {name}")


def _against_limit(check: Checker, at: Path, name: str, amount: Quantity, limit: Quantity | None) -> None:
    exact = _is_extended(name) or name.startswith(_HUGE)
    if limit is None:
        if exact:
            check.add((*at, "limits"), "Required value: Limit must be set for non overcommitable resources")
        return
    try:
        most = parse(limit)
    except ValueError:
        return
    if exact and parse(amount) != most:
        check.invalid((*at, "requests"), str(amount), f"must be equal to {name} limit of {limit}")
    elif parse(amount) > most:
        check.invalid(
            (*at, "requests"), str(amount), f"must be less than or equal to {name} limit of {limit}"
        )
