"""An image archive's files: a tar stream of any compression, spooled file by file with digests computed."""

from __future__ import annotations

import asyncio
import concurrent.futures
import hashlib
import os
import posixpath
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field

from minikubelet.images.documents import bad_content
from minikubelet.images.extract import ChunkReader, clean
from minikubelet.images.plainstream import Bounds, StreamError, decompress
from minikubelet.images.tarheader import BLOCK, DIRECTORY, HARDLINK, REGULAR, SYMLINK, HeaderReader, TarError

MAX_MEMBERS = 100_000
MAX_LINKS = 8


@dataclass(frozen=True)
class Member:
    """A regular file of the archive, kept in a file of its own."""

    path: str
    digest: str
    size: int


@dataclass
class Archive:
    """What an archive held, by normalised name."""

    members: dict[str, Member] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)
    """Symbolic and hard links (older ``docker save`` links equal layers): name → name."""

    def get(self, name: str) -> Member | None:
        """The file ``name`` is or links to."""
        name = posixpath.normpath(name)
        for _ in range(MAX_LINKS):
            if name not in self.links:
                break
            name = self.links[name]
        return self.members.get(name)

    def need(self, name: str) -> Member:
        """As ``get``; raises NodeError(FAILED_PRECONDITION) where the archive lacks it."""
        member = self.get(name)
        if member is None:
            raise bad_content(f"the archive lacks {name[:200]!r}")
        return member

    def read(self, name: str, limit: int) -> bytes:
        """A small file's content. Raises NodeError(FAILED_PRECONDITION)."""
        member = self.need(name)
        if member.size > limit:
            raise bad_content(f"{name[:200]!r} in the archive is larger than {limit} bytes")
        with open(member.path, "rb", buffering=0) as file:
            return file.read(limit + 1) or b""


def unpack_archive(read: Callable[[int], bytes], folder: str) -> Archive:
    """Spool the archive that ``read`` yields into files under ``folder``; blocks.

    Names in the archive are never file names: the files are numbered. Raises NodeError(FAILED_PRECONDITION)
    for a malformed archive, OSError.
    """
    try:
        return _Spooler(read, folder).run()
    except (TarError, StreamError) as exc:
        raise bad_content(f"not an image archive: {exc}") from None


class Feed:
    """Lets a thread read what an asynchronous iterator yields in the event loop where this was made."""

    def __init__(self, stream: AsyncIterator[bytes]) -> None:
        self._stream = stream
        self._loop = asyncio.get_running_loop()
        self._pending: concurrent.futures.Future[bytes] | None = None
        self._stopped = False

    def read(self, _: int) -> bytes:
        """The next chunk, whatever its size; empty at the end. Raises StreamError once stopped."""
        if not self._stopped:
            self._pending = asyncio.run_coroutine_threadsafe(self._next(), self._loop)
            try:
                return self._pending.result()
            except concurrent.futures.CancelledError:
                pass
        raise StreamError("given up")

    def stop(self) -> None:
        """Let the thread fail at its next read, or the one it waits in."""
        self._stopped = True
        if self._pending is not None:
            self._pending.cancel()

    async def _next(self) -> bytes:
        if self._stopped:
            raise StreamError("given up")
        async for chunk in self._stream:
            if chunk:
                return bytes(chunk)
        return b""


class _Spooler:
    def __init__(self, read: Callable[[int], bytes], folder: str) -> None:
        self._folder = folder
        self._raw = 0
        self._plain = 0
        self._bounds = Bounds()
        self._read = read
        self._reader = ChunkReader(self._chunks())

    def _counted(self, length: int) -> bytes:
        data = self._read(length)
        self._raw += len(data)
        return data

    def _chunks(self) -> Iterator[bytes]:
        for chunk in decompress(self._counted):
            self._plain += len(chunk)
            self._bounds.check(self._raw, self._plain)
            yield chunk

    def run(self) -> Archive:
        archive = Archive()
        headers = HeaderReader(self._reader.read)
        while (entry := headers.next()) is not None:
            name = clean(entry.name).decode("utf-8", "surrogateescape")
            if entry.type == REGULAR:
                archive.members[name] = self._spool(name, len(archive.members), entry.size)
                archive.links.pop(name, None)
            elif entry.type in (SYMLINK, HARDLINK):
                target = entry.linkname.decode("utf-8", "surrogateescape")
                base = posixpath.dirname(name) if entry.type == SYMLINK else ""
                archive.links[name] = posixpath.normpath(posixpath.join(base, target))
            elif entry.type != DIRECTORY:
                raise TarError(f"{name[:200]!r} is neither file, folder nor link")
            if len(archive.members) + len(archive.links) > MAX_MEMBERS:
                raise TarError(f"more than {MAX_MEMBERS} files")
        if not archive.members:
            raise TarError("it is empty")
        self._reader.drain()
        return archive

    def _spool(self, name: str, number: int, size: int) -> Member:
        algorithm = "sha512" if name.startswith("blobs/sha512/") else "sha256"
        digest = hashlib.new(algorithm)
        path = f"{self._folder}/{number}"
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            left = size
            while left:
                part = self._reader.some(left)
                if not part:
                    raise TarError("archive is truncated")
                left -= len(part)
                digest.update(part)
                while (written := os.write(fd, part)) < len(part):
                    part = part[written:]
        finally:
            os.close(fd)
        self._reader.skip(-size % BLOCK)
        return Member(path, f"{algorithm}:{digest.hexdigest()}", size)
