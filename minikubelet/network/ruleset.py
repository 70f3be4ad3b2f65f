"""Our nftables table, kept as it must be, in a thread of its own. Only its latest wanted state matters."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import struct
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from minikubelet.base.errors import StepError
from minikubelet.linux.nftables import Nftables, NftablesError
from minikubelet.network import firewall, rules
from minikubelet.network.conntrack import forget_udp
from minikubelet.network.threads import in_thread

log = logging.getLogger(__name__)

_NETLINK_NETFILTER = 12
_GROUP_NFTABLES = 1 << 6  # NFNLGRP_NFTABLES is 7
_DELETE_TABLE = 10 << 8 | 2  # NFNL_SUBSYS_NFTABLES, NFT_MSG_DELTABLE
_SETTLE = 0.5
"""Seconds after a table went before we look: a firewall that reloads makes its tables in that time."""


class Ruleset:
    """The table of one network. ``ports`` gives the host ports that it shall have now."""

    def __init__(self, facts: rules.TableFacts, ports: Callable[[], list[rules.HostPort]]) -> None:
        self._facts = facts
        self._ports = ports
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="nftables")
        self._nft: Nftables | None = None
        self._waiting: asyncio.Future[None] | None = None
        self._lock = asyncio.Lock()
        self._watch: socket.socket | None = None
        self._repair: asyncio.Task[None] | None = None
        self._deleted = False
        """On purpose: a check or a change that comes late must not make the table anew."""

    async def install(self) -> None:
        """Make the table anew and have a dropping host firewall let us through. Raises StepError."""
        ports = self._ports()
        await self._run("install nftables table", lambda nft: self._install(nft, ports))
        self._start_watching()

    def _install(self, nft: Nftables, ports: list[rules.HostPort]) -> None:
        chains = firewall.dropping_chains(nft, self._facts)
        nft.run(rules.replace_table(self._facts, ports, closed=bool(chains)))
        firewall.open_chains(nft, self._facts, chains)

    async def sync(self) -> None:
        """Return when the maps hold what the port table held at the call, or later. Raises StepError."""
        if self._waiting is None:
            self._waiting = asyncio.ensure_future(self._sync_once())
        await asyncio.shield(self._waiting)

    async def _sync_once(self) -> None:
        async with self._lock:
            self._waiting = None  # from here on the ports are read; who comes later needs the next run
            if self._deleted:
                return
            ports = self._ports()
            text = rules.replace_ports(self._facts, ports)
            try:
                await self._run("set host ports", lambda nft: nft.run(text))
            except StepError:  # somebody flushed the ruleset: make the table anew
                await self._run("set host ports", lambda nft: self._install(nft, ports))

    async def forget_udp(self, ports: Sequence[rules.HostPort]) -> None:
        """Make UDP clients of ``ports`` begin anew; a failure is logged only (kernel without ctnetlink)."""
        numbers = {port.host_port for port in ports if port.protocol == "udp"}
        if numbers:
            try:
                await in_thread(self._executor, lambda: forget_udp(numbers))
                if self._facts.prefix:
                    await in_thread(self._executor, lambda: forget_udp(numbers, socket.AF_INET6))
            except OSError as exc:
                log.warning("tracked UDP flows to ports %s can't be deleted: %s", sorted(numbers), exc)

    async def delete(self) -> None:
        """Remove the table and our rules in others. Raises StepError."""
        self._stop_watching()

        def delete(nft: Nftables) -> None:
            firewall.close_chains(nft, self._facts)
            nft.run(rules.delete_table(self._facts))

        async with self._lock:
            self._deleted = True
            await self._run("remove nftables table", delete)

    async def close(self) -> None:
        """End the thread; the table stays."""
        self._stop_watching()
        for task in (self._waiting, self._repair):
            if task is not None:
                await asyncio.wait([task])

        def free() -> None:
            if self._nft is not None:
                self._nft.close()

        await in_thread(self._executor, free)
        self._executor.shutdown(wait=False)

    async def _run(self, step: str, work: Callable[[Nftables], object]) -> None:
        def call() -> None:
            if self._nft is None:
                self._nft = Nftables()
            work(self._nft)

        try:
            await in_thread(self._executor, call)
        except NftablesError as exc:
            raise StepError(step, exc.errno or 0, self._facts.table, exc.strerror or "") from exc

    # --- "nft flush ruleset" by somebody else: the table comes back by itself ---

    def _start_watching(self) -> None:
        if self._watch is None:
            kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
            self._watch = socket.socket(socket.AF_NETLINK, kind, _NETLINK_NETFILTER)
            self._watch.bind((0, _GROUP_NFTABLES))
            asyncio.get_running_loop().add_reader(self._watch, self._read_events)

    def _stop_watching(self) -> None:
        if self._watch is not None:
            asyncio.get_running_loop().remove_reader(self._watch)
            self._watch.close()
            self._watch = None

    def _read_events(self) -> None:
        table_went = False
        for _ in range(64):  # the rest wakes us again
            try:
                data = self._watch.recv(65536) if self._watch is not None else b""
            except BlockingIOError:
                break
            except OSError:  # ENOBUFS: events were lost
                table_went = True
                break
            table_went = table_went or _deletes_a_table(data)
        if table_went and (self._repair is None or self._repair.done()):
            self._repair = asyncio.ensure_future(self._check())

    async def _check(self) -> None:
        await asyncio.sleep(_SETTLE)
        with contextlib.suppress(StepError):
            async with self._lock:
                if self._deleted:
                    return
                ports = self._ports()
                await self._run("check nftables table", lambda nft: self._reinstall_if_gone(nft, ports))

    def _reinstall_if_gone(self, nft: Nftables, ports: list[rules.HostPort]) -> None:
        names = {
            f"{entry['table']['family']} {entry['table']['name']}"
            for entry in nft.list("tables")
            if "table" in entry
        }
        if self._facts.table not in names:
            log.warning("somebody removed nftables table %s; making it anew", self._facts.table)
            self._install(nft, ports)


def _deletes_a_table(data: bytes) -> bool:
    offset = 0
    while offset + 16 <= len(data):
        length, kind = struct.unpack_from("=IH", data, offset)
        if kind == _DELETE_TABLE:
            return True
        offset += max(16, (length + 3) & ~3)
    return False
