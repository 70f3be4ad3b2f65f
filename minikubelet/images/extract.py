"""A layer's tar stream into a folder, as overlayfs wants it: whiteouts, opaque directories, all metadata.

Sources: OCI image-spec layer.md (changesets, whiteouts), kernel Documentation/filesystems/overlayfs.rst.
Runs in the unpacker process as root of the layer; every write goes through a directory descriptor that
:class:`LayerTree` handed out and a name without a slash.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field

from minikubelet.images.layertree import LayerTree, is_whiteout, show
from minikubelet.images.tarheader import (
    BLOCK,
    BLOCKDEV,
    CHAR,
    DIRECTORY,
    FIFO,
    HARDLINK,
    REGULAR,
    SYMLINK,
    Entry,
    HeaderReader,
    TarError,
)

MAX_ENTRIES = 1_000_000
MAX_PATH = 4095
"""Bytes of a name; no program could use a longer one (PATH_MAX, path_resolution(7))."""
MAX_NOTED = 100_000
"""Implicit or opaque directories of a layer; they travel in the report."""
_PREFIX = b".wh."
_META = b".wh..wh."
_OPAQUE = b".wh..wh..opq"
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_KEPT_XATTRS = ("security.capability", "system.posix_acl_access", "system.posix_acl_default")


@dataclass
class Report:
    """What was unpacked."""

    disk: int = 0
    """Disk use: sizes rounded up to 4 KiB, 4 KiB a directory."""
    inodes: int = 0
    entries: int = 0
    implicit: list[bytes] = field(default_factory=list)
    """Directories that had no entry, parents first: a lower layer may know their attributes."""
    opaque: list[bytes] = field(default_factory=list)
    """Directories to be marked opaque, by someone who may set trusted.* attributes."""


class ChunkReader:
    """Exact reads over an iterator of byte chunks, without joining more than asked for."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._buffer = b""
        self._position = 0

    def read(self, length: int) -> bytes:
        """Exactly ``length`` bytes; empty at the very end; raises TarError for a partial read."""
        end = self._position + length
        if end <= len(self._buffer):
            data = self._buffer[self._position : end]
            self._position = end
            return data
        parts: list[bytes | memoryview] = []
        missing = length
        while missing:
            part = self.some(missing)
            if not part:
                if missing == length:
                    return b""
                raise TarError("archive is truncated")
            parts.append(part)
            missing -= len(part)
        return b"".join(parts)

    def some(self, limit: int) -> memoryview:
        """Between 1 and ``limit`` bytes; empty at the end."""
        while self._position >= len(self._buffer):
            chunk = next(self._chunks, None)
            if chunk is None:
                return memoryview(b"")
            self._buffer = chunk
            self._position = 0
        part = memoryview(self._buffer)[self._position : self._position + limit]
        self._position += len(part)
        return part

    def skip(self, length: int) -> None:
        """Pass over ``length`` bytes; raises TarError if there are fewer."""
        end = self._position + length
        if end <= len(self._buffer):
            self._position = end
            return
        while length:
            part = self.some(length)
            if not part:
                raise TarError("archive is truncated")
            length -= len(part)

    def drain(self) -> None:
        """Read to the end: what follows the archive counts for the digest."""
        while self.some(1 << 30):
            pass


def extract(chunks: Iterator[bytes], root_fd: int) -> Report:
    """Unpack the tar stream ``chunks`` under ``root_fd`` and read it to its end.

    Raises TarError or TreeError for a bad archive, OSError from the kernel (ENOSPC …). The caller throws
    the folder away then. The process's umask should be 0.
    """
    extractor = _Extractor(ChunkReader(chunks), root_fd)
    try:
        return extractor.run()
    finally:
        extractor.tree.close()


@dataclass(frozen=True)
class _DirectoryAttributes:
    """Set last: making entries changes times; owner, setgid bit and default ACL would be inherited."""

    mode: int
    uid: int
    gid: int
    mtime_ns: int
    xattrs: dict[str, bytes] | None


