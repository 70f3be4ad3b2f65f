"""Typed messages with file descriptors over one SOCK_SEQPACKET socket.

A message is one packet; a body larger than :data:`INLINE_MAX` travels as a memfd (the first descriptor
of the packet, marked by the one-byte prefix), because a packet tops out near 208 KiB (unix(7), socket
buffer). Blocking or not is the socket's own setting.
"""

from __future__ import annotations

import array
import os
import socket
from collections.abc import Sequence

import msgspec

from minikubelet.wire.messages import AnyMessage, Message

INLINE_MAX = 60 * 1024
MAX_BODY = 64 << 20
MAX_FDS = 16

_PLAIN = b"\x01"
_MEMFD = b"\x02"
_encoder = msgspec.json.Encoder()
_decoder: msgspec.json.Decoder[AnyMessage] = msgspec.json.Decoder(AnyMessage)


class ChannelClosed(ConnectionError):
    """The other side has closed its end."""


class ProtocolError(Exception):
    """The other side sent something that is no message."""


def send(sock: socket.socket, message: Message, fds: Sequence[int] = ()) -> None:
    """Send one message and its descriptors (dup'ed by the kernel; the caller still owns its own).

    Raises BlockingIOError on a full non-blocking socket, OSError when the peer is gone.
    """
    body = _encoder.encode(message)
    if len(body) <= INLINE_MAX:
        _sendmsg(sock, _PLAIN + body, fds)
        return
    memfd = os.memfd_create("minikubelet-message", os.MFD_CLOEXEC)
    try:
        view = memoryview(body)
        while view:
            view = view[os.write(memfd, view) :]
        _sendmsg(sock, _MEMFD, [memfd, *fds])
    finally:
        os.close(memfd)


def _sendmsg(sock: socket.socket, data: bytes, fds: Sequence[int]) -> None:
    ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
    sock.sendmsg([data], ancillary, socket.MSG_NOSIGNAL)


def receive(sock: socket.socket) -> tuple[AnyMessage, list[int]]:
    """Receive one message and the descriptors that came with it (close-on-exec, now the caller's).

    Raises :class:`ChannelClosed` at the end, :class:`ProtocolError` on garbage, BlockingIOError when a
    non-blocking socket has nothing.
    """
    size = socket.CMSG_SPACE(MAX_FDS * 4)
    data, ancillary, flags, _ = sock.recvmsg(INLINE_MAX + 1, size, socket.MSG_CMSG_CLOEXEC)
    fds = descriptors(ancillary)
    try:
        if not data:
            raise ChannelClosed("channel closed by peer")
        if flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
            raise ProtocolError("message or its descriptors were truncated")
        body = _body(data, fds)
        return _decoder.decode(body), fds
    except BaseException as exc:
        for fd in fds:
            os.close(fd)
        if isinstance(exc, msgspec.MsgspecError):
            raise ProtocolError(str(exc)) from exc
        raise


def descriptors(ancillary: list[tuple[int, int, bytes]]) -> list[int]:
    """The descriptors in what recvmsg(2) has brought along."""
    fds = array.array("i")
    for level, kind, payload in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds.frombytes(payload[: len(payload) - len(payload) % fds.itemsize])
    return list(fds)


def _body(data: bytes, fds: list[int]) -> bytes:
    if data[:1] == _PLAIN:
        return data[1:]
    if data[:1] != _MEMFD or not fds:
        raise ProtocolError(f"unknown frame {data[:1]!r}")
    memfd = fds.pop(0)
    try:
        size = os.fstat(memfd).st_size
        if size > MAX_BODY:
            raise ProtocolError(f"message of {size} bytes is over the limit of {MAX_BODY}")
        return os.pread(memfd, size, 0)
    finally:
        os.close(memfd)
