"""Dual stack: the pods' IPv6 prefix, the bridge's address in it and the host's IPv6 settings.

Everything here is for ``network.ipv6`` other than ``off``; with ``off`` none of it runs. A pod's IPv6 address
is the prefix and the number its IPv4 address has in the IPv4 subnet, so that one choice serves both.
"""

from __future__ import annotations

import ipaddress
import logging
import os
import secrets
import socket

from minikubelet.base.errors import invalid, precondition
from minikubelet.network.addresses import set_address
from minikubelet.network.bridge import write_sysctl
from minikubelet.network.links import BridgeFacts
from minikubelet.network.messages import ifaddrmsg, rtmsg
from minikubelet.network.netlink import DUMP, NetlinkSocket, encode

log = logging.getLogger(__name__)

_PROC = "/proc/sys/net/ipv6/conf"
_GETADDR = 22
_GETROUTE = 26


def random_prefix() -> ipaddress.IPv6Network:
    """A /64 of unique local addresses: fd00::/8, 40 random bits, subnet 0 (RFC 4193, section 3.2)."""
    return ipaddress.IPv6Network((0xFD << 120 | secrets.randbits(40) << 80, 64))


def usable() -> bool:
    """Whether the kernel has IPv6 and the caller's namespace has it on."""
    try:
        with open(f"{_PROC}/all/disable_ipv6", encoding="ascii") as file:
            return file.read().strip() == "0"
    except FileNotFoundError:
        return False


def ensure(bridge: BridgeFacts, prefix: ipaddress.IPv6Network) -> None:
    """Give the bridge the first address of ``prefix`` and have the host forward IPv6. Blocking.

    Raises StepError, or NodeError when something of the host overlaps the prefix.
    """
    if prefix.num_addresses < bridge.subnet.num_addresses:
        raise invalid("network.ipv6", f"{prefix} holds fewer addresses than {bridge.subnet}")
    for name, value in (("disable_ipv6", "0"), ("accept_ra", "0"), ("accept_dad", "0")):
        write_sysctl(f"{_PROC}/{bridge.name}/{name}", value)
    with NetlinkSocket() as netlink:
        rival = _overlapping(netlink, prefix, bridge.index)
        if rival:
            raise precondition(f"network.ipv6: pod prefix {prefix} overlaps {rival} of this host")
        present = [
            each for link, each in _addresses(netlink) if link == bridge.index and not each.is_link_local
        ]
        set_address(netlink, bridge.index, ipaddress.IPv6Interface((prefix[1], prefix.prefixlen)), present)
    _forward(bridge.name)


def _addresses(netlink: NetlinkSocket) -> list[tuple[int, ipaddress.IPv6Interface]]:
    request = encode(ifaddrmsg, _GETADDR, DUMP, [], family=socket.AF_INET6)
    return [
        (
            int(found["index"]),
            ipaddress.IPv6Interface(f"{found.get_attr('IFA_ADDRESS')}/{found['prefixlen']}"),
        )
        for found in netlink.dump(ifaddrmsg, request)
    ]


def _overlapping(netlink: NetlinkSocket, prefix: ipaddress.IPv6Network, but_link: int) -> str:
    for index, address in _addresses(netlink):
        if index != but_link and address.network.overlaps(prefix):
            return f"address {address}"
    for route in netlink.dump(rtmsg, encode(rtmsg, _GETROUTE, DUMP, [], family=socket.AF_INET6)):
        if not route["dst_len"] or int(route.get_attr("RTA_OIF") or 0) == but_link:
            continue
        network = ipaddress.IPv6Network(f"{route.get_attr('RTA_DST')}/{route['dst_len']}", strict=False)
        if network.overlaps(prefix):
            return f"route {network}"
    return ""


def _forward(bridge: str) -> None:
    """Switch IPv6 forwarding on; links that believe router advertisements go on believing them.

    Forwarding is one switch for all links. A link that forwards ignores advertisements unless its
    ``accept_ra`` is 2 (Documentation/networking/ip-sysctl.rst), and a host that lost its default route
    because a pod started would be cut off; so 1 becomes 2 first, and nothing else about them changes.
    """
    with open(f"{_PROC}/all/forwarding", encoding="ascii") as file:
        if file.read().strip() == "1":
            return
    for link in os.listdir(_PROC):
        if link in ("all", "default", "lo", bridge):
            continue
        try:
            with open(f"{_PROC}/{link}/accept_ra", encoding="ascii") as file:
                accepts = file.read().strip() == "1"
            if accepts:
                write_sysctl(f"{_PROC}/{link}/accept_ra", "2")
        except FileNotFoundError:  # it has gone meanwhile
            continue
    write_sysctl(f"{_PROC}/all/forwarding", "1")
    log.info(
        "net.ipv6.conf.all.forwarding was off and is now on: pods need it (it stays on after teardown); "
        "accept_ra of the links that accepted router advertisements is now 2"
    )
