"""The daemon's side of unpacking: run a worker on a blob (that may still be arriving) and check its report.

The daemon never forks: posix_spawn(3) with CLONE_VFORK executes the worker at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import logging
import os
import signal
import sys
from dataclasses import asdict, dataclass, field

import msgspec

import minikubelet
from minikubelet.base.errors import Code, NodeError, StepError
from minikubelet.images.documents import bad_content
from minikubelet.images.layertree import LayerTree
from minikubelet.images.plainstream import Bounds
from minikubelet.images.unpacker import Job

log = logging.getLogger(__name__)

MAX_REPORT = 64 << 20
_CODE = "import sys; sys.path.append({path!r}); from minikubelet.images.unpacker import main; main()"


class UnpackReport(msgspec.Struct, frozen=True):
    """What a worker says; paths are bytes that were decoded as latin-1."""

    diff_id: str = ""
    plain_size: int = 0
    bytes: int = 0
    inodes: int = 0
    entries: int = 0
    implicit: list[str] = []
    opaque: list[str] = []
    error: str = ""
    message: str = ""
    errno: int = 0


@dataclass(frozen=True)
class UnpackRequest:
    """One layer to unpack."""

    blob_fd: int
    """Open for reading; may still grow up to ``size``."""
    size: int
    folder: str
    """Empty, exists."""
    diff_id: str
    """What the plain stream must hash to."""
    zstd: bool = False
    bounds: Bounds = field(default_factory=Bounds)


class Worker:
    """A running unpacker process. Use: ``start``, any number of ``wake``, ``finish`` or ``abort``."""

    def __init__(self, request: UnpackRequest) -> None:
        self._request = request
        self._wake_fd = -1
        self._report_fd = -1
        self._pid = 0
        self._pidfd = -1

    def start(self) -> None:
        """Execute the worker. Raises OSError."""
        request = self._request
        bounds = request.bounds
        job = Job(
            size=request.size,
            algorithm=request.diff_id.partition(":")[0],
            zstd=request.zstd,
            plain_limit=bounds.plain,
            free_ratio=bounds.free_ratio,
            ratio=bounds.ratio,
        )
        wake_read, self._wake_fd = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._report_fd, report_write = os.pipe2(os.O_CLOEXEC)
        root_fd = os.open(request.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        null = os.open("/dev/null", os.O_WRONLY | os.O_CLOEXEC)
        os.set_blocking(wake_read, True)
        os.set_blocking(self._report_fd, False)
        sources = [wake_read, report_write, null, root_fd, request.blob_fd]
        try:
            self._spawn(sources, json.dumps(asdict(job)))
        finally:
            for fd in sources[:-1]:
                os.close(fd)
        self._pidfd = os.pidfd_open(self._pid)

    def _spawn(self, sources: list[int], job: str) -> None:
        """Descriptors 0… of the child become ``sources``; the copies keep dup2 from treading on its own."""
        copies: list[int] = []
        try:
            for fd in sources:
                copies.append(fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 16))
            actions = [(os.POSIX_SPAWN_DUP2, copy, number) for number, copy in enumerate(copies)]
            folder = os.path.dirname(os.path.dirname(os.path.abspath(minikubelet.__file__)))
            argv = [sys.executable, "-I", "-c", _CODE.format(path=folder), job]
            everything = set(range(1, signal.NSIG)) - {signal.SIGKILL, signal.SIGSTOP, 32, 33}
            self._pid = os.posix_spawn(
                sys.executable,
                argv,
                {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"},
                file_actions=actions,
                setsigmask=[],
                setsigdef=everything,
                setpgroup=0,
            )
        finally:
            for fd in copies:
                os.close(fd)

    def wake(self) -> None:
        """Tell that the blob has grown; never blocks (a full pipe means that the worker will look anyway)."""
        if self._wake_fd >= 0:
            with contextlib.suppress(BlockingIOError, BrokenPipeError):
                os.write(self._wake_fd, b"\0")

    async def finish(self) -> UnpackReport:
        """Wait for the report and the process's end. Raises NodeError; cancellation kills the worker."""
        try:
            data = await _read_all(self._report_fd)
            await _readable(self._pidfd)
        finally:
            self.abort()
        return self._checked(data)

    def abort(self) -> None:
        """Kill the worker if it still runs, reap it, close descriptors. Idempotent."""
        if self._pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGKILL)
            # It has no child to wait for and is out of any uninterruptible call soon: this returns at once.
            with contextlib.suppress(ChildProcessError):
                os.waitpid(self._pid, 0)
            self._pid = 0
        for fd in (self._wake_fd, self._report_fd, self._pidfd):
            if fd >= 0:
                os.close(fd)
        self._wake_fd = self._report_fd = self._pidfd = -1

    def _checked(self, data: bytes) -> UnpackReport:
        try:
            report = msgspec.json.decode(data, type=UnpackReport)
        except msgspec.MsgspecError:
            raise NodeError(Code.INTERNAL, "the process that unpacks layers died without a report") from None
        if report.error == "content":
            raise bad_content(report.message)
        if report.error == "system":
            raise StepError("unpack layer", report.errno, detail=report.message)
        if report.error:
            raise NodeError(Code.INTERNAL, f"unpack layer: {report.message}")
        if report.diff_id != self._request.diff_id:
            raise bad_content(f"layer unpacks to {report.diff_id}, the config says {self._request.diff_id}")
        return report


def mark_opaque(folder: str, paths: list[str]) -> None:
    """Set overlayfs's opaque mark; the worker may not (trusted.* takes CAP_SYS_ADMIN). Raises OSError."""
    root_fd = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    tree = LayerTree(root_fd)
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        for path in paths:
            parent, _, name = path.encode("latin-1").rpartition(b"/")
            fd = os.open(name, flags, dir_fd=tree.directory(parent, create=False)[0])
            try:
                os.setxattr(fd, "trusted.overlay.opaque", b"y")
            finally:
                os.close(fd)
    finally:
        tree.close()
        os.close(root_fd)


async def _read_all(fd: int) -> bytes:
    parts: list[bytes] = []
    size = 0
    while True:
        await _readable(fd)
        part = os.read(fd, 1 << 16)
        if not part:
            return b"".join(parts)
        parts.append(part)
        size += len(part)
        if size > MAX_REPORT:
            return b""


async def _readable(fd: int) -> None:
    loop = asyncio.get_running_loop()
    future: asyncio.Future[None] = loop.create_future()

    def done() -> None:
        if not future.done():
            future.set_result(None)

    loop.add_reader(fd, done)
    try:
        await future
    finally:
        loop.remove_reader(fd)
