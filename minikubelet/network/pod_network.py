"""The built-in pod network: one bridge, one subnet, one nftables table. Contract in docs/architecture.md.

State (leases, host ports) is changed on the event loop, the kernel in two worker threads: one owns the
route-netlink socket, one the libnftables context. Calls that change the maps at the same time share a
transaction.
"""

from __future__ import annotations

import asyncio
import dataclasses
import ipaddress
import logging
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from minikubelet.base.config import NetworkConfig
from minikubelet.base.database import Database
from minikubelet.base.errors import NodeError, StepError, precondition
from minikubelet.base.ids import short
from minikubelet.base.undo import UndoStack
from minikubelet.network import bridge as bridges
from minikubelet.network import ipv6, rules
from minikubelet.network.cni_config import Pod, Resolver
from minikubelet.network.ipam import AUTO, MIGRATIONS, OFF, Leases, Settings, parse_prefix, parse_subnet
from minikubelet.network.links import BridgeFacts, PodLink, PodLinks
from minikubelet.network.port_maps import PortMapping, PortTable, check_families, normalise
from minikubelet.network.ruleset import Ruleset
from minikubelet.network.threads import in_thread

__all__ = ["POD_SYSCTLS", "Attachment", "PodNetwork", "PortMapping"]

log = logging.getLogger(__name__)

POD_SYSCTLS = {
    "net.ipv6.conf.all.accept_ra": "0",
    "net.ipv6.conf.default.accept_ra": "0",
    "net.ipv6.conf.default.accept_dad": "0",
}
"""To be set in a pod's netns before :meth:`PodNetwork.attach`: no pod believes a neighbour's router
advertisement (CVE-2020-10749). A host without IPv6 has none of these files."""


@dataclass(frozen=True)
class Attachment:
    """A pod's place in the network."""

    ips: tuple[str, ...]
    """The pod's address first; further families may follow."""
    gateway: str
    interface: str = "eth0"
    resolver: Resolver | None = None
    """Name servers that come with the network."""


@dataclass
class _Live:
    """What exists once the network has started."""

    bridge: BridgeFacts
    leases: Leases
    links: PodLinks
    rules: Ruleset


def _attachment(leases: Leases, address: str, six: str) -> Attachment:
    return Attachment((address, six) if six else (address,), leases.gateway)


