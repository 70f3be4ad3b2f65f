"""TCP and gRPC probes against local servers."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import grpc
import grpc.aio
import pytest

from minikubelet.kubelet.objects.containers import Container, HTTPGetAction
from minikubelet.kubelet.probes import grpc_health, http, tcp
from minikubelet.kubelet.probes.outcome import Verdict


async def test_tcp_success_refusal_and_names() -> None:
    listener = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    async with listener:
        assert (await tcp.probe("127.0.0.1", port, 5)).verdict is Verdict.SUCCESS
        assert (await tcp.probe("localhost", port, 5)).verdict is Verdict.SUCCESS
    outcome = await tcp.probe("127.0.0.1", port, 5)
    assert outcome.verdict is Verdict.FAILURE
    assert outcome.message == f"dial tcp 127.0.0.1:{port}: connect: connection refused"
    outcome = await tcp.probe("nowhere.invalid", 80, 5)
    assert outcome.message.startswith("dial tcp: lookup nowhere.invalid: ")


async def test_a_name_is_tried_at_all_its_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    async def resolve(host: str, port: int, **_: object) -> list[object]:
        return [(0, 0, 0, "", (address, port)) for address in ("127.0.0.9", "127.0.0.8", "127.0.0.9")]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", resolve)
    listener = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.8", 0)
    port = listener.sockets[0].getsockname()[1]
    async with listener:
        assert (await tcp.probe("two.example", port, 5)).verdict is Verdict.SUCCESS
    outcome = await tcp.probe("two.example", port, 5)
    assert outcome.message == f"dial tcp 127.0.0.9:{port}: connect: connection refused"
    request = http.new_request(HTTPGetAction(port=port, host="two.example"), Container(name="c"), "")
    told = (await http.probe(request, 5)).message
    assert told == f'Get "http://two.example:{port}/": {outcome.message}'


async def test_tcp_times_out_when_nobody_answers() -> None:
    # A full backlog drops further connects: they hang as behind a firewall.
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        address = listener.getsockname()
        waiting = [socket.socket() for _ in range(3)]
        try:
            for each in waiting:
                each.setblocking(False)
                each.connect_ex(address)
            outcome = await tcp.probe("127.0.0.1", address[1], 0.05)
        finally:
            for each in waiting:
                each.close()
    assert outcome.message == f"dial tcp 127.0.0.1:{address[1]}: i/o timeout"


class Health(grpc.GenericRpcHandler):
    """Answers Check with the status of the service asked for; remembers who asked."""

    def __init__(self, statuses: dict[str, bytes], delay: float = 0) -> None:
        self.statuses = statuses
        self.delay = delay
        self.agents: list[str] = []

    def service(self, details: grpc.HandlerCallDetails) -> Any:
        if details.method != "/grpc.health.v1.Health/Check":
            return None
        metadata: Any = details.invocation_metadata
        self.agents += [str(value) for name, value in metadata if name == "user-agent"]
        return grpc.unary_unary_rpc_method_handler(self.check)

    async def check(self, request: bytes, context: Any) -> bytes:
        await asyncio.sleep(self.delay)
        service = request[2:].decode()
        if service not in self.statuses:
            await context.abort(grpc.StatusCode.NOT_FOUND, "unknown service")
        return self.statuses[service]


async def serve(handlers: tuple[Health, ...]) -> tuple[grpc.aio.Server, int]:
    server = grpc.aio.server()
    server.add_generic_rpc_handlers(handlers)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    return server, port


async def test_grpc_health() -> None:
    health = Health({"": b"\x08\x01", "db": b"\x08\x02", "new": b""})
    server, port = await serve((health,))
    try:

        async def ask(service: str) -> tuple[Verdict, str]:
            outcome = await grpc_health.probe("127.0.0.1", port, service, 10)
            return outcome.verdict, outcome.message

        assert await ask("") == (Verdict.SUCCESS, "service healthy")
        assert await ask("db") == (Verdict.FAILURE, 'service unhealthy (responded with "NOT_SERVING")')
        assert await ask("new") == (Verdict.FAILURE, 'service unhealthy (responded with "UNKNOWN")')
        refused = "error: health rpc probe failed: rpc error: code = NotFound desc = unknown service"
        assert await ask("nope") == (Verdict.FAILURE, refused)
        assert health.agents[0].startswith("kube-probe/1.36")
    finally:
        await server.stop(None)


async def test_grpc_without_the_health_service_and_too_slow() -> None:
    server, port = await serve(())
    try:
        outcome = await grpc_health.probe("127.0.0.1", port, "", 10)
        assert outcome.message.startswith("error: this server does not implement the grpc health protocol")
    finally:
        await server.stop(None)
    server, port = await serve((Health({"": b"\x08\x01"}, delay=30),))
    try:
        outcome = await grpc_health.probe("127.0.0.1", port, "", 1)
        assert outcome.message == "timeout: health rpc did not complete within 1s"
    finally:
        await server.stop(None)


async def test_grpc_nobody_there() -> None:
    outcome = await grpc_health.probe("127.0.0.1", 1, "", 1)
    assert outcome.verdict is Verdict.FAILURE
    assert outcome.message.startswith('timeout: failed to connect service "127.0.0.1:1" within 1s')
