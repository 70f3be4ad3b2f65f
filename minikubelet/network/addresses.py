"""The addresses of a link, over rtnetlink(7). Blocking."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterable

from minikubelet.base.errors import StepError
from minikubelet.network.messages import ifaddrmsg
from minikubelet.network.netlink import ACK, CREATE, EXCLUSIVE, NetlinkSocket, encode

_NEWADDR, _DELADDR = 20, 21
_NODAD = 0x02  # IFA_F_NODAD, linux/if_addr.h

Interface = ipaddress.IPv4Interface | ipaddress.IPv6Interface


def set_address(netlink: NetlinkSocket, index: int, wanted: Interface, present: Iterable[Interface]) -> None:
    """Give link ``index`` the address ``wanted`` in place of the ``present`` ones. Raises StepError."""
    have = False
    try:
        for address in present:
            if address == wanted:
                have = True
            else:
                netlink.request(_message(_DELADDR, ACK, index, address))
        if not have:
            netlink.request(_message(_NEWADDR, ACK | CREATE | EXCLUSIVE, index, wanted))
    except OSError as exc:
        raise StepError("set bridge address", exc.errno or 0, str(wanted), exc.strerror or "") from exc


def _message(kind: int, flags: int, index: int, address: Interface) -> bytes:
    if isinstance(address, ipaddress.IPv4Interface):
        attrs = [("IFA_LOCAL", str(address.ip)), ("IFA_BROADCAST", str(address.network.broadcast_address))]
        family, more = socket.AF_INET, 0
    else:
        attrs = [("IFA_ADDRESS", str(address.ip))]
        family, more = socket.AF_INET6, _NODAD
    prefix = address.network.prefixlen
    return encode(
        ifaddrmsg, kind, flags, attrs, index=index, family=family, prefixlen=prefix, header_flags=more
    )
