"""RuntimeClass (node.k8s.io/v1) from the node's manifests: the handler that runs a pod, and what it costs."""

from __future__ import annotations

from minikubelet.base.errors import Code, NodeError
from minikubelet.kubelet.lookups import Lookups
from minikubelet.kubelet.objects import Pod


def resolve(pod: Pod, lookups: Lookups) -> str:
    """The runtime handler of a pod; its overhead becomes the pod's, if that has none of its own.

    (Upstream's API server fills the overhead in when the pod is made.)
    Raises NodeError NOT_FOUND.
    """
    name = pod.spec.runtime_class_name
    if not name:
        return ""
    found = lookups.runtime_class(name)
    if found is None:
        message = f'failed to lookup RuntimeClass {name}: runtimeclass.node.k8s.io "{name}" not found'
        raise NodeError(Code.NOT_FOUND, message)
    if found.overhead is not None and not pod.spec.overhead:
        pod.spec.overhead = dict(found.overhead.pod_fixed)
    return found.handler
