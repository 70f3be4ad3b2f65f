"""Content-addressed files: ``ROOT/blobs/ALGORITHM/HEX``, written under ``ROOT/ingest`` until verified."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import os
import shutil
from collections.abc import Callable, Iterator, Sequence

from minikubelet.images.documents import bad_content

READ = 4 << 20


class Ingest:
    """A blob that is arriving. Written from one thread at a time; read by others through :meth:`open`."""

    def __init__(self, path: str, digest: str, size: int, *, resume: bool = False) -> None:
        self.path = path
        self.digest = digest
        self.size = size
        self.offset = 0
        self.listeners: list[Callable[[], None]] = []
        """Called (in the event loop) when the file has grown."""
        self._hash = hashlib.new(digest.partition(":")[0])
        self.resumed = 0
        """Bytes that an earlier download left; only with ``resume`` can there be any."""
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        self._fd = os.open(path, flags if resume else flags | os.O_EXCL, 0o600)
        if os.fstat(self._fd).st_size > size:
            os.ftruncate(self._fd, 0)

    def resume(self) -> None:
        """Hash what is there already and go on behind it; meant for a worker thread. Raises OSError."""
        while chunk := os.read(self._fd, READ):
            self._hash.update(chunk)
            self.offset += len(chunk)
        self.resumed = self.offset

    def write(self, chunks: Sequence[bytes]) -> None:
        """Append and hash; meant for a worker thread. Raises OSError."""
        for start in range(0, len(chunks), 64):
            group = chunks[start : start + 64]
            written = os.writev(self._fd, group)
            total = sum(map(len, group))
            if written < total:
                rest = memoryview(b"".join(group))[written:]
                while rest:
                    rest = rest[os.write(self._fd, rest) :]
            for chunk in group:
                self._hash.update(chunk)
            self.offset += total

    def announce(self) -> None:
        """Tell the listeners that there is more."""
        for listener in self.listeners:
            listener()

    def open(self) -> int:
        """A descriptor of its own for reading."""
        return os.open(self.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)

    def verify(self, source: str) -> None:
        """Raise NodeError(FAILED_PRECONDITION) unless size and digest are what they must be."""
        if self.offset != self.size:
            raise bad_content(f"{source} sent {self.offset} bytes of {self.digest}, which has {self.size}")
        got = f"{self._hash.name}:{self._hash.hexdigest()}"
        if got != self.digest:
            raise bad_content(f"{source} sent content with digest {got} for {self.digest}")

    def close(self, *, keep: bool = False) -> None:
        """Close and remove the file, unless it was committed or shall be kept. Idempotent."""
        if self._fd < 0:
            return  # the path may be another's by now
        os.close(self._fd)
        self._fd = -1
        if not keep:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self.path)


class BlobStore:
    """The folder of blobs. What is in it was verified when it was put there."""

    def __init__(self, root: str) -> None:
        self._blobs = f"{root}/blobs"
        self._ingest = f"{root}/ingest"
        self._numbers = itertools.count(1)

    def start(self) -> None:
        """Make the folders, drop what was arriving when the last daemon ended."""
        for folder in (self._blobs, f"{self._blobs}/sha256", f"{self._blobs}/sha512", self._ingest):
            os.makedirs(folder, mode=0o700, exist_ok=True)
        for name in os.listdir(self._ingest):
            path = f"{self._ingest}/{name}"
            if os.path.isdir(path):
                shutil.rmtree(path)
            else:
                os.unlink(path)

    def path(self, digest: str) -> str:
        """Where ``digest`` (checked by the caller) is or would be."""
        return f"{self._blobs}/{digest.replace(':', '/')}"

    def has(self, digest: str, size: int) -> bool:
        """Whether the blob is there in its full size."""
        try:
            return os.stat(self.path(digest), follow_symlinks=False).st_size == size
        except FileNotFoundError:
            return False

    def read(self, digest: str, limit: int) -> bytes:
        """A small blob's content, verified again. Raises OSError, NodeError(FAILED_PRECONDITION)."""
        with open(self.path(digest), "rb", buffering=0) as file:
            data = file.read(limit + 1) or b""
        verify_bytes(data, digest, "the store")
        return data

    def open(self, digest: str) -> int:
        """A descriptor for reading. Raises OSError."""
        return os.open(self.path(digest), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)

    def ingest(self, digest: str, size: int) -> Ingest:
        """Begin a blob. Raises OSError."""
        return Ingest(f"{self._ingest}/{next(self._numbers)}-{os.getpid()}", digest, size)

    def commit(self, ingest: Ingest, source: str) -> None:
        """Verify a blob and put it in its place. Raises NodeError(FAILED_PRECONDITION), OSError."""
        ingest.verify(source)
        os.rename(ingest.path, self.path(ingest.digest))

    def put(self, digest: str, data: bytes) -> None:
        """Store a small blob that was verified already. Raises OSError."""
        ingest = self.ingest(digest, len(data))
        try:
            ingest.write([data])
            self.commit(ingest, "the store")
        finally:
            ingest.close()

    def adopt(self, path: str, digest: str) -> None:
        """Put a file whose digest was computed as it was written in its place. Raises OSError."""
        os.rename(path, self.path(digest))

    def scratch(self) -> str:
        """A new folder for spooling; ``start`` removes it if the caller can't. Raises OSError."""
        folder = f"{self._ingest}/{next(self._numbers)}-{os.getpid()}.d"
        os.mkdir(folder, 0o700)
        return folder

    def remove(self, digest: str) -> None:
        """Remove a blob; missing is fine."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.path(digest))

    def digests(self) -> Iterator[str]:
        """All blobs that are there."""
        for algorithm in ("sha256", "sha512"):
            for name in os.listdir(f"{self._blobs}/{algorithm}"):
                yield f"{algorithm}:{name}"


def verify_bytes(data: bytes, digest: str, source: str) -> None:
    """Raise NodeError(FAILED_PRECONDITION) unless ``data`` hashes to ``digest``."""
    algorithm, _, value = digest.partition(":")
    got = hashlib.new(algorithm, data).hexdigest()
    if got != value:
        raise bad_content(f"{source} sent content with digest {algorithm}:{got} for {digest}")
