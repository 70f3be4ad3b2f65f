"""The ports of a kubelet: HTTPS with authentication, and if wanted plain health and a read-only port."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import Sequence

from minikubelet.base.errors import Code, NodeError
from minikubelet.kubelet.api.app import make_app, make_health_app, make_read_only_app
from minikubelet.kubelet.api.authenticate import Authenticator, Tokens
from minikubelet.kubelet.api.backend import Backend
from minikubelet.kubelet.api.gate import make_counter, make_gate
from minikubelet.kubelet.api.listener import Listener
from minikubelet.kubelet.api.tls import Certificates
from minikubelet.kubelet.config import KubeletConfig
from minikubelet.kubelet.metrics.instruments import Instruments

log = logging.getLogger(__name__)

TOKEN_FILE = "api-token"
"""In the kubelet's root: who can read it may do everything."""


class RemoteApi:
    """All ports of one kubelet."""

    def __init__(
        self, backend: Backend, config: KubeletConfig, instruments: Instruments, addresses: Sequence[str]
    ) -> None:
        self._backend = backend
        self._config = config
        self._instruments = instruments
        self._addresses = list(addresses)
        self._stack = contextlib.AsyncExitStack()
        self.https: Listener | None = None
        self.read_only: Listener | None = None
        self.health: Listener | None = None

    async def start(self) -> None:
        """Open the ports. Raises NodeError, OSError; a port that nobody asked for may be taken: a warning."""
        server = self._config.server
        if not server.enabled:
            return
        try:
            if server.port:
                self.https = await self._open(await self._secure(), server.port_given)
            if server.read_only_port:
                counter = make_counter(self._instruments, "readonly")
                app = make_read_only_app(self._backend, [counter])
                self.read_only = await self._open(Listener(app, server.address, server.read_only_port), True)
            if server.healthz_port:
                app = make_health_app(self._backend)
                health = Listener(app, server.healthz_bind_address, server.healthz_port)
                self.health = await self._open(health, server.healthz_port_given)
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Close all ports."""
        await self._stack.aclose()

    async def _secure(self) -> Listener:
        config, server = self._config, self._config.server
        folder = os.path.join(config.root, "pki")
        certificates = await asyncio.to_thread(
            Certificates, server, folder, config.node_name, self._addresses
        )
        tokens = Tokens(os.path.join(config.root, TOKEN_FILE), server.token_file)
        gate = make_gate(Authenticator(tokens, server.anonymous))
        app = make_app(
            self._backend,
            [make_counter(self._instruments, "readwrite"), gate],
            debugging=server.debugging_handlers,
            system_logs=server.system_log_handler,
        )
        return Listener(app, server.address, server.port, certificates.context)

    async def _open(self, listener: Listener, asked_for: bool) -> Listener | None:
        try:
            await listener.start()
        except NodeError as exc:
            if asked_for or exc.code is not Code.ALREADY_EXISTS:
                raise
            log.warning("%s: it is not served here", exc)
            return None
        self._stack.push_async_callback(listener.close)
        return listener
