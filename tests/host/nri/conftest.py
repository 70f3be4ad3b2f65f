"""A CRI client of the module's node, and NRI's own sample plugins."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from minikubelet.criapi import api_pb2 as api
from tests.host.node import PEERS, Node, wait_for
from tests.host.runtime.client import Client

Start = Callable[..., "subprocess.Popen[bytes]"]
_SOCKET_FLAG = {"ulimit-adjuster": "-socket"}
_WITHOUT_FLAG = ("ulimit-adjuster-0.4", "optimizer")
"""Those that know /var/run/nri/nri.sock alone, and the connection that a runtime starts a plugin with."""


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
                pytest.skip(f"no NRI sample plugins: scripts/peers builds nri-{sample}")
            connected = f"NRI plugin {index}-nri-{sample} is connected"

            def connections() -> int:
                return (node.home / "daemon.log").read_text(errors="replace").count(connected)

            before = connections()
            log = stack.enter_context(open(tmp_path / f"{sample}.log", "wb"))
            command, environment = [str(program), *flags], dict(os.environ)
            fds: tuple[int, ...] = ()
            if sample in _WITHOUT_FLAG:
                connection = stack.enter_context(socket.socket(socket.AF_UNIX))
                connection.connect(node.config.nri_path)
                fds = (connection.fileno(),)
                environment |= {"NRI_PLUGIN_NAME": program.name, "NRI_PLUGIN_IDX": index}
                environment["NRI_PLUGIN_SOCKET"] = str(connection.fileno())
            else:
                command += ["-idx", index, _SOCKET_FLAG.get(sample, "-socket-path"), node.config.nri_path]
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment, pass_fds=fds
            )
            if fds:
                connection.close()
            stack.callback(process.wait, 30)
            stack.callback(process.kill)
            wait_for(connected, lambda: connections() > before)
            return process

        yield start


async def runs_after_killing(plugin: subprocess.Popen[bytes], client: Client) -> None:
    """Kill a plugin; pods and containers must go on being made."""
    plugin.kill()
    plugin.wait()
    pod = await client.run_pod()
    app = await client.run(pod, client.container_config("sleep", "1000"))
    assert (await client.status(app)).state == api.CONTAINER_RUNNING
