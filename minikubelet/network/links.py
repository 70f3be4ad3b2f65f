"""The links of pods and the bridge: everything that speaks route netlink. Blocking, for a worker thread.

A pod costs two batches: one on the host's socket (a veth pair whose other end is born as eth0 inside the
pod's namespace, enslaved and up), one on a socket opened in the pod's namespace (lo and eth0 up, address,
default route). Nothing enters the namespace and nothing is forked.
"""

from __future__ import annotations

import errno
import hashlib
import ipaddress
import logging
import socket
import struct
from collections.abc import Iterable
from dataclasses import dataclass

from minikubelet.base.errors import StepError
from minikubelet.base.ids import short
from minikubelet.network.messages import ifaddrmsg, ifinfmsg, rtmsg
from minikubelet.network.netlink import (
    ACK,
    CREATE,
    EXCLUSIVE,
    NetlinkSocket,
    Slot,
    Template,
    encode,
)

log = logging.getLogger(__name__)

NEWLINK, DELLINK = 16, 17
NEWADDR = 20
NEWROUTE = 24
_UP = 1
_TABLE_MAIN = 254
_PROTOCOL_STATIC = 4
_TYPE_UNICAST = 1
_HAIRPIN = 1

_NAME = b"mkFEDCBA987654"
_MAC = "02:f1:e2:d3:c4:b5"
_FD = 0x7ACEF00D
_INDEX = 0x6ADEFACE
_ADDRESS = "203.0.113.77"
_ADDRESS6 = "2001:db8:fedc:ba98:7654:3210:fade:cafe"
_NODAD = 0x02  # IFA_F_NODAD, linux/if_addr.h


def _u32(value: int) -> bytes:
    return struct.pack("=I", value)


def _mac(text: str) -> bytes:
    return bytes.fromhex(text.replace(":", ""))


def host_link_name(sandbox_id: str) -> str:
    """Name of the host's end of a pod's veth: 14 bytes, ``mk`` and 12 digits of the sandbox."""
    digits = sandbox_id[:12]
    if len(digits) < 12 or not digits.isalnum():
        digits = hashlib.sha256(sandbox_id.encode()).hexdigest()[:12]
    return f"mk{digits}"


def pod_mac(address: str) -> bytes:
    """A locally administered MAC made of the address: neighbours' caches stay right when it is reused."""
    return b"\x02\x6d" + socket.inet_aton(address)


@dataclass(frozen=True)
class BridgeFacts:
    """The bridge that pods hang off."""

    name: str
    index: int
    subnet: ipaddress.IPv4Network
    gateway: str
    mtu: int
    prefix: ipaddress.IPv6Network | None = None
    """The pods' IPv6 network; None: they have IPv4 only."""


@dataclass(frozen=True)
class PodLink:
    """What one attachment needs to know."""

    sandbox_id: str
    address: str
    netns_fd: int
    netlink_fd: int
    hairpin: bool
    address6: str = ""
    """Given exactly when the bridge has a prefix."""


class PodLinks:
    """Makes and removes pods' veth pairs below one bridge. For one thread at a time."""

    def __init__(self, bridge: BridgeFacts) -> None:
        self._bridge = bridge
        self._host = NetlinkSocket()
        self._veth = _veth_template(bridge)
        self._hairpin = _hairpin_template()
        self._inside = _inside_templates(bridge)

    def close(self) -> None:
        """Close the host socket."""
        self._host.close()

    def add(self, pod: PodLink) -> None:
        """Connect the pod; on failure nothing of it is left. Raises StepError."""
        name = host_link_name(pod.sandbox_id)
        self._make_pair(pod, name)
        try:
            self._configure(pod)
        except BaseException:
            self._try_to_remove(name)
            raise

    def adopt(self, sandbox_ids: Iterable[str]) -> None:
        """Make the pods' links ports of the bridge again, if it was made anew. Missing ones are fine."""
        for sandbox_id in sandbox_ids:
            attrs = [("IFLA_IFNAME", host_link_name(sandbox_id)), ("IFLA_MASTER", self._bridge.index)]
            try:
                self._host.request(encode(ifinfmsg, NEWLINK, ACK, attrs))
            except OSError as exc:
                if exc.errno != errno.ENODEV:
                    log.warning("link of pod sandbox %s: %s", short(sandbox_id), exc)

    def remove(self, sandbox_id: str) -> None:
        """Delete the pair by its host end (16 ms in the kernel; only for undoing). A missing one is fine."""
        name = host_link_name(sandbox_id)
        try:
            self._delete(name)
        except OSError as exc:
            raise StepError("remove veth pair", exc.errno or 0, name, exc.strerror or "") from exc

    def _try_to_remove(self, name: str) -> None:
        try:
            self._delete(name)
        except OSError as exc:
            log.warning("link %s of a failed attachment can't be removed: %s", name, exc)

    def _delete(self, name: str) -> None:
        try:
            self._host.request(encode(ifinfmsg, DELLINK, ACK, [("IFLA_IFNAME", name)]))
        except OSError as exc:
            if exc.errno != errno.ENODEV:
                raise

    def _make_pair(self, pod: PodLink, name: str) -> None:
        pair = self._veth.fill(name=name.encode(), mac=pod_mac(pod.address), netns=_u32(pod.netns_fd))
        batch = [pair]
        if pod.hairpin:
            batch.append(self._hairpin.fill(name=name.encode()))
        try:
            self._host.request(*batch)
        except OSError as exc:
            if exc.errno != errno.EEXIST:  # then it isn't ours to remove
                self._try_to_remove(name)
            raise StepError("create veth pair", exc.errno or 0, name, exc.strerror or "") from exc

    def _configure(self, pod: PodLink) -> None:
        try:
            with NetlinkSocket(pod.netlink_fd) as inside:
                index = inside.index("eth0")
                address = socket.inet_aton(pod.address)
                six = socket.inet_pton(socket.AF_INET6, pod.address6) if pod.address6 else b""
                values = {"index": _u32(index), "address": address, "address6": six}
                inside.request(*(template.fill(**values) for template in self._inside))
        except OSError as exc:
            raise StepError("configure eth0", exc.errno or 0, pod.address, exc.strerror or "") from exc