class _Extractor:
    def __init__(self, reader: ChunkReader, root_fd: int) -> None:
        self.tree = LayerTree(root_fd)
        self._reader = reader
        self._report = Report()
        self._directories: dict[bytes, _DirectoryAttributes] = {}
        self._parent = b""
        self._parent_fd = root_fd
        self._resolved = b""

    def run(self) -> Report:
        headers = HeaderReader(self._reader.read)
        report = self._report
        while (entry := headers.next()) is not None:
            report.entries += 1
            if report.entries > MAX_ENTRIES:
                raise TarError(f"layer has more than {MAX_ENTRIES} entries")
            try:
                self._apply(entry)
            except OSError as exc:
                raise _named(exc, entry.name) from exc
        self._reader.drain()
        self._finish_directories()
        report.implicit = sorted(self.tree.implicit)
        report.opaque = sorted(self.tree.opaque)
        report.inodes += len(report.implicit)
        report.disk += len(report.implicit) * 4096
        return report

    def _apply(self, entry: Entry) -> None:
        path = clean(entry.name)
        parent, _, name = path.rpartition(b"/")
        if not path:
            if entry.type != DIRECTORY:
                raise TarError("the root of the layer is not a directory")
            self._note_directory(b"", entry)
            return
        if parent != self._parent:
            self._enter(parent)
        if name.startswith(_PREFIX):
            self._whiteout(name, parent)
            self._skip_data(entry)
            return
        fd, path = self._parent_fd, (self._resolved + b"/" + name if self._resolved else name)
        if entry.type == REGULAR:
            self._regular(entry, fd, name, path)
        elif entry.type == DIRECTORY:
            self._directory(entry, fd, name, path)
        else:
            self._special(entry, name, path)

    def _enter(self, parent: bytes) -> None:
        self._parent_fd, self._resolved = self.tree.directory(parent, create=True)
        self._parent = parent
        if len(self.tree.implicit) > MAX_NOTED or len(self.tree.opaque) > MAX_NOTED:
            raise TarError(f"layer leaves out more than {MAX_NOTED} directories")

    def _skip_data(self, entry: Entry) -> None:
        self._reader.skip(-(-entry.size // BLOCK) * BLOCK)

    def _regular(self, entry: Entry, dir_fd: int, name: bytes, path: bytes) -> None:
        try:
            fd = os.open(name, _CREATE, entry.mode & 0o777, dir_fd=dir_fd)
        except FileExistsError:
            self._clear(dir_fd, name, path)
            fd = os.open(name, _CREATE, entry.mode & 0o777, dir_fd=dir_fd)
        try:
            left = entry.size
            while left:
                part = self._reader.some(left)
                if not part:
                    raise TarError(f"archive is truncated in {show(path)}")
                left -= len(part)
                while (written := os.write(fd, part)) < len(part):
                    part = part[written:]
            if entry.uid or entry.gid:
                os.fchown(fd, entry.uid, entry.gid)
            if entry.mode & 0o7000:
                os.fchmod(fd, entry.mode)
            if entry.xattrs:
                set_xattrs(fd, entry.xattrs)
            os.utime(fd, ns=(entry.mtime_ns, entry.mtime_ns))
        finally:
            os.close(fd)
        padding = -entry.size % BLOCK
        if padding:
            self._reader.skip(padding)
        self._count(entry.size)

    def _directory(self, entry: Entry, dir_fd: int, name: bytes, path: bytes) -> None:
        try:
            os.mkdir(name, 0o755, dir_fd=dir_fd)
            self._count(4096)
        except FileExistsError:
            status = os.stat(name, dir_fd=dir_fd, follow_symlinks=False)
            if stat.S_ISDIR(status.st_mode):
                if path in self.tree.implicit:
                    self.tree.implicit.discard(path)
                    self._count(4096)
            else:
                self._clear(dir_fd, name, path)
                os.mkdir(name, 0o755, dir_fd=dir_fd)
                self._count(4096)
                if is_whiteout(status):
                    self.tree.opaque.add(path)
        self._note_directory(path, entry)

    def _note_directory(self, path: bytes, entry: Entry) -> None:
        self._directories[path] = _DirectoryAttributes(
            entry.mode, entry.uid, entry.gid, entry.mtime_ns, entry.xattrs
        )

    def _special(self, entry: Entry, name: bytes, path: bytes) -> None:
        make = self._hardlink if entry.type == HARDLINK else _make_node
        try:
            make(entry, self._parent_fd, name)
        except FileExistsError:
            if entry.type == HARDLINK and clean(entry.linkname) == clean(entry.name):
                return
            self._clear(self._parent_fd, name, path)
            make(entry, self._parent_fd, name)
        if entry.type == HARDLINK:
            return
        dir_fd = self._parent_fd
        if entry.uid or entry.gid:
            os.chown(name, entry.uid, entry.gid, dir_fd=dir_fd, follow_symlinks=False)
        if entry.type != SYMLINK and entry.mode & 0o7000:
            os.chmod(name, entry.mode, dir_fd=dir_fd)
        os.utime(name, ns=(entry.mtime_ns, entry.mtime_ns), dir_fd=dir_fd, follow_symlinks=False)
        self._count(0)

    def _hardlink(self, entry: Entry, dir_fd: int, name: bytes) -> None:
        target = clean(entry.linkname)
        folder, _, base = target.rpartition(b"/")
        here = os.dup(dir_fd)  # looking the target up may push the parent out of the cache
        try:
            source, _ = self.tree.directory(folder, create=False)
            os.link(base, name, src_dir_fd=source, dst_dir_fd=here, follow_symlinks=False)
        except FileNotFoundError:
            raise TarError(f"hardlink {show(entry.name)} to {show(target)}, which the layer lacks") from None
        except PermissionError:
            raise TarError(f"hardlink {show(entry.name)} to {show(target)}, which can't be linked") from None
        finally:
            os.close(here)
            self._enter(self._parent)

    def _whiteout(self, name: bytes, parent: bytes) -> None:
        if name == _OPAQUE:
            if self._resolved:
                self.tree.opaque.add(self._resolved)
            return
        if name.startswith(_META):
            return  # bookkeeping of aufs, reserved by layer.md
        target = name[len(_PREFIX) :]
        if target in (b"", b".", b".."):
            raise TarError(f"bad whiteout {show(name)} in {show(parent)}")
        try:
            os.mknod(target, stat.S_IFCHR, os.makedev(0, 0), dir_fd=self._parent_fd)
            self._count(0)
        except FileExistsError:
            # A whiteout hides lower layers only: what this layer has stays, but a directory hides theirs.
            status = os.stat(target, dir_fd=self._parent_fd, follow_symlinks=False)
            if stat.S_ISDIR(status.st_mode):
                self.tree.opaque.add(self._resolved + b"/" + target if self._resolved else target)

    def _clear(self, dir_fd: int, name: bytes, path: bytes) -> None:
        """Make room for a later entry of the same name: the last one counts."""
        status = self.tree.remove(dir_fd, name, path)
        if stat.S_ISDIR(status.st_mode):
            beneath = path + b"/"
            for gone in [p for p in self._directories if p == path or p.startswith(beneath)]:
                del self._directories[gone]

    def _count(self, size: int) -> None:
        self._report.disk += (size + 4095) & ~4095
        self._report.inodes += 1

    def _finish_directories(self) -> None:
        """Deepest first, so that nothing changes a finished directory's time."""
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        for path in sorted(self._directories, reverse=True):
            attributes = self._directories[path]
            parent, _, name = path.rpartition(b"/")
            try:
                dir_fd, _ = self.tree.directory(parent, create=False)
                fd = os.open(name or b".", flags, dir_fd=dir_fd)
            except OSError as exc:
                raise _named(exc, path) from exc
            try:
                if attributes.uid or attributes.gid:
                    os.fchown(fd, attributes.uid, attributes.gid)
                if attributes.mode != 0o755:
                    os.fchmod(fd, attributes.mode)
                if attributes.xattrs:
                    set_xattrs(fd, attributes.xattrs)
                os.utime(fd, ns=(attributes.mtime_ns, attributes.mtime_ns))
            finally:
                os.close(fd)


def _make_node(entry: Entry, dir_fd: int, name: bytes) -> None:
    kind = entry.type
    if kind == SYMLINK:
        if not entry.linkname:
            raise TarError(f"symbolic link {show(entry.name)} to nothing")
        os.symlink(entry.linkname, name, dir_fd=dir_fd)
    elif kind == FIFO:
        os.mkfifo(name, entry.mode & 0o777, dir_fd=dir_fd)
    elif kind in (CHAR, BLOCKDEV):
        mode = (stat.S_IFCHR if kind == CHAR else stat.S_IFBLK) | entry.mode & 0o777
        os.mknod(name, mode, os.makedev(entry.major, entry.minor), dir_fd=dir_fd)


def set_xattrs(fd: int, xattrs: dict[str, bytes]) -> None:
    """Set what an image may bring: user.*, file capabilities, ACLs; never overlayfs's own marks.

    User attributes and ACLs are left out where the filesystem has none (as containerd does).
    """
    for name, value in xattrs.items():
        if not (name.startswith("user.") or name in _KEPT_XATTRS) or name.startswith("user.overlay."):
            continue
        try:
            os.setxattr(fd, name, value)
        except OSError as exc:
            if exc.errno != errno.ENOTSUP or name == "security.capability":
                raise


def clean(name: bytes) -> bytes:
    """``name`` relative to the layer's root without empty and ``.`` parts; ``..`` raises TarError."""
    path = name.strip(b"/")
    if b"./" in path or b"//" in path or path.endswith(b"."):
        parts = [part for part in path.split(b"/") if part not in (b"", b".")]
        if b".." in parts:
            raise TarError(f"{show(name)} leaves the layer")
        path = b"/".join(parts)
    if len(path) > MAX_PATH:
        raise TarError(f"{show(name)} is longer than {MAX_PATH} bytes")
    if b"\0" in path:
        raise TarError(f"a name with a NUL byte: {show(name)}")
    return path


def _named(exc: OSError, path: bytes) -> OSError:
    return OSError(exc.errno, exc.strerror or "", path[:200].decode("utf-8", "backslashreplace"))
