"""The collector during a start, and after it."""

from __future__ import annotations

import gc

import pytest

from minikubelet.base.collector import settling


def test_what_was_made_while_settling_is_not_looked_at_again() -> None:
    before = gc.get_freeze_count()
    try:
        with settling():
            assert not gc.isenabled()
            kept: list[list[object]] = [[] for _ in range(1000)]
        assert gc.isenabled()
        assert gc.get_freeze_count() - before >= len(kept)
    finally:
        gc.unfreeze()


def test_a_start_that_fails_leaves_the_collector_on() -> None:
    try:
        with pytest.raises(OSError, match="no start"), settling():
            raise OSError("no start")
        assert gc.isenabled()
    finally:
        gc.unfreeze()
