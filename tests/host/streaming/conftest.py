"""Pods to stream to and from."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.host.node import Node
from tests.host.streaming.scene import ECHO, PORT, Urls


@pytest.fixture
def start(node: Node, busybox: str) -> Iterator[Callable[..., Urls]]:
    """Start a pod with a container that runs a command."""
    made: list[Urls] = []

    def run(*command: str, **settings: Any) -> Urls:
        pod = node.run_pod("streams")
        made.append(Urls(node, pod, node.start_container(pod, "main", busybox, *command, **settings)))
        return made[-1]

    yield run
    for urls in made:
        urls.close()


@pytest.fixture
def pod(start: Callable[..., Urls]) -> Urls:
    """One that echoes what it gets on PORT; it listens."""
    urls = start(*ECHO)
    listens = f"cat /proc/net/tcp /proc/net/tcp6 2>/dev/null | grep -q ':{PORT:04X} .* 0A '"
    script = f"until {listens}; do sleep 0.02; done"
    urls.node.crictl("exec", "--sync", urls.container, "sh", "-c", script)
    return urls
