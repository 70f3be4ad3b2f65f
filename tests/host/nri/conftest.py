"""A CRI client of the module's node, and NRI's own sample plugins."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from tests.host.node import PEERS, Node, wait_for
from tests.host.runtime.client import Client

Start = Callable[..., "subprocess.Popen[bytes]"]
_SOCKET_FLAG = {"ulimit-adjuster": "-socket"}


@pytest.fixture
async def client(node: Node, busybox: str) -> AsyncIterator[Client]:
    made = Client(node.config.listen, busybox)
    yield made
    await made.close()


@pytest.fixture
def start_plugin(node: Node, tmp_path: Path) -> Iterator[Start]:
    """``start_plugin(sample, index)``: run it until the test ends; returns once it is connected."""
    with contextlib.ExitStack() as stack:

        def start(sample: str, index: str, *flags: str) -> subprocess.Popen[bytes]:
            program = PEERS / f"nri-{sample}"
            if not program.exists():
                pytest.skip("no NRI sample plugins: scripts/peers nri-plugins")
            connected = f"NRI plugin {index}-nri-{sample} is connected"
            before = node.log().count(connected)
            log = stack.enter_context(open(tmp_path / f"{sample}.log", "wb"))
            socket_flag = _SOCKET_FLAG.get(sample, "-socket-path")
            command = [str(program), "-idx", index, socket_flag, node.config.nri_path, *flags]
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
            stack.callback(process.wait, 30)
            stack.callback(process.kill)
            wait_for(connected, lambda: node.log().count(connected) > before)
            return process

        yield start