def _veth_template(bridge: BridgeFacts) -> Template:
    peer = [
        ("IFLA_IFNAME", "eth0"),
        ("IFLA_MTU", bridge.mtu),
        ("IFLA_ADDRESS", _MAC),
        ("IFLA_NET_NS_FD", _FD),
    ]
    data = {"attrs": [("VETH_INFO_PEER", {"attrs": peer})]}
    info = {"attrs": [("IFLA_INFO_KIND", "veth"), ("IFLA_INFO_DATA", data)]}
    attrs = [
        ("IFLA_IFNAME", _NAME.decode()),
        ("IFLA_MTU", bridge.mtu),
        ("IFLA_MASTER", bridge.index),
        ("IFLA_LINKINFO", info),
    ]
    message = encode(ifinfmsg, NEWLINK, ACK | CREATE | EXCLUSIVE, attrs, header_flags=_UP, change=_UP)
    return Template(message, [Slot("name", _NAME), Slot("mac", _mac(_MAC)), Slot("netns", _u32(_FD))])


def _hairpin_template() -> Template:
    """A host port may lead a pod back to itself; with br_netfilter that needs hairpin mode on its port."""
    data = {"attrs": [("IFLA_BRPORT_MODE", _HAIRPIN)]}
    info = {"attrs": [("IFLA_INFO_SLAVE_KIND", "bridge"), ("IFLA_INFO_SLAVE_DATA", data)]}
    attrs = [("IFLA_IFNAME", _NAME.decode()), ("IFLA_LINKINFO", info)]
    return Template(encode(ifinfmsg, NEWLINK, ACK, attrs), [Slot("name", _NAME)])


def _inside_templates(bridge: BridgeFacts) -> list[Template]:
    """lo up; eth0 up; its addresses; the default routes. The last one is acknowledged for all."""
    index = Slot("index", _u32(_INDEX))
    lo = encode(ifinfmsg, NEWLINK, 0, [], index=1, header_flags=_UP, change=_UP)
    eth0 = encode(ifinfmsg, NEWLINK, 0, [], index=_INDEX, header_flags=_UP, change=_UP)
    address = encode(
        ifaddrmsg,
        NEWADDR,
        CREATE | EXCLUSIVE,
        [("IFA_LOCAL", _ADDRESS), ("IFA_BROADCAST", str(bridge.subnet.broadcast_address))],
        index=_INDEX,
        family=socket.AF_INET,
        prefixlen=bridge.subnet.prefixlen,
    )
    route = encode_default_route(bridge.gateway, _INDEX)
    return [
        Template(lo, []),
        Template(eth0, [index]),
        Template(address, [index, Slot("address", socket.inet_aton(_ADDRESS))]),
        *(_inside_templates6(bridge.prefix, index) if bridge.prefix is not None else ()),
        Template(route, [index]),
    ]


def _inside_templates6(prefix: ipaddress.IPv6Network, index: Slot) -> list[Template]:
    """eth0's IPv6 address, at once without looking for duplicates (leases are unique), and its route."""
    address = encode(
        ifaddrmsg,
        NEWADDR,
        CREATE | EXCLUSIVE,
        [("IFA_ADDRESS", _ADDRESS6)],
        index=_INDEX,
        family=socket.AF_INET6,
        prefixlen=prefix.prefixlen,
        header_flags=_NODAD,
    )
    route = encode_default_route(str(prefix[1]), _INDEX, socket.AF_INET6)
    slot = Slot("address6", socket.inet_pton(socket.AF_INET6, _ADDRESS6))
    return [Template(address, [index, slot]), Template(route, [index])]


def encode_default_route(gateway: str, index: int, family: int = socket.AF_INET) -> bytes:
    """RTM_NEWROUTE for 0.0.0.0/0 or ::/0 in the main table."""
    return encode(
        rtmsg,
        NEWROUTE,
        ACK | CREATE | EXCLUSIVE,
        [("RTA_GATEWAY", gateway), ("RTA_OIF", index)],
        family=family,
        dst_len=0,
        table=_TABLE_MAIN,
        proto=_PROTOCOL_STATIC,
        scope=0,
        type=_TYPE_UNICAST,
    )
