"""The worker that unpacks one layer: executed by the daemon, jailed in the layer's folder, then fed.

    python -I -m minikubelet.images.unpacker '{"size": …, "algorithm": "sha256", …}'

Descriptors: 0 wakes it when the blob has grown (its end: nothing more comes), 1 takes the report (one JSON
object), 3 is the layer's folder, 4 the blob. Before the first byte is read the process has a mount namespace
whose only mount is that folder (nodev, nosuid, noexec), no network, a user who owns no process, and just the
capabilities that making files of any owner takes. So nothing an archive makes it do can leave the folder.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import signal
import sys
from dataclasses import dataclass
from typing import Any

from minikubelet.images.extract import Report, extract
from minikubelet.images.layertree import TreeError
from minikubelet.images.plainstream import Bounds, GrowingFile, HashedChunks, StreamError
from minikubelet.images.tarheader import TarError
from minikubelet.linux import capabilities, fsuid, mounts, namespaces, prctl
from minikubelet.linux.libc import AT_FDCWD

WAKE_FD, REPORT_FD, ROOT_FD, BLOB_FD = 0, 1, 3, 4
NOBODY = 65534
NICE = 5
"""Below the daemon, which has calls to answer while layers are unpacked."""
KEPT_CAPABILITIES = ("CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_MKNOD", "CAP_SETFCAP")


@dataclass(frozen=True)
class Job:
    """What the daemon asks for."""

    size: int
    """Bytes of the blob when it is complete."""
    algorithm: str
    """Hash of the DiffID."""
    zstd: bool
    """The blob is said to be zstd: load that library before the jail closes."""
    plain_limit: int
    free_ratio: int
    ratio: int


def enter_jail(root_fd: int, keep: list[int]) -> None:
    """Leave everything but the folder ``root_fd`` behind; ``keep`` are the descriptors to stay open.

    Needs CAP_SYS_ADMIN. Raises OSError. Modules not loaded before can't be imported afterwards.
    """
    last = capabilities.last_known_to_kernel()
    tree = mounts.clone_tree("", dirfd=root_fd)
    namespaces.leave(namespaces.CLONE_NEWNS | namespaces.CLONE_NEWNET | namespaces.CLONE_NEWIPC)
    mounts.set_attributes(AT_FDCWD, "/", propagation=mounts.MS_PRIVATE, recursive=True)
    mounts.set_attributes(tree, add=mounts.ATTR_NODEV | mounts.ATTR_NOSUID | mounts.ATTR_NOEXEC)
    old = os.open("/", os.O_PATH | os.O_CLOEXEC)
    mounts.attach(tree, old, "/")
    mounts.pivot_into(tree)
    os.close(old)
    os.close(tree)
    kept = capabilities.mask(KEPT_CAPABILITIES)
    prctl.set_no_new_privileges()
    capabilities.limit_bounding(kept, last)
    _lose_root(kept)
    prctl.set_dumpable(False)
    prctl.close_all_but(keep)


def _lose_root(kept: int) -> None:
    """Root's files, nobody's processes: root's user ID alone would suffice to signal every daemon."""
    setuid = capabilities.mask(["CAP_SETUID"])
    prctl.set_keep_capabilities(True)
    os.setgroups([])
    os.setresuid(NOBODY, NOBODY, NOBODY)
    capabilities.set_sets(kept | setuid, kept | setuid, 0)
    fsuid.files_as_root()
    capabilities.set_sets(kept, kept, 0)
    prctl.set_parent_death_signal(signal.SIGKILL)  # a change of user has cleared it


def unpack(job: Job) -> dict[str, Any]:
    """Jail this process, unpack, and say what came of it: the report, or an error with its kind."""
    prctl.set_parent_death_signal(signal.SIGKILL)
    os.nice(NICE)
    _load_everything(job)
    enter_jail(ROOT_FD, [WAKE_FD, REPORT_FD, 2, BLOB_FD])
    os.umask(0)
    root_fd = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    bounds = Bounds(plain=job.plain_limit, free_ratio=job.free_ratio, ratio=job.ratio)
    chunks = HashedChunks(GrowingFile(BLOB_FD, job.size, WAKE_FD), job.algorithm, bounds)
    try:
        report = extract(iter(chunks), root_fd)
    except (TarError, TreeError, StreamError) as exc:
        return {"error": "content", "message": str(exc)}
    except OSError as exc:
        message = f"{exc.filename}: {exc.strerror}" if exc.filename else str(exc)
        return {"error": "system", "message": message, "errno": exc.errno or errno.EIO}
    return _answer(report, chunks)


def _load_everything(job: Job) -> None:
    """No import works after the jail is closed; codecs and the digest's code count too."""
    import hashlib

    from isal import igzip_lib

    hashlib.new(job.algorithm, usedforsecurity=False)
    igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_GZIP)
    b"x".decode("utf-8", "backslashreplace").encode("latin-1")
    if job.zstd:
        import zstandard

        zstandard.ZstdDecompressor()


def _answer(report: Report, chunks: HashedChunks) -> dict[str, Any]:
    return {
        "diff_id": chunks.digest,
        "plain_size": chunks.plain_size,
        "bytes": report.disk,
        "inodes": report.inodes,
        "entries": report.entries,
        "implicit": [path.decode("latin-1") for path in report.implicit],
        "opaque": [path.decode("latin-1") for path in report.opaque],
    }


def main() -> None:
    """Entry point; leaves by ``os._exit`` so that no thread is waited for."""
    try:
        answer = unpack(Job(**json.loads(sys.argv[1])))
    except ImportError as exc:
        answer = {"error": "missing", "message": str(exc)}
    except Exception as exc:
        answer = {"error": "internal", "message": f"{type(exc).__name__}: {exc}"}
    data = memoryview(json.dumps(answer).encode())
    with contextlib.suppress(BrokenPipeError):
        while data:
            data = data[os.write(REPORT_FD, data) :]
    os._exit(0)


if __name__ == "__main__":
    main()