class PodNetwork:
    """Connects pods. Methods are called from the event loop only; see the contract for each."""

    needs_netns = False
    """Whether :meth:`detach` has use for the pod's namespace."""

    def __init__(self, db: Database, config: NetworkConfig, instance: str) -> None:
        db.migrate("network", MIGRATIONS)
        self._db = db
        self._config = config
        self._instance = instance
        self._settings = Settings(db)
        self._ports = PortTable(db)
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="rtnetlink")
        self._live: _Live | None = None
        self._problem = "the pod network has not been started"
        self._starting = asyncio.Lock()

    # --- life ---

    async def start(self) -> None:
        """Make bridge, table and forwarding as they must be; may be called again at any time.

        A failure is logged and told by :meth:`status`; :meth:`attach` tries again. Pods that use the host's
        network need none of this.
        """
        async with self._starting:
            if self._live is not None and not bridges.present(self._live.bridge.name):
                log.warning("bridge %s has been removed; making it anew", self._live.bridge.name)
                await self._stop("its bridge has been removed")
            if self._live is None:
                try:
                    await self._start()
                except (NodeError, OSError) as exc:
                    self._problem = str(exc)
                    log.error("the pod network can't be set up: %s", exc)

    async def _start(self) -> None:
        bridge = await self._add_ipv6(await self._ensure_bridge())
        self._settings.set("bridge", bridge.name)
        self._settings.set("subnet", str(bridge.subnet))
        prefix = str(bridge.prefix or "")
        facts = rules.TableFacts(self._instance, bridge.name, str(bridge.subnet), prefix)
        table = Ruleset(facts, self._ports.all)
        try:
            await table.install()
            links = await in_thread(self._executor, lambda: PodLinks(bridge))
        except BaseException:
            await table.close()
            raise
        leases = Leases(self._db, bridge.subnet, bridge.prefix)
        await in_thread(self._executor, lambda: links.adopt(leases.holders()))
        self._live = _Live(bridge, leases, links, table)
        subnets = f"{bridge.subnet} {prefix}".rstrip()
        log.info("pod network: bridge %s, subnet %s, mtu %d", bridge.name, subnets, bridge.mtu)

    async def _add_ipv6(self, bridge: BridgeFacts) -> BridgeFacts:
        """The bridge with its IPv6 prefix, if pods shall have one."""
        wish = self._config.ipv6
        remembered = self._settings.get("prefix")
        sixes = "SELECT count(*) FROM network_leases WHERE family=6"
        leased = self._db.execute(sixes).fetchone()[0]
        prefix: ipaddress.IPv6Network | None = None
        if wish == AUTO:
            prefix = self._unique_prefix()
        elif wish != OFF:
            prefix = parse_prefix(wish)
        if leased and str(prefix) != remembered:
            raise precondition(
                f"network.ipv6 is {wish}, but {leased} pods have addresses of {remembered}: stop them first"
            )
        if prefix is None:
            return bridge
        if not await in_thread(self._executor, ipv6.usable):
            if wish != AUTO:
                raise precondition(
                    f"network.ipv6 is {wish}, but this host has no IPv6 or has switched it off"
                )
            log.warning("network.ipv6: this host has no IPv6 or has switched it off; pods have IPv4 only")
            return bridge
        await in_thread(self._executor, lambda: ipv6.ensure(bridge, prefix))
        self._settings.set("prefix", str(prefix))
        return dataclasses.replace(bridge, prefix=prefix)

    def _unique_prefix(self) -> ipaddress.IPv6Network:
        """This instance's unique local /64, random at the first time."""
        text = self._settings.get("unique_prefix") or str(ipv6.random_prefix())
        self._settings.set("unique_prefix", text)
        return parse_prefix(text)

    async def _ensure_bridge(self) -> BridgeFacts:
        config = self._config
        name = config.bridge or self._settings.get("bridge") or f"mk-{self._instance}"
        leased = self._db.execute("SELECT count(*) FROM network_leases WHERE family=4").fetchone()[0]
        remembered = self._settings.get("subnet")
        if (
            config.subnet
            and leased
            and remembered
            and parse_subnet(config.subnet) != parse_subnet(remembered)
        ):
            raise precondition(
                f"network.subnet is {config.subnet}, but {leased} pods have addresses of {remembered}: "
                "stop them first"
            )
        text = config.subnet or remembered
        subnet = parse_subnet(text) if text else None

        def ensure(subnet: ipaddress.IPv4Network | None) -> BridgeFacts:
            return bridges.ensure(
                bridges.BridgeWish(name, subnet, config.pool, config.mtu, f"{self._instance} {name}")
            )

        try:
            return await in_thread(self._executor, lambda: ensure(subnet))
        except NodeError:
            if config.subnet or leased or subnet is None:
                raise
            log.warning("the subnet used before, %s, is no longer free; choosing another", subnet)
            return await in_thread(self._executor, lambda: ensure(None))

    async def close(self) -> None:
        """Stop the threads and close the sockets; bridge, table and pods stay."""
        await self._stop("the pod network has been closed")
        self._executor.shutdown(wait=False)

    async def _stop(self, why: str) -> None:
        live, self._live = self._live, None
        self._problem = why
        if live is not None:
            await live.rules.close()
            await in_thread(self._executor, live.links.close)

    async def teardown(self) -> None:
        """Remove table and bridge, then :meth:`close`. ``ip_forward`` stays on: others may rely on it.

        Raises NodeError FAILED_PRECONDITION while a pod has an address.
        """
        leased = self._db.execute("SELECT count(*) FROM network_leases WHERE family=4").fetchone()[0]
        if leased:
            raise precondition(f"{leased} pods are still attached to the pod network")
        live = self._live
        if live is not None:
            await live.rules.delete()
            await in_thread(self._executor, lambda: bridges.remove(live.bridge.name))
        await self.close()

    def status(self) -> tuple[bool, str, str]:
        """The CRI condition NetworkReady: (ready, reason, message)."""
        if self._live is None:
            return False, "NetworkNotReady", self._problem
        name = self._live.bridge.name
        if not bridges.present(name):
            return False, "BridgeMissing", f"bridge {name} has been removed; the next pod makes it anew"
        return True, "", ""

    # --- pods ---

    async def attach(
        self,
        sandbox_id: str,
        netns_fd: int,
        netlink_fd: int,
        ports: Sequence[PortMapping],
        pod: Pod | None = None,
    ) -> Attachment:
        """Give the pod eth0, an address, a default route and its host ports.

        ``netns_fd`` is the pod's network namespace, ``netlink_fd`` a route-netlink socket opened in it; both
        stay the caller's. On failure or cancellation nothing is left. Raises NodeError: FAILED_PRECONDITION
        (network not ready, host port in use), RESOURCE_EXHAUSTED (subnet full), INVALID_ARGUMENT, StepError.
        """
        wanted = normalise(ports)
        live = await self._ready()
        check_families(wanted, live.bridge.prefix is not None)
        if live.leases.of(sandbox_id) is not None:
            raise precondition(f"pod sandbox {short(sandbox_id)} is attached already")
        async with UndoStack(f"attach {short(sandbox_id)}") as undo:
            address = live.leases.take(sandbox_id)
            undo.push("lease", lambda: live.leases.free(sandbox_id))
            six = live.leases.six_of(sandbox_id)
            if wanted:
                self._ports.claim(sandbox_id, address, wanted, six)
                undo.push("host ports", lambda: self._ports.release(sandbox_id))
            link = PodLink(sandbox_id, address, netns_fd, netlink_fd, bool(wanted), six)
            try:
                await in_thread(self._executor, lambda: live.links.add(link))
            except asyncio.CancelledError:  # the thread has done its work nevertheless
                await self._remove_link(live, sandbox_id)
                raise
            undo.push("veth", lambda: self._remove_link(live, sandbox_id))
            if wanted:
                undo.push("nftables", lambda: self._withdraw(live, sandbox_id))
                await live.rules.sync()
                await live.rules.forget_udp(self._ports.of(sandbox_id))
        return _attachment(live.leases, address, six)

    async def _ready(self) -> _Live:
        if self._live is None or not bridges.present(self._live.bridge.name):
            await self.start()
        if self._live is None:
            raise precondition(f"the pod network is not ready: {self._problem}")
        return self._live

    async def _remove_link(self, live: _Live, sandbox_id: str) -> None:
        await in_thread(self._executor, lambda: live.links.remove(sandbox_id))

    async def _withdraw(self, live: _Live, sandbox_id: str) -> None:
        if self._ports.release(sandbox_id):
            await live.rules.sync()

    async def detach(self, sandbox_id: str, netns_fd: int = -1) -> None:
        """Give back the pod's host ports and its lease; an unknown sandbox is fine.

        The veth goes with the pod's netns, which the monitor lets go. Maps that can't be changed are logged
        and made anew at the next change: a pod can always be removed.
        """
        del netns_fd  # what CNI's plugins want to have
        live = self._live
        if live is None:
            self._forget(sandbox_id)
            return
        released = self._ports.release(sandbox_id)
        if released:
            try:
                await live.rules.sync()
                await live.rules.forget_udp(released)
            except StepError as exc:  # the maps are made anew at the next change or start
                log.warning("host ports of %s are still in the table: %s", short(sandbox_id), exc)
        live.leases.free(sandbox_id)

    def _forget(self, sandbox_id: str) -> None:
        self._ports.release(sandbox_id)
        self._db.execute("DELETE FROM network_leases WHERE sandbox_id=?", (sandbox_id,))

    def addresses(self, sandbox_id: str) -> Attachment | None:
        """The pod's attachment, None when it has none."""
        if self._live is None:
            return None
        address = self._live.leases.of(sandbox_id)
        if address is None:
            return None
        return _attachment(self._live.leases, address, self._live.leases.six_of(sandbox_id))

    async def collect(self, alive: Collection[str]) -> None:
        """Free addresses and host ports of every sandbox that is not in ``alive``."""
        rows = self._db.execute("SELECT sandbox_id FROM network_leases").fetchall()
        holders = {str(row[0]) for row in rows} | set(self._ports.holders())
        for sandbox_id in holders - set(alive):
            log.info("freeing the address of pod sandbox %s, which is gone", short(sandbox_id))
            await self.detach(sandbox_id)
