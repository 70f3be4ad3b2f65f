"""What plugins are shown of containers, beyond what CRI says of them."""

from __future__ import annotations

from dataclasses import replace

from minikubelet.nri.to_proto import container_message
from minikubelet.runtime.models import ImageSpec
from tests.unit.nri.fake import container, sandbox


def test_containers_have_the_annotations_of_containerd() -> None:
    """And no request can pretend to be another pod's."""
    made = container(sandbox(), annotations={"own": "1", "io.kubernetes.cri.sandbox-id": "elsewhere"})
    shown = container_message(made, None).annotations
    assert shown["own"] == "1"
    assert shown["io.kubernetes.cri.image-name"] == "busybox"
    assert shown["io.kubernetes.cri.sandbox-id"] == made.sandbox.id
    assert shown["io.kubernetes.cri.container-name"] == "app"


def test_the_image_is_the_one_that_a_person_named() -> None:
    made = container(sandbox())
    spec = ImageSpec(image="sha256:0123", user_specified_image="registry.test/app:1")
    named = replace(made, config=type(made.config)(metadata=made.config.metadata, image=spec))
    assert container_message(named, None).annotations["io.kubernetes.cri.image-name"] == "registry.test/app:1"
