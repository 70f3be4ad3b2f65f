"""What the CRI socket answers, told in one line."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest

from minikubelet.cli.main import main

Capture = pytest.CaptureFixture[str]


class _Unreachable(grpc.GenericRpcHandler):
    """A runtime whose registry doesn't answer."""

    def service(self, handler_call_details: Any) -> Any:
        def pull(request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
            context.abort(grpc.StatusCode.UNAVAILABLE, "registry r: can't connect: Connection refused")
            yield b""

        return grpc.unary_stream_rpc_method_handler(pull)


def test_a_registry_out_of_reach_is_not_a_daemon_out_of_reach(tmp_path: Path, capsys: Capture) -> None:
    server = grpc.server(ThreadPoolExecutor(1), handlers=[_Unreachable()])
    server.add_insecure_port(f"unix:{tmp_path}/minikubelet.sock")
    server.start()
    try:
        assert main(["--run", str(tmp_path), "image", "pull", "r/app:1"]) == 1
    finally:
        server.stop(None).wait()
    assert capsys.readouterr().err == "error: registry r: can't connect: Connection refused\n"
    assert main(["--run", str(tmp_path), "image", "pull", "r/app:1"]) == 1
    assert "no minikubelet daemon answers" in capsys.readouterr().err


def test_a_file_that_is_not_there_is_named_first(tmp_path: Path, capsys: Capture) -> None:
    assert main(["image", "load", "/no/such.tar"]) == 1
    assert capsys.readouterr().err == "error: /no/such.tar: No such file or directory\n"
