"""Messages that are made once a state."""

from __future__ import annotations

import gc
import weakref

from minikubelet.cri import kept
from minikubelet.criapi import api_pb2 as api
from minikubelet.runtime.models import Sandbox, SandboxConfig, SandboxMetadata


def sandbox(name: str) -> Sandbox:
    metadata = SandboxMetadata(name=name, uid="u", namespace="n")
    return Sandbox(name, SandboxConfig(metadata=metadata, labels={"a": "b"}), 1, "/c")


def test_the_same_message_until_the_state_changes() -> None:
    source = sandbox("one")
    first = kept.sandbox_item(source)
    assert first.state == api.SANDBOX_NOTREADY
    assert kept.sandbox_item(source) is first
    source.status.ready_at = 5
    second = kept.sandbox_item(source)
    assert second.state == api.SANDBOX_READY
    assert dict(second.labels) == {"a": "b"}
    assert first.state == api.SANDBOX_NOTREADY


def test_another_configuration_is_another_message() -> None:
    source = sandbox("one")
    kept.sandbox_item(source)
    source.config = sandbox("two").config
    assert kept.sandbox_item(source).metadata.name == "two"


def test_nothing_is_kept_of_what_has_gone() -> None:
    source = sandbox("one")
    made = weakref.ref(source)
    kept.sandbox_item(source)
    del source
    gc.collect()
    assert made() is None
