"""The bridge and its subnet: chosen clear of everything the host has, made idempotently. Blocking."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import ipaddress
import logging
import socket
from dataclasses import dataclass, field
from typing import Any

from minikubelet.base.errors import Code, NodeError, StepError, invalid, precondition
from minikubelet.network.addresses import set_address
from minikubelet.network.links import BridgeFacts
from minikubelet.network.messages import ifaddrmsg, ifinfmsg, rtmsg
from minikubelet.network.netlink import ACK, CREATE, DUMP, EXCLUSIVE, NetlinkSocket, encode

log = logging.getLogger(__name__)

_NEWLINK, _DELLINK, _GETLINK = 16, 17, 18
_GETADDR = 22
_GETROUTE = 26
_UP = 1
_CHOICE_PREFIX = 22
_PROC = "/proc/sys/net"


@dataclass
class HostView:
    """The links, addresses and routes of the host that matter to us."""

    links: dict[str, int] = field(default_factory=dict)
    """Name → index."""
    kinds: dict[str, str] = field(default_factory=dict)
    mtus: dict[int, int] = field(default_factory=dict)
    addresses: list[tuple[int, ipaddress.IPv4Interface]] = field(default_factory=list)
    """(link index, address with its prefix)."""
    routes: list[tuple[int, ipaddress.IPv4Network]] = field(default_factory=list)
    default_link: int = 0

    def overlapping(self, subnet: ipaddress.IPv4Network, but_link: int) -> str:
        """What of the host (except on link ``but_link``) overlaps ``subnet``; empty for nothing."""
        for index, address in self.addresses:
            if index != but_link and address.network.overlaps(subnet):
                return f"address {address}"
        for index, route in self.routes:
            if index != but_link and route.overlaps(subnet):
                return f"route {route}"
        return ""

    def addresses_of(self, index: int) -> list[ipaddress.IPv4Interface]:
        """The IPv4 addresses of one link."""
        return [address for number, address in self.addresses if number == index]


def look(netlink: NetlinkSocket) -> HostView:
    """Read links, IPv4 addresses and IPv4 routes of all tables. Raises OSError."""
    view = HostView()
    for link in netlink.dump(ifinfmsg, encode(ifinfmsg, _GETLINK, DUMP, [])):
        name = str(link.get_attr("IFLA_IFNAME"))
        view.links[name] = int(link["index"])
        view.mtus[int(link["index"])] = int(link.get_attr("IFLA_MTU") or 1500)
        info = link.get_attr("IFLA_LINKINFO")
        view.kinds[name] = str(info.get_attr("IFLA_INFO_KIND") or "") if info is not None else ""
    request = encode(ifaddrmsg, _GETADDR, DUMP, [], family=socket.AF_INET)
    for address in netlink.dump(ifaddrmsg, request):
        text = f"{address.get_attr('IFA_LOCAL') or address.get_attr('IFA_ADDRESS')}/{address['prefixlen']}"
        view.addresses.append((int(address["index"]), ipaddress.IPv4Interface(text)))
    for route in netlink.dump(rtmsg, encode(rtmsg, _GETROUTE, DUMP, [], family=socket.AF_INET)):
        _add_route(view, route)
    return view


def _add_route(view: HostView, route: Any) -> None:
    index = int(route.get_attr("RTA_OIF") or 0)
    destination = route.get_attr("RTA_DST")
    if destination is None or route["dst_len"] == 0:
        view.default_link = view.default_link or index
        return
    network = ipaddress.IPv4Network(f"{destination}/{route['dst_len']}", strict=False)
    view.routes.append((index, network))


def choose_subnet(view: HostView, pool: str, but_link: int = 0) -> ipaddress.IPv4Network:
    """The first /22 of ``pool`` that overlaps nothing on the host.

    Raises NodeError: INVALID_ARGUMENT for a bad pool, RESOURCE_EXHAUSTED when every /22 overlaps.
    """
    try:
        network = ipaddress.IPv4Network(pool)
    except ValueError as exc:
        raise invalid("network.pool", str(exc)) from exc
    if network.prefixlen > 30:
        raise invalid("network.pool", f"{pool} is too small")
    for candidate in network.subnets(new_prefix=max(_CHOICE_PREFIX, network.prefixlen)):
        if not view.overlapping(candidate, but_link):
            return candidate
    raise NodeError(
        Code.RESOURCE_EXHAUSTED,
        f"every /{_CHOICE_PREFIX} of pool {pool} overlaps an address or route of this host: "
        "set network.subnet",
    )


@dataclass(frozen=True)
class BridgeWish:
    """What the bridge shall be. ``subnet`` None: choose from ``pool``."""

    name: str
    subnet: ipaddress.IPv4Network | None
    pool: str
    mtu: int
    mac_seed: str


def ensure(wish: BridgeWish) -> BridgeFacts:
    """Make the bridge, its address and its sysctls as wished; what is right already stays.

    Raises StepError, or NodeError when the name or the subnet belongs to somebody else.
    """
    with NetlinkSocket() as netlink:
        index = _ensure_link(netlink, wish)
        for _attempt in range(8):
            view = look(netlink)
            subnet = wish.subnet or choose_subnet(view, wish.pool, index)
            wanted = ipaddress.IPv4Interface(f"{subnet.network_address + 1}/{subnet.prefixlen}")
            set_address(netlink, index, wanted, view.addresses_of(index))
            rival = _rival(look(netlink), subnet, index)
            if not rival:
                break
            if wish.subnet is not None:
                raise precondition(f"pod subnet {subnet} overlaps {rival} of this host")
        else:
            raise precondition(f"no free subnet in {wish.pool}: other programs take them at the same moment")
        mtu = min(wish.mtu, view.mtus.get(view.default_link, wish.mtu))
        _sysctls(wish.name)
        return BridgeFacts(wish.name, index, subnet, str(subnet.network_address + 1), mtu)


def _rival(view: HostView, subnet: ipaddress.IPv4Network, index: int) -> str:
    """Somebody who took the same subnet; of two daemons that start at once the lower link index stays."""
    for other, address in view.addresses:
        if other < index and address.network.overlaps(subnet):
            return f"address {address}"
    return ""


def _ensure_link(netlink: NetlinkSocket, wish: BridgeWish) -> int:
    if not 0 < len(wish.name) < 16 or "/" in wish.name or wish.name.split() != [wish.name]:
        raise invalid("network.bridge", f"{wish.name!r} is no name of a link")
    view = look(netlink)
    if wish.name in view.links and view.kinds[wish.name] != "bridge":
        raise precondition(f"link {wish.name} exists and is no bridge; set network.bridge")
    digest = hashlib.sha256(wish.mac_seed.encode()).hexdigest()
    mac = "02:" + ":".join(digest[i : i + 2] for i in range(0, 10, 2))
    attrs: list[tuple[str, Any]] = [("IFLA_IFNAME", wish.name)]
    try:
        if wish.name not in view.links:
            info = {"attrs": [("IFLA_INFO_KIND", "bridge")]}
            attrs += [("IFLA_ADDRESS", mac), ("IFLA_LINKINFO", info)]
            netlink.request(
                encode(ifinfmsg, _NEWLINK, ACK | CREATE | EXCLUSIVE, attrs, header_flags=_UP, change=_UP)
            )
        else:
            netlink.request(encode(ifinfmsg, _NEWLINK, ACK, attrs, header_flags=_UP, change=_UP))
        return netlink.index(wish.name)
    except OSError as exc:
        raise StepError("create bridge", exc.errno or 0, wish.name, exc.strerror or "") from exc


def _sysctls(bridge: str) -> None:
    """Host settings. ``/proc/sys/net`` shows the namespace of the thread that opens it."""
    if write_sysctl(f"{_PROC}/ipv4/ip_forward", "1"):
        log.info("net.ipv4.ip_forward was off and is now on: pods need it (it stays on after teardown)")
    # 127.0.0.1:hostPort → pod; the table's guard chain keeps pods away from the host's 127/8
    write_sysctl(f"{_PROC}/ipv4/conf/{bridge}/route_localnet", "1")
    with contextlib.suppress(FileNotFoundError):  # no IPv6 on this host
        write_sysctl(f"{_PROC}/ipv6/conf/{bridge}/accept_ra", "0")
        write_sysctl(f"{_PROC}/ipv6/conf/{bridge}/accept_redirects", "0")


def write_sysctl(path: str, value: str) -> bool:
    """Write a sysctl that differs; whether it did. Raises StepError, or FileNotFoundError."""
    try:
        with open(path, encoding="ascii") as file:
            if file.read().strip() == value:
                return False
        with open(path, "w", encoding="ascii") as file:
            file.write(value)
    except FileNotFoundError:
        raise
    except OSError as exc:
        raise StepError("write sysctl", exc.errno or 0, path, exc.strerror or "") from exc
    return True


def remove(name: str) -> None:
    """Delete the bridge; a missing one is fine. Raises StepError."""
    with NetlinkSocket() as netlink:
        try:
            netlink.request(encode(ifinfmsg, _DELLINK, ACK, [("IFLA_IFNAME", name)]))
        except OSError as exc:
            if exc.errno != errno.ENODEV:
                raise StepError("remove bridge", exc.errno or 0, name, exc.strerror or "") from exc


def present(name: str) -> bool:
    """Whether the link exists in the caller's namespace (cheap: no netlink dump)."""
    try:
        return socket.if_nametoindex(name) > 0
    except OSError:
        return False
