"""Where the socket is."""

from __future__ import annotations

import pytest

from minikubelet.base.config import DaemonConfig
from minikubelet.base.errors import NodeError
from minikubelet.cli import config_file


@pytest.mark.parametrize(
    ("config", "path"),
    [
        (DaemonConfig(), "/var/run/nri/nri.sock"),
        (DaemonConfig(run="/run/two"), "/run/two/nri.sock"),
        (DaemonConfig(run="/run/two", nri_socket="/run/nri/two.sock"), "/run/nri/two.sock"),
        (DaemonConfig(nri_socket="off"), ""),
    ],
)
def test_default_and_setting(config: DaemonConfig, path: str) -> None:
    config_file.check(config)
    assert config.nri_path == path


def test_a_relative_path_is_refused() -> None:
    with pytest.raises(NodeError, match=r"nriSocket: 'nri.sock' is neither an absolute path nor off"):
        config_file.check(DaemonConfig(nri_socket="nri.sock"))
