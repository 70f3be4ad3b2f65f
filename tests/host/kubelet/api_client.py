"""A client of a kubelet's port, as the API server is one: TLS, a bearer token, SPDY/3.1 or WebSockets."""

from __future__ import annotations

import base64
import json
import os
import ssl
import struct
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from minikubelet.streaming import spdy_frames as spdy
from minikubelet.streaming.spdy_headers import HeaderEncoder
from tests.streaming_client import SpdyClient, WebSocketClient


class KubeletClient:
    """Blocking; use it from a thread."""

    def __init__(self, root: Path, port: int) -> None:
        self.port = port
        self.token = (root / "api-token").read_text().strip()
        self.context = ssl.create_default_context(cafile=str(root / "pki" / "kubelet.crt"))

    def request(self, path: str, method: str = "GET") -> tuple[int, str]:
        url = f"https://127.0.0.1:{self.port}{path}"
        wish = urllib.request.Request(url, headers={"Authorization": f"Bearer {self.token}"}, method=method)
        try:
            with urllib.request.urlopen(wish, context=self.context, timeout=60) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as exc:
            return exc.code, exc.read().decode()

    def json(self, path: str) -> Any:
        status, body = self.request(path)
        assert status == 200, (path, status, body)
        return json.loads(body)

    def spdy(self, path: str, protocol: str) -> TlsSpdy:
        return TlsSpdy(self, path, protocol)

    def websocket(self, path: str, protocol: str) -> TlsWebSocket:
        return TlsWebSocket(self, path, protocol)


def _upgrade(client: KubeletClient, method: str, path: str, headers: dict[str, str]) -> ssl.SSLSocket:
    """A connection whose upgrade the kubelet has accepted."""
    import socket

    plain = socket.create_connection(("127.0.0.1", client.port), timeout=60)
    made = client.context.wrap_socket(plain, server_hostname="127.0.0.1")
    lines = [f"{method} {path} HTTP/1.1", "Host: kubelet", f"Authorization: Bearer {client.token}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    made.sendall("\r\n".join([*lines, "", ""]).encode())
    answer = b""
    while b"\r\n\r\n" not in answer:
        more = made.recv(1)
        assert more, answer
        answer += more
    assert answer.startswith(b"HTTP/1.1 101"), answer
    return made


class TlsSpdy(SpdyClient):
    """Streams by name; :meth:`outcome` waits for the end."""

    def __init__(self, client: KubeletClient, path: str, protocol: str) -> None:
        headers = {
            "Connection": "Upgrade",
            "Upgrade": "SPDY/3.1",
            "X-Stream-Protocol-Version": protocol,
            "Content-Length": "0",
        }
        self.socket = _upgrade(client, "POST", path, headers)
        self._encoder = HeaderEncoder()
        self._next = 1
        self.open_streams: set[int] = set()

    def put(self, stream: int, data: bytes, *, fin: bool = False) -> None:
        self.socket.sendall(spdy.data(stream, data, fin=fin))

    def outcome(self) -> dict[int, bytes]:
        """What came on each stream until all had ended."""
        found: dict[int, bytes] = {}
        self.receive(lambda stream, data: found.update({stream: found.get(stream, b"") + bytes(data)}))
        return found


class TlsWebSocket(WebSocketClient):
    """Channels by number."""

    def __init__(self, client: KubeletClient, path: str, protocol: str) -> None:
        headers = {
            "Connection": "Upgrade",
            "Upgrade": "websocket",
            "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Key": base64.b64encode(os.urandom(16)).decode(),
            "Sec-WebSocket-Protocol": protocol,
        }
        self.socket = _upgrade(client, "GET", path, headers)
        self.half_closes = protocol.startswith("v5.")

    def outcome(self) -> dict[int, bytes]:
        """What came on each channel until the socket was closed."""
        found: dict[int, bytes] = {}
        self.receive(lambda channel, data: found.update({channel: found.get(channel, b"") + bytes(data)}))
        return found


def ports_prefix(port: int) -> bytes:
    """What opens each channel of a forwarded port over WebSockets."""
    return struct.pack("<H", port)
