"""Forget tracked UDP flows to host ports that have changed hands. Blocking.

A flow keeps the address translation it began with for as long as packets come. A client that sends to a
host port without a pause would go on talking to nobody (flow begun before the pod) or to an address that is
another pod's by now (flow begun before the pod went); TCP and SCTP connections end by themselves.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Collection, Iterator

from minikubelet.network.netlink import ACK, DUMP, REQUEST, NetlinkSocket

_NETLINK_NETFILTER = 12
# linux/netfilter/nfnetlink_conntrack.h: subsystem 1; messages GET 1, DELETE 2
_GET, _DELETE = 1 << 8 | 1, 1 << 8 | 2
_TUPLE_ORIGINAL, _TUPLE_PROTO = 1, 2
_PROTO_NUMBER, _PROTO_DESTINATION = 1, 3
_HEADERS = 16 + 4  # struct nlmsghdr, struct nfgenmsg
_TYPE_MASK = 0x3FFF


def forget_udp(ports: Collection[int], family: int = socket.AF_INET) -> int:
    """Delete the UDP flows of ``family`` whose first packet went to one of ``ports``. Raises OSError.

    Returns how many were deleted.
    """
    wanted = {struct.pack(">H", port) for port in ports}
    with NetlinkSocket(protocol=_NETLINK_NETFILTER) as netlink:
        found = [
            original
            for message in netlink.dump_raw(_message(_GET, DUMP, b"", family))
            if (original := _original(message)) and _is_udp_to(original, wanted)
        ]
        deleted = 0
        for original in found:
            attribute = struct.pack("=HH", len(original) + 4, _TUPLE_ORIGINAL | 0x8000) + original
            try:
                netlink.request(_message(_DELETE, ACK, attribute, family))
            except OSError as exc:
                if exc.errno != errno.ENOENT:  # it has timed out meanwhile
                    raise
            else:
                deleted += 1
        return deleted


def _message(kind: int, flags: int, attributes: bytes, family: int) -> bytes:
    header = struct.pack("=BBH", family, 0, 0)
    length = _HEADERS + len(attributes)
    return struct.pack("=IHHII", length, kind, flags | REQUEST, 0, 0) + header + attributes


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    offset = 0
    while offset + 4 <= len(data):
        length, kind = struct.unpack_from("=HH", data, offset)
        if length < 4:
            return
        yield kind & _TYPE_MASK, data[offset + 4 : offset + length]
        offset += (length + 3) & ~3


def _original(message: bytes) -> bytes:
    return next((data for kind, data in _attributes(message[_HEADERS:]) if kind == _TUPLE_ORIGINAL), b"")


def _is_udp_to(original: bytes, ports: set[bytes]) -> bool:
    for kind, data in _attributes(original):
        if kind == _TUPLE_PROTO:
            fields = dict(_attributes(data))
            udp = fields.get(_PROTO_NUMBER) == bytes([socket.IPPROTO_UDP])
            return udp and fields.get(_PROTO_DESTINATION) in ports
    return False
