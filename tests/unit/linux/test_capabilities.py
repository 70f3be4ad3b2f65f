"""Capability bits and names."""

from __future__ import annotations

import pytest

from minikubelet.linux import capabilities


def test_masks_are_those_of_the_kernel() -> None:
    assert capabilities.mask(["CAP_CHOWN"]) == 1
    assert capabilities.mask(["CAP_SYS_ADMIN"]) == 1 << 21
    assert capabilities.mask(["CAP_CHECKPOINT_RESTORE"]) == 1 << 40
    assert capabilities.mask([]) == 0
    assert capabilities.mask(capabilities.NAMES) == 2**41 - 1


def test_names_and_masks_are_inverse() -> None:
    for mask in (0, 1, 0xA80425FB, 2**41 - 1):
        assert capabilities.mask(capabilities.names(mask)) == mask
    assert capabilities.names(1 << 63) == []


@pytest.mark.parametrize("name", ["chown", "CAP_NOTHING", "", "cap_chown"])
def test_unknown_names_are_errors(name: str) -> None:
    with pytest.raises(ValueError, match="unknown capability"):
        capabilities.mask([name])


def test_of_this_process() -> None:
    sets = capabilities.of_process()
    assert set(sets) == {"inheritable", "permitted", "effective", "bounding", "ambient"}
    assert sets["effective"] & ~sets["permitted"] == 0
    assert 30 < capabilities.last_known_to_kernel() < 64
