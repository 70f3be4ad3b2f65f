"""What of a manifest makes a pod another pod, and what may change while it runs.

CPU and memory of containers and sidecars may: they are resized in place (KEP-1287). Another QoS class, other
resources, those of init containers that end, and requests or limits that appear or go make another pod.
"""

from __future__ import annotations

import msgspec

from minikubelet.kubelet.defaults import is_sidecar
from minikubelet.kubelet.objects import Container, Pod
from minikubelet.kubelet.objects.base import Quantity
from minikubelet.kubelet.resources import qos_class

RESIZABLE = ("cpu", "memory")


def without_amounts(pod: Pod) -> Pod:
    """``pod`` as it is named and told from others: its resizable amounts give way to the QoS class.

    Raises ValueError for amounts that can't be read.
    """
    quality = qos_class(pod)
    spec = msgspec.structs.replace(
        pod.spec,
        containers=[_blank(each, quality) for each in pod.spec.containers],
        init_containers=[
            _blank(each, quality) if is_sidecar(each) else each for each in pod.spec.init_containers
        ],
    )
    return msgspec.structs.replace(pod, spec=spec)


def _blank(container: Container, quality: str) -> Container:
    own = container.resources

    def marked(amounts: dict[str, Quantity]) -> dict[str, Quantity]:
        return {name: quality if name in RESIZABLE else value for name, value in amounts.items()}

    return msgspec.structs.replace(
        container,
        resources=msgspec.structs.replace(own, limits=marked(own.limits), requests=marked(own.requests)),
    )
