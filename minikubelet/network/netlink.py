"""A blocking netlink socket, and messages made once by pyroute2 and then only patched.

pyroute2 encodes a veth request in 0.3 ms of Python, the kernel needs 0.5 ms to carry it out; so the
encoded bytes are kept and the few fields that differ from pod to pod are written over them.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

_HEADER = struct.Struct("=IHHII")  # struct nlmsghdr: length, type, flags, sequence, port
_SEQUENCE = struct.Struct("=I")
_ERROR = struct.Struct("=i")
_NLMSG_ERROR = 2
_NLMSG_DONE = 3
_RECEIVE = 1 << 17
_SIOCGIFINDEX = 0x8933
_SOL_NETLINK = 270
_NETLINK_EXT_ACK = 11
_NLMSGERR_ATTR_MSG = 1
_NLM_F_CAPPED = 0x100
_NLM_F_ACK_TLVS = 0x200

REQUEST = 0x1
ACK = 0x4
DUMP = 0x300
EXCLUSIVE = 0x200
REPLACE = 0x100
CREATE = 0x400


@dataclass(frozen=True)
class Slot:
    """A field to fill in: the unmistakable bytes that stand for it in the template."""

    name: str
    marker: bytes


class Template:
    """An encoded netlink message with slots. :meth:`fill` gives the bytes for one use."""

    def __init__(self, message: bytes, slots: list[Slot]) -> None:
        self._message = message
        self._offsets: list[tuple[str, int, int]] = []
        for slot in slots:
            if message.count(slot.marker) != 1:
                raise ValueError(f"marker of {slot.name} occurs {message.count(slot.marker)} times")
            self._offsets.append((slot.name, message.index(slot.marker), len(slot.marker)))

    def fill(self, **values: bytes) -> bytearray:
        """The message with every slot filled; a value must be as long as its marker."""
        message = bytearray(self._message)
        for name, offset, length in self._offsets:
            value = values[name]
            if len(value) != length:
                raise ValueError(f"{name} takes {length} bytes, not {len(value)}")
            message[offset : offset + length] = value
        return message


def encode(kind: type, message_type: int, flags: int, attrs: list[tuple[str, Any]], **fields: Any) -> bytes:
    """One message of the pyroute2 class ``kind``; ``fields`` are those of its fixed header.

    ``flags`` are the netlink flags; a fixed field of that name is given as ``header_flags``.
    """
    message = kind()
    for name, value in fields.items():
        message["flags" if name == "header_flags" else name] = value
    message["attrs"] = attrs
    message["header"] = {
        "type": message_type,
        "flags": flags | REQUEST,
        "sequence_number": 0,
        "pid": 0,
    }
    message.encode()
    return bytes(message.data)


class NetlinkSocket:
    """An AF_NETLINK socket used by one thread at a time; for routes unless told otherwise.

    It acts in the network namespace in which the socket was opened, whatever the caller's own is.
    """

    def __init__(self, fd: int | None = None, protocol: int = socket.NETLINK_ROUTE) -> None:
        """Open a socket in the caller's namespace, or use (a duplicate of) the open descriptor ``fd``."""
        kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC
        if fd is None:
            self._socket = socket.socket(socket.AF_NETLINK, kind, protocol)
            self._socket.bind((0, 0))
        else:
            duplicate = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 0)
            self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, protocol, fileno=duplicate)
            self._socket.setblocking(True)
        self._socket.setsockopt(_SOL_NETLINK, _NETLINK_EXT_ACK, 1)
        self._sequence = 1

    def close(self) -> None:
        """Close the socket (never the descriptor that was passed in)."""
        self._socket.close()

    def __enter__(self) -> NetlinkSocket:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def request(self, *messages: bytes | bytearray) -> None:
        """Send ``messages`` in one batch and wait until the kernel has carried out the last.

        The last must ask for an ACK. Raises OSError for the first that failed; those after it were tried too
        (netlink(7) batches are no transactions).
        """
        first = self._sequence
        batch = bytearray()
        for message in messages:
            patched = bytearray(message)
            _SEQUENCE.pack_into(patched, 8, self._sequence)
            self._sequence = (self._sequence + 1) & 0x7FFFFFFF
            batch += patched
        last = first + len(messages) - 1
        self._socket.send(batch)
        failure: OSError | None = None
        for sequence, body in self._replies(first, last):
            if body is not None:
                failure = failure or body
            if sequence == last:
                break
        if failure is not None:
            raise failure

    def dump(self, kind: type, message: bytes) -> list[Any]:
        """All objects a DUMP request answers, decoded as pyroute2 class ``kind``. Raises OSError."""
        found: list[Any] = []
        for raw in self.dump_raw(message):
            decoded = kind(raw)
            decoded.decode()
            found.append(decoded)
        return found

    def dump_raw(self, message: bytes) -> Iterator[bytes]:
        """The messages that answer a DUMP request, header included. Raises OSError."""
        patched = bytearray(message)
        sequence = self._sequence
        _SEQUENCE.pack_into(patched, 8, sequence)
        self._sequence = (self._sequence + 1) & 0x7FFFFFFF
        self._socket.send(patched)
        while True:
            data = self._socket.recv(_RECEIVE)
            for offset, length, message_type, _flags, number in _messages(data):
                if number != sequence:
                    continue
                if message_type in (_NLMSG_DONE, _NLMSG_ERROR):
                    code = _ERROR.unpack_from(data, offset + 16)[0] if length >= 20 else 0
                    if code < 0:
                        raise OSError(-code, os.strerror(-code))
                    return
                yield data[offset : offset + length]

    def index(self, name: str) -> int:
        """Interface index of ``name`` in the socket's namespace, without taking the rtnl lock.

        Raises OSError (ENODEV).
        """
        request = bytearray(struct.pack("16s24x", name.encode()))
        try:
            fcntl.ioctl(self._socket.fileno(), _SIOCGIFINDEX, request)
        except OSError as exc:
            raise OSError(exc.errno, exc.strerror, name) from exc
        return int(struct.unpack_from("i", request, 16)[0])

    def _replies(self, first: int, last: int) -> Iterator[tuple[int, OSError | None]]:
        while True:
            data = self._socket.recv(_RECEIVE)
            for offset, length, message_type, flags, sequence in _messages(data):
                if message_type != _NLMSG_ERROR or not first <= sequence <= last:
                    continue  # an answer to a batch that was given up before
                code = _ERROR.unpack_from(data, offset + 16)[0]
                yield sequence, _failure(data[offset : offset + length], code, flags) if code else None


def _messages(data: bytes) -> Iterator[tuple[int, int, int, int, int]]:
    offset = 0
    while offset + 16 <= len(data):
        length, message_type, flags, sequence, _port = _HEADER.unpack_from(data, offset)
        if length < 16:
            raise OSError(errno.EBADMSG, "short netlink message")
        yield offset, length, message_type, flags, sequence
        offset += (length + 3) & ~3


def _failure(message: bytes, code: int, flags: int) -> OSError:
    """The error with the kernel's own words (NLMSGERR_ATTR_MSG), when it has any."""
    text = os.strerror(-code)
    if flags & _NLM_F_ACK_TLVS:
        offset = 20 + 16
        if not flags & _NLM_F_CAPPED:
            offset = 20 + struct.unpack_from("=I", message, 20)[0]
        offset = (offset + 3) & ~3
        while offset + 4 <= len(message):
            length, kind = struct.unpack_from("=HH", message, offset)
            if length < 4:
                break
            if kind & 0x7FFF == _NLMSGERR_ATTR_MSG:
                detail = message[offset + 4 : offset + length].rstrip(b"\0").decode(errors="replace")
                text = f"{text}: {detail}"
            offset += (length + 3) & ~3
    return OSError(-code, text)
