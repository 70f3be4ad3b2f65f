"""What is known of a pod follows each change."""

from __future__ import annotations

from minikubelet.criapi import api_pb2 as api
from minikubelet.kubelet.clock import SystemClock
from minikubelet.kubelet.labels import POD_UID
from minikubelet.kubelet.observed import RuntimeCache, container_of, sandbox_of


def container(name: str, uid: str, created_at: int = 1) -> api.ContainerStatus:
    metadata = api.ContainerMetadata(name=name)
    return api.ContainerStatus(id=name, metadata=metadata, labels={POD_UID: uid}, created_at=created_at)


def test_a_view_follows_what_comes_and_goes() -> None:
    cache = RuntimeCache(SystemClock())
    assert not cache.view("a").containers
    cache.put_sandbox(sandbox_of(api.PodSandboxStatus(id="s", labels={POD_UID: "a"})))
    cache.put_container(container_of(container("one", "a"), "s"))
    cache.put_container(container_of(container("other", "b"), "t"))
    before = cache.view("a")
    assert [each.id for each in before.containers] == ["one"]
    cache.put_container(container_of(container("two", "a", created_at=2), "s"))
    assert [each.id for each in cache.view("a").containers] == ["two", "one"]
    assert [each.id for each in before.containers] == ["one"], "whoever has a view keeps it"
    cache.remove("one")
    assert [each.id for each in cache.view("a").containers] == ["two"]
    cache.remove("s")
    gone = cache.view("a")
    assert not gone.sandboxes and not gone.containers
    assert [each.id for each in cache.view("b").containers] == ["other"]


def test_a_view_shows_a_changed_state() -> None:
    cache = RuntimeCache(SystemClock())
    cache.put_container(container_of(container("one", "a"), "s"))
    assert not cache.view("a").containers[0].is_running
    running = container("one", "a")
    running.state = api.CONTAINER_RUNNING
    cache.put_container(container_of(running, "s"))
    assert cache.view("a").containers[0].is_running
