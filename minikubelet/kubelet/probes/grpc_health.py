"""gRPC probes: grpc.health.v1.Health/Check without TLS, as KEP-2727 has it.

The two messages are small enough to be written and read by hand: HealthCheckRequest{1: service} and
HealthCheckResponse{1: status}.
"""

from __future__ import annotations

import asyncio
from typing import Any

from minikubelet.kubelet.backoff import spell
from minikubelet.kubelet.probes.http import VERSION
from minikubelet.kubelet.probes.outcome import Outcome, failure, success
from minikubelet.kubelet.probes.ports import join_host_port

_STATUS = {0: "UNKNOWN", 1: "SERVING", 2: "NOT_SERVING", 3: "SERVICE_UNKNOWN"}
_OPTIONS = (
    ("grpc.primary_user_agent", f"kube-probe/{VERSION}"),
    ("grpc.enable_http_proxy", 0),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.max_receive_message_length", 64 * 1024),
)
_LACKS_HEALTH = "error: this server does not implement the grpc health protocol (grpc.health.v1.Health)"


async def probe(host: str, port: int, service: str, timeout: float) -> Outcome:
    """Ask for ``service``'s health within ``timeout`` seconds, connecting included."""
    import grpc  # only pods with such probes pay for it
    import grpc.aio

    address = join_host_port(host, port)
    deadline = asyncio.get_running_loop().time() + timeout
    async with grpc.aio.insecure_channel(address, options=_OPTIONS) as channel:
        try:
            await asyncio.wait_for(channel.channel_ready(), timeout)
        except TimeoutError:
            within = f"within {spell(timeout)}: context deadline exceeded"
            return failure(f'timeout: failed to connect service "{address}" {within}')
        check: Any = channel.unary_unary("/grpc.health.v1.Health/Check")
        left = max(deadline - asyncio.get_running_loop().time(), 0.001)
        try:
            reply = await check(_request(service), timeout=left)
        except grpc.aio.AioRpcError as exc:
            return failure(_explain(exc, timeout))
    status = _status(bytes(reply))
    if status != 1:
        return failure(f'service unhealthy (responded with "{_STATUS.get(status, status)}")')
    return success("service healthy")


def _explain(exc: Any, timeout: float) -> str:
    code = exc.code().name
    if code == "UNIMPLEMENTED":
        return f"{_LACKS_HEALTH}: {exc.details()}"
    if code == "DEADLINE_EXCEEDED":
        return f"timeout: health rpc did not complete within {spell(timeout)}"
    go_name = "Canceled" if code == "CANCELLED" else code.title().replace("_", "")
    return f"error: health rpc probe failed: rpc error: code = {go_name} desc = {exc.details()}"


def _varint(value: int) -> bytes:
    data = bytearray()
    while value > 0x7F:
        data.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes(data) + bytes([value])


def _request(service: str) -> bytes:
    name = service.encode()
    return b"\x0a" + _varint(len(name)) + name if name else b""


def _status(reply: bytes) -> int:
    # Field 1 as a varint; a message without it means 0 (UNKNOWN). Other fields don't exist.
    return reply[1] if len(reply) >= 2 and reply[0] == 0x08 else 0
