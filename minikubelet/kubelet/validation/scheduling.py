"""Fields that a scheduler reads: this node has none, but what upstream's kubelet refuses is wrong here."""

from __future__ import annotations

from minikubelet.kubelet.manifests.yaml_reader import Path
from minikubelet.kubelet.objects.podspec import Affinity, NodeAffinity, PodSpec, Toleration
from minikubelet.kubelet.validation.checker import QUALIFIED, SUBDOMAIN, SUBDOMAIN_RULE, Checker

_REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
_EFFECTS = ("NoExecute", "NoSchedule", "PreferNoSchedule")
_NAME = "name part must consist of alphanumeric characters, '-', '_' or '.'"
_VALUE = "must be empty or at most 63 alphanumeric characters, '-', '_' or '.'"


def validate_scheduling(check: Checker, spec: PodSpec) -> None:
    """Check selectors, tolerations, gates, spreading and the names of classes."""
    at: Path = ("spec",)
    for key, value in spec.node_selector.items():
        qualified(check, (*at, "nodeSelector"), key)
        label_value(check, (*at, "nodeSelector", key), value)
    for index, gate in enumerate(spec.readiness_gates):
        qualified(check, (*at, "readinessGates", index, "conditionType"), gate.condition_type)
    for index, toleration in enumerate(spec.tolerations):
        _toleration(check, (*at, "tolerations", index), toleration)
    if spec.scheduling_gates:
        check.add((*at, "nodeName"), "Forbidden: cannot be set until all schedulingGates have been cleared")
    _affinity(check, spec)
    _spreading(check, spec)
    for name, word in (
        ("serviceAccountName", spec.service_account_name or None),
        ("priorityClassName", spec.priority_class_name or None),
        ("runtimeClassName", spec.runtime_class_name),
    ):
        _subdomain(check, (*at, name), word)
    if (group := spec.scheduling_group) is not None:
        where: Path = (*at, "schedulingGroup", "podGroupName")
        if group.pod_group_name is None:
            check.invalid(where, "null", "must specify one of: `podGroupName`")
        _subdomain(check, where, group.pod_group_name)
    if spec.preemption_policy is not None:
        check.one_of((*at, "preemptionPolicy"), spec.preemption_policy, ("PreemptLowerPriority", "Never"))


def _subdomain(check: Checker, path: Path, word: str | None) -> None:
    if word is not None and (len(word) > 253 or not SUBDOMAIN.match(word)):
        check.invalid(path, word, SUBDOMAIN_RULE)


def qualified(check: Checker, path: Path, key: str) -> None:
    """Check for a label's or annotation's key: an optional domain and a name."""
    prefix, slash, name = key.rpartition("/")
    if len(name) > 63 or not QUALIFIED.match(name) or (slash and not SUBDOMAIN.match(prefix)):
        check.invalid(path, key, _NAME)


def label_value(check: Checker, path: Path, value: str) -> None:
    """Check for a label's value."""
    if len(value) > 63 or (value and not QUALIFIED.match(value)):
        check.invalid(path, value, _VALUE)


def _affinity(check: Checker, spec: PodSpec) -> None:
    """Check what of it can't be anything else than a mistake."""
    at: Path = ("spec", "affinity")
    affinity = spec.affinity or Affinity()
    of_node = affinity.node_affinity or NodeAffinity()
    required = of_node.required_during_scheduling_ignored_during_execution
    if required is not None and not required.node_selector_terms:
        where: Path = (*at, "nodeAffinity", _REQUIRED, "nodeSelectorTerms")
        check.add(where, "Required value: must have at least one node selector term")
    for name, each in (
        ("podAffinity", affinity.pod_affinity),
        ("podAntiAffinity", affinity.pod_anti_affinity),
    ):
        if each is None:
            continue
        for index, term in enumerate(each.required_during_scheduling_ignored_during_execution):
            path: Path = (*at, name, _REQUIRED, index, "topologyKey")
            if check.required(path, term.topology_key):
                qualified(check, path, term.topology_key)


def _toleration(check: Checker, at: Path, toleration: Toleration) -> None:
    if toleration.key:
        qualified(check, (*at, "key"), toleration.key)
    elif toleration.operator != "Exists":
        why = "operator must be Exists when `key` is empty"
        check.invalid((*at, "operator"), toleration.operator, why)
    if toleration.toleration_seconds is not None and toleration.effect != "NoExecute":
        why = "effect must be 'NoExecute' when `tolerationSeconds` is set"
        check.invalid((*at, "effect"), toleration.effect, why)
    if toleration.operator in ("", "Equal"):
        label_value(check, (*at, "value"), toleration.value)
    elif toleration.operator != "Exists":
        check.one_of((*at, "operator"), toleration.operator, ("Equal", "Exists"))
    elif toleration.value:
        check.invalid((*at, "value"), toleration.value, "value must be empty when `operator` is 'Exists'")
    if toleration.effect:
        check.one_of((*at, "effect"), toleration.effect, _EFFECTS)


def _spreading(check: Checker, spec: PodSpec) -> None:
    seen: set[tuple[str, str]] = set()
    for index, each in enumerate(spec.topology_spread_constraints):
        path: Path = ("spec", "topologySpreadConstraints", index)
        if each.max_skew <= 0:
            check.invalid((*path, "maxSkew"), each.max_skew, "must be greater than zero")
        if check.required((*path, "topologyKey"), each.topology_key):
            qualified(check, (*path, "topologyKey"), each.topology_key)
        actions = ("DoNotSchedule", "ScheduleAnyway")
        check.one_of((*path, "whenUnsatisfiable"), each.when_unsatisfiable, actions)
        if each.min_domains is not None and each.min_domains <= 0:
            check.invalid((*path, "minDomains"), each.min_domains, "must be greater than zero")
        key = (each.topology_key, each.when_unsatisfiable)
        if key in seen:
            check.add(path, f'Duplicate value: "{key[0]}, {key[1]}"')
        seen.add(key)
