"""An HTTP server that notes what probes and hooks ask of it: one line a distinct request."""

from __future__ import annotations

import threading
from collections import defaultdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self

_CHANGING = {"host", "content-length"}


class Probed:
    """Paths are /CASE/…, and their ends say what is answered: ``status/NNN``; ``redirect/NAME``, to
    /CASE/NAME; ``cut``, the connection ends within the body; ``stall``, the body never ends.
    """

    def __init__(self) -> None:
        self.seen: dict[str, list[str]] = defaultdict(list)
        probed = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                probed.note(self)

            do_POST = do_HEAD = do_GET

            def log_message(self, format: str, *args: object) -> None:
                """Not on the terminal."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        self._server.shutdown()
        self._server.server_close()

    def note(self, request: BaseHTTPRequestHandler) -> None:
        """Remember a request if it is new, and answer it."""
        parts = request.path.partition("?")[0].strip("/").split("/")
        headers = [f"{k}: {v}" for k, v in request.headers.items() if k.lower() not in _CHANGING]
        host = request.headers.get("Host", "")
        if str(self.port) not in host:
            headers.append(f"Host: {host}")
        line = " | ".join([f"{request.command} {request.path}", *sorted(headers)])
        if line not in self.seen[parts[0]]:
            self.seen[parts[0]].append(line)
        self._answer(request, parts)

    def _answer(self, request: BaseHTTPRequestHandler, parts: list[str]) -> None:
        kind, name = ["", "", *parts][-2:]
        status = 302 if kind == "redirect" else int(name) if kind == "status" else 200
        request.send_response(status)
        request.send_header("Content-Length", "9" if name in ("cut", "stall") else "3")
        if kind == "redirect":
            request.send_header("Location", f"/{parts[0]}/{name}")
        request.end_headers()
        request.wfile.write(b"ok\n")
        if name == "stall":
            request.rfile.read(1)  # until the other side gives up
        if name in ("cut", "stall"):
            request.close_connection = True
