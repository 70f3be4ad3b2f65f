"""A pod's IDs as the kernel and file systems are told."""

from __future__ import annotations

import pytest

from minikubelet.base.errors import StepError
from minikubelet.spawner.idmap import IDs
from minikubelet.wire.messages import IDMapping


def mapping(host_id: int, length: int, container_id: int = 0) -> list[IDMapping]:
    return [IDMapping(container_id=container_id, host_id=host_id, length=length)]


def test_lines_and_root() -> None:
    ids = IDs(mapping(1000, 10), mapping(5000, 20))
    assert ids.lines() == (b"0 1000 10\n", b"0 5000 20\n")
    assert ids.root == (1000, 5000)


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ("", ""),
        ("mode=755,size=65536k", "mode=755,size=65536k"),
        ("newinstance,gid=5", "newinstance,gid=5005"),
        ("uid=0,gid=0", "uid=1000,gid=5000"),
        ("uid=9,gid=19", "uid=1009,gid=5019"),
        ("uid=10,mode=1,gid=20", "mode=1"),
        ("gid=x", "gid=x"),
    ],
)
def test_options_of_file_systems(given: str, wanted: str) -> None:
    assert IDs(mapping(1000, 10), mapping(5000, 20)).host_options(given) == wanted


@pytest.mark.parametrize(
    ("uids", "gids"),
    [
        (mapping(1, 1), []),
        ([], mapping(1, 1)),
        (mapping(1, 1) * 2, mapping(1, 1)),
        (mapping(1, 1, container_id=1), mapping(1, 1)),
    ],
)
def test_other_mappings_are_refused(uids: list[IDMapping], gids: list[IDMapping]) -> None:
    with pytest.raises(StepError, match="one mapping of container ID 0"):
        IDs(uids, gids)
