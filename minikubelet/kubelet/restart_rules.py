"""Whether what has ended is started again: restart policies and rules (KEP-5307, KEP-5532); pure."""

from __future__ import annotations

from minikubelet.kubelet.objects import Container, Pod
from minikubelet.kubelet.objects.containers import ContainerRestartRule
from minikubelet.kubelet.observed import ObservedContainer, PodView

RESTART, RESTART_ALL = "Restart", "RestartAllContainers"


def matching_rule(container: Container, exit_code: int) -> ContainerRestartRule | None:
    """The first rule that has something to say about ``exit_code``."""
    for rule in container.restart_policy_rules:
        codes = rule.exit_codes
        if codes is not None and (exit_code in codes.values) == (codes.operator == "In"):
            return rule
    return None


def should_restart(pod: Pod, container: Container, exit_code: int) -> bool:
    """Whether a container that ended is started again: its own rules and policy, else the pod's."""
    policy = pod.spec.restart_policy
    if container.restart_policy is not None:
        if matching_rule(container, exit_code) is not None:
            return True
        policy = container.restart_policy
    return policy == "Always" or (policy == "OnFailure" and exit_code != 0)


def may_restart_all(pod: Pod) -> bool:
    """Whether any rule of the pod can restart all of its containers."""
    everyone = [*pod.spec.init_containers, *pod.spec.containers]
    return any(rule.action == RESTART_ALL for each in everyone for rule in each.restart_policy_rules)


def restarts_all(pod: Pod, view: PodView) -> bool:
    """Whether a container has ended in a way for which all containers are to be restarted."""
    everyone = [*pod.spec.init_containers, *pod.spec.containers]
    return any(_asks_for_it(each, view.latest(each.name)) for each in everyone)


def reset_order(pod: Pod, view: PodView) -> list[ObservedContainer]:
    """What is removed so that the pod starts over in its sandbox; empty unless a container asks for that.

    Those that ask go last: should the kubelet be cut off in between, they still ask when it is back.
    """
    if not restarts_all(pod, view):
        return []
    victims: list[ObservedContainer] = []
    sources: list[ObservedContainer] = []
    for spec in [*pod.spec.containers, *pod.spec.init_containers]:
        for seen in view.all_of(spec.name):
            (sources if _asks_for_it(spec, seen) else victims).append(seen)
    return victims + sources


def _asks_for_it(container: Container, seen: ObservedContainer | None) -> bool:
    if seen is None or not seen.has_exited:
        return False
    rule = matching_rule(container, seen.exit_code)
    return rule is not None and rule.action == RESTART_ALL
