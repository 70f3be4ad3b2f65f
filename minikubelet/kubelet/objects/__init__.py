"""core/v1 objects as msgspec structs: a pod, everything in it, and its status."""

from minikubelet.kubelet.objects.containers import Container, ContainerPort, LifecycleHandler, Probe
from minikubelet.kubelet.objects.meta import ObjectMeta
from minikubelet.kubelet.objects.pod import Pod
from minikubelet.kubelet.objects.podspec import PodSpec
from minikubelet.kubelet.objects.podstatus import ContainerStatus, PodStatus
from minikubelet.kubelet.objects.volumes import Volume

__all__ = [
    "Container",
    "ContainerPort",
    "ContainerStatus",
    "LifecycleHandler",
    "ObjectMeta",
    "Pod",
    "PodSpec",
    "PodStatus",
    "Probe",
    "Volume",
]
