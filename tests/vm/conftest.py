"""The vm lane has the host lane's fixtures; its machine has what other hosts may lack."""

from __future__ import annotations

from tests.host.conftest import (
    busybox,
    certs_dir,
    module_node,
    new_node,
    node,
    nothing_left,
    pytest_configure,
    registry,
)

__all__ = [
    "busybox",
    "certs_dir",
    "module_node",
    "new_node",
    "node",
    "nothing_left",
    "pytest_configure",
    "registry",
]
