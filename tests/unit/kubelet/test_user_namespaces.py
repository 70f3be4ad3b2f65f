"""Ranges of IDs for pods with a user namespace: given once, kept, given back."""

from __future__ import annotations

import pwd
from pathlib import Path
from types import SimpleNamespace

import pytest

from minikubelet.base.errors import NodeError
from minikubelet.criapi import api_pb2 as api
from minikubelet.kubelet import user_namespaces
from minikubelet.kubelet.user_namespaces import Range, UserNamespaces


def test_every_pod_has_its_own_range(tmp_path: Path) -> None:
    pool = UserNamespaces(2, str(tmp_path))
    assert [pool.take(each).first for each in ("a", "b", "a")] == [65536, 131072, 65536]
    with pytest.raises(NodeError, match="could not find an empty slot"):
        pool.take("c")
    pool.release("a")
    pool.release("never")
    assert pool.take("c") == Range(65536)


def test_ranges_of_an_earlier_run_are_taken(tmp_path: Path) -> None:
    pool = UserNamespaces(3, str(tmp_path))
    pool.remember([("a", Range(131072)), ("b", Range(65536)), ("other", Range(131072))])
    assert [pool.take("new").first, pool.take("a").first] == [196608, 131072]


def test_more_ids_a_pod(tmp_path: Path) -> None:
    """Pods of an earlier run keep what they have when the setting is another one, and nobody else gets it."""
    pool = UserNamespaces(4, str(tmp_path), length=131072)
    pool.remember([("old", Range(196608)), ("older", Range(393216 + 65536))])
    assert pool.take("a") == Range(262144, 131072)
    assert pool.take("b") == Range(524288, 131072)
    assert pool.take("old") == Range(196608)
    with pytest.raises(NodeError):
        pool.take("c")
    assert user_namespaces.options(pool.take("a")).uids[0].length == 131072
    short = UserNamespaces(2, str(tmp_path))
    short.remember([("large", Range(65536, 131072))])
    with pytest.raises(NodeError):
        short.take("x")


@pytest.mark.parametrize(
    ("subuid", "subgid", "first", "count"),
    [
        ("kubelet:100000:1000000\n", "kubelet:100000:1000000\n", 131072, 14),
        ("other:1:2\n4242:65536:131072\n", "kubelet:65536:131072\n", 65536, 2),
        ("kubelet:65536:131072\n", "kubelet:65536:65536\n", 65536, 7),
        ("", "", 65536, 7),
        ("kubelet:65536:65536\nkubelet:262144:65536\n", "kubelet:65536:65536\n", 65536, 7),
    ],
)
def test_the_pool_is_the_kubelet_users(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, subuid: str, subgid: str, first: int, count: int
) -> None:
    monkeypatch.setattr(pwd, "getpwnam", lambda name: SimpleNamespace(pw_uid=4242))
    (tmp_path / "subuid").write_text(subuid)
    (tmp_path / "subgid").write_text(subgid)
    pool = UserNamespaces(7, str(tmp_path))
    given = [pool.take(str(number)).first for number in range(count)]
    assert given == [first + 65536 * number for number in range(count)]
    with pytest.raises(NodeError):
        pool.take("one more")


def test_as_cri_has_it() -> None:
    made = user_namespaces.options(Range(131072))
    assert made.mode == api.POD and list(made.uids) == list(made.gids)
    assert (made.uids[0].host_id, made.uids[0].container_id, made.uids[0].length) == (131072, 0, 65536)
