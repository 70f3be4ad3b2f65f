"""Fixtures of the differential lane."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.host import leaks
from tests.host.conftest import pytest_configure
from tests.host.kubelet.conftest import endpoint, home

__all__ = ["endpoint", "home", "nothing_left", "pytest_configure", "runtime_name"]


@pytest.fixture(scope="module")
def nothing_left() -> Iterator[None]:
    """After all cases over all runtimes the machine is as it was before."""
    before = leaks.Snapshot.take()
    yield
    left = leaks.wait_until_clean(before)
    assert not left, "the suite left behind:\n" + "\n".join(left)


def runtime_name(endpoint: str) -> str:
    """Whose socket that of the fixture ``endpoint`` is."""
    return {"c": "containerd", "m": "minikubelet"}[Path(endpoint).parent.name]
