"""Priorities of pods: the number in the spec, or that of the two classes every cluster has."""

from __future__ import annotations

from minikubelet.kubelet.objects import Pod

SYSTEM_CRITICAL = 2_000_000_000
_CLASSES = {"system-cluster-critical": SYSTEM_CRITICAL, "system-node-critical": SYSTEM_CRITICAL + 1000}


def priority(pod: Pod) -> int:
    """``spec.priority``, else by ``priorityClassName``; 0 for others, whose objects a node alone hasn't."""
    if pod.spec.priority is not None:
        return pod.spec.priority
    return _CLASSES.get(pod.spec.priority_class_name, 0)


def is_critical(pod: Pod) -> bool:
    """Whether the node needs the pod: never evicted, admitted under pressure, ended last.

    Upstream counts every static pod as critical. On this node all pods are static, so that nothing could ever
    be evicted: the priority alone decides.
    """
    return priority(pod) >= SYSTEM_CRITICAL
