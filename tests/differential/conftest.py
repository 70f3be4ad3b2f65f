"""Fixtures of the differential lane."""

from __future__ import annotations

from tests.host.conftest import pytest_configure
from tests.host.kubelet.conftest import endpoint, home

__all__ = ["endpoint", "home", "pytest_configure"]
