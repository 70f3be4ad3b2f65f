"""Layer folders: fetched, unpacked, found again, removed.

A layer is found by its DiffID, so that images share it whatever lies below, with one exception: a layer
that leaves out entries for directories it changes takes their attributes from the layers below. Such a
folder is of use on that chain of layers alone and carries its chain ID as ``base``.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import hashlib
import logging
import os
import random
import struct
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass

from minikubelet.base.errors import Code, NodeError, StepError
from minikubelet.images.blobs import BlobStore, Ingest
from minikubelet.images.documents import Descriptor
from minikubelet.images.flights import Flights
from minikubelet.images.inherit import inherit_attributes
from minikubelet.images.layertree import remove_tree
from minikubelet.images.leases import Leases
from minikubelet.images.partial import MAX_AGE, PartialStore
from minikubelet.images.plainstream import Bounds
from minikubelet.images.receive import finish
from minikubelet.images.records import LayerRow, Records
from minikubelet.images.unpack import UnpackReport, UnpackRequest, Worker, mark_opaque

log = logging.getLogger(__name__)

CONCURRENT = 4
"""Layers that are downloaded and unpacked at the same time."""
_FS_IOC_GETFLAGS, _FS_IOC_SETFLAGS = 0x80086601, 0x40086602
_FS_TOPDIR_FL = 0x00020000
_BOOT_MARK = "trusted.minikubelet.boot"
"""On complete layer folders: the boot they were unpacked in."""
_KEPT_MARK = "trusted.minikubelet.kept"
"""On layer folders of a lost database: the boot until whose end they stay."""
_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"
_CREDENTIAL_CODES = (Code.UNAUTHENTICATED, Code.PERMISSION_DENIED, Code.NOT_FOUND)

Fetch = Callable[[Ingest, Callable[[], None]], Awaitable[str]]
"""Completes an ingest, calling the second argument after each piece; returns who sent it."""


@dataclass(frozen=True, eq=False)
class LayerSpec:
    """A layer that is wanted."""

    blob: Descriptor
    diff_id: str
    chain: str
    """Chain ID of this layer and those below (OCI config.md, "Layer ChainID")."""
    below: LayerSpec | None
    fetch: Fetch

    @property
    def base(self) -> str:
        """Chain ID of the layers below."""
        return self.below.chain if self.below else "-"


def chain_specs(
    blobs: Iterable[Descriptor], diff_ids: Iterable[str], fetch: Callable[[Descriptor], Fetch]
) -> list[LayerSpec]:
    """Specs of an image's layers, lowest first."""
    specs: list[LayerSpec] = []
    for blob, diff_id in zip(blobs, diff_ids, strict=True):
        below = specs[-1] if specs else None
        chain = diff_id
        if below:
            chain = "sha256:" + hashlib.sha256(f"{below.chain} {diff_id}".encode()).hexdigest()
        specs.append(LayerSpec(blob, diff_id, chain, below, fetch(blob)))
    return specs


class Layers:
    """The folders under ``ROOT/layers`` and the work that fills them."""

    def __init__(self, root: str, records: Records, blobs: BlobStore, leases: Leases, boot: str) -> None:
        self._boot = boot
        self._partial = PartialStore(root, boot)
        self.folder = f"{root}/layers"
        self._records = records
        self._blobs = blobs
        self._leases = leases
        self._fresh: dict[tuple[str, str], LayerRow] = {}
        """Unpacked, not yet part of a committed image."""
        self._unpacking: Flights[str, LayerRow] = Flights()
        self._downloads: Flights[str, None] = Flights()
        self._ingests: dict[str, Ingest] = {}
        self._suspect: set[str] = set()
        """Blobs that begin with what an earlier download left."""
        self._slots = asyncio.Semaphore(CONCURRENT)
        self.bounds = Bounds()

    def start(self) -> list[str]:
        """Make the folder; returns the names of folders that no row knows, to be removed."""
        os.makedirs(self.folder, mode=0o700, exist_ok=True)
        self._partial.start()
        _spread(self.folder)
        known = self._records.known_layers()
        orphans = [name for name in os.listdir(self.folder) if name not in known]
        if self._records.never_gave_a_number():
            for name in orphans:
                self._keep_until_reboot(name)
            # Names decide the block group (see _spread): a new state folder must not begin where one that
            # was just removed did.
            self._records.raise_layer_number(random.randrange(36**2, 36**3 // 2))
        orphans = [name for name in orphans if _mark(self.path(name), _KEPT_MARK) != self._boot]
        names = known | set(os.listdir(self.folder))
        numbers = [int(name, 36) for name in names if name.isalnum() and name.isascii()]
        if numbers:
            self._records.raise_layer_number(max(numbers) + 1)
        return orphans

    def _keep_until_reboot(self, name: str) -> None:
        """The database is new although this layer is there: it was lost. Pods may still run on the layer."""
        path = self.path(name)
        if _mark(path, _BOOT_MARK) == self._boot:
            log.warning("layer %s, which no record knows, is kept until the next boot", name)
            os.setxattr(path, _KEPT_MARK, self._boot.encode())

    def path(self, name: str) -> str:
        """Folder of a layer."""
        return f"{self.folder}/{name}"

    def find(self, spec: LayerSpec) -> LayerRow | None:
        """The layer if it is there already."""
        row = self._records.layer(spec.diff_id, spec.base)
        for base in ("", spec.base):
            row = row or self._fresh.get((spec.diff_id, base))
        return row if row and os.path.isdir(self.path(row.name)) else None

    async def ensure(self, spec: LayerSpec) -> LayerRow:
        """The layer and its blob, fetched and unpacked where missing. The caller has a lease for it.

        Raises NodeError.
        """
        joined = spec.chain in self._unpacking
        try:
            return await self._unpacking.run(spec.chain, lambda: self._make(spec))
        except NodeError as exc:
            if not joined or exc.code not in _CREDENTIAL_CODES:
                raise
        # Somebody else's credentials or registry failed; ours may do.
        return await self._unpacking.run(spec.chain, lambda: self._make(spec))

    async def _make(self, spec: LayerSpec) -> LayerRow:
        row = self.find(spec)
        blob = spec.blob
        if row and self._blobs.has(blob.digest, blob.size):
            self._leases.report(blob.digest, blob.size, blob.size, "exists")
            return row
        async with self._slots:
            try:
                if row:
                    await self._download(spec, self._begin(spec))
                    return row
                row, implicit = await self._fetch_and_unpack_again(spec)
            except OSError as exc:
                raise StepError("store layer", exc.errno or errno.EIO, exc.filename or "") from exc
        try:
            if implicit:
                await self._inherit(spec, row, implicit)
        except BaseException:
            await self._drop_folder(row.name)
            raise
        self._fresh[row.diff_id, row.base] = row
        self._leases.report(blob.digest, blob.size, blob.size, "done")
        return row

    def _begin(self, spec: LayerSpec) -> Ingest:
        """The blob's ingest, new or already filling; ``_download`` must follow without an await between."""
        digest = spec.blob.digest
        if digest not in self._ingests:
            self._ingests[digest] = self._partial.open(digest, spec.blob.size)
        return self._ingests[digest]

    async def _download(self, spec: LayerSpec, ingest: Ingest) -> None:
        """Fetch the blob, once for all who want it now."""
        await self._downloads.run(spec.blob.digest, lambda: self._receive(spec, ingest))

    async def _receive(self, spec: LayerSpec, ingest: Ingest) -> None:
        digest, total = spec.blob.digest, spec.blob.size
        report = self._leases.report
        report(digest, 0, total, "downloading")
        try:
            await finish(asyncio.get_running_loop().run_in_executor(None, ingest.resume))
            if ingest.resumed:
                self._suspect.add(digest)
                report(digest, ingest.offset, total, "downloading")
                ingest.announce()
            source = await spec.fetch(ingest, lambda: report(digest, ingest.offset, total, "downloading"))
            self._blobs.commit(ingest, source)
        except (NodeError, asyncio.CancelledError) as exc:
            if not _is_bad(exc):
                self._partial.put_back(ingest)
                asyncio.get_running_loop().call_later(MAX_AGE + 1, self._collect_partial)
            raise
        finally:
            self._discard(ingest)

    def _discard(self, ingest: Ingest) -> None:
        if self._ingests.get(ingest.digest) is ingest:
            del self._ingests[ingest.digest]
        ingest.close()
        self._collect_partial()

    def _collect_partial(self) -> None:
        self._partial.collect(self._ingests)

    async def _fetch_and_unpack_again(self, spec: LayerSpec) -> tuple[LayerRow, list[str]]:
        """As ``_fetch_and_unpack``; from the beginning if what an earlier download had left was bad."""
        try:
            return await self._fetch_and_unpack(spec)
        except NodeError as exc:
            if spec.blob.digest not in self._suspect or not _is_bad(exc):
                raise
            log.warning("%s: what was kept of an earlier download is dropped: %s", spec.blob.digest, exc)
            return await self._fetch_and_unpack(spec)
        finally:
            self._suspect.discard(spec.blob.digest)

    async def _fetch_and_unpack(self, spec: LayerSpec) -> tuple[LayerRow, list[str]]:
        name = base36(self._records.next_layer_number())
        folder = self.path(name)
        os.mkdir(folder, 0o755)
        try:
            os.chmod(folder, 0o755)
            report = await self._run_worker(spec, folder)
            if report.opaque:
                await asyncio.to_thread(mark_opaque, folder, report.opaque)
            with contextlib.suppress(OSError):
                os.setxattr(folder, _BOOT_MARK, self._boot.encode())
        except BaseException:
            await self._drop_folder(name)
            raise
        base = spec.base if report.implicit else ""
        return LayerRow(name, spec.diff_id, base, report.bytes, report.inodes), report.implicit

    async def _run_worker(self, spec: LayerSpec, folder: str) -> UnpackReport:
        """Unpack the blob while it arrives."""
        blob = spec.blob
        ingest = None if self._blobs.has(blob.digest, blob.size) else self._begin(spec)
        worker: Worker | None = None
        try:
            blob_fd = ingest.open() if ingest else self._blobs.open(blob.digest)
            try:
                zstd = "zstd" in blob.media_type
                worker = Worker(UnpackRequest(blob_fd, blob.size, folder, spec.diff_id, zstd, self.bounds))
                worker.start()
            finally:
                os.close(blob_fd)
            if ingest:
                ingest.listeners.append(worker.wake)
                await self._download(spec, ingest)
            self._leases.report(blob.digest, blob.size, blob.size, "unpacking")
            worker.wake()
            return await worker.finish()
        finally:
            if worker is not None:
                worker.abort()
            if ingest and blob.digest not in self._downloads:
                self._discard(ingest)

    async def _inherit(self, spec: LayerSpec, row: LayerRow, implicit: list[str]) -> None:
        folders = []
        below = spec.below
        while below is not None:
            known = self.find(below) or await self.ensure(below)
            folders.append(self.path(known.name))
            below = below.below
        await asyncio.to_thread(inherit_attributes, self.path(row.name), implicit, folders)

    def committed(self, rows: Iterable[LayerRow]) -> None:
        """These layers have rows now."""
        for row in rows:
            self._fresh.pop((row.diff_id, row.base), None)

    async def collect(self) -> None:
        """Remove folders nobody uses: no image, holder or running pull."""
        wanted = [row.name for row in self._records.layer_rows() if self._leases.wants_layer(row.diff_id)]
        garbage = self._records.forget_unused_layers(wanted)
        for key, row in list(self._fresh.items()):
            if not self._leases.wants_layer(row.diff_id):
                del self._fresh[key]
                garbage.append(row.name)
        for name in garbage:
            await self._drop_folder(name)

    async def _drop_folder(self, name: str) -> None:
        """Remove a folder in a thread; cancellation doesn't stop it. Failures are logged: start() retries."""
        future = asyncio.get_running_loop().run_in_executor(None, remove_folder, self.path(name))
        await asyncio.shield(future)


def remove_folder(path: str) -> None:
    """Remove a layer's folder whatever is in it; a failure is logged."""
    for _ in range(3):
        try:
            remove_tree(path)
            return
        except FileNotFoundError:
            return
        except OSError as exc:
            log.warning("removing layer folder %s: %s", path, exc)


def _is_bad(failure: BaseException) -> bool:
    """Whether content was wrong, as opposed to a download that broke off."""
    return isinstance(failure, NodeError) and failure.code is Code.FAILED_PRECONDITION


def base36(number: int) -> str:
    """``number`` in digits and lower-case letters: overlay's options are short of room."""
    digits = ""
    while number:
        number, rest = divmod(number, 36)
        digits = _DIGITS[rest] + digits
    return digits or "0"


def _mark(path: str, mark: str) -> str:
    try:
        return os.getxattr(path, mark, follow_symlinks=False).decode("ascii", "replace")
    except OSError:
        return ""


def _spread(folder: str) -> None:
    """Ask ext4 to treat each layer as a top-level directory (chattr(1) +T).

    It then places them in different block groups. Without that all layers crowd one group, and making a file
    there walks over each inode that was freed in the last minutes (ext4's recently_deleted): 24,000 files
    took 19 s after an image of that size had been removed, and 0.9 s with it. Other file systems ignore it.
    """
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with contextlib.suppress(OSError):
            flags = struct.unpack("i4x", fcntl.ioctl(fd, _FS_IOC_GETFLAGS, bytes(8)))[0]
            fcntl.ioctl(fd, _FS_IOC_SETFLAGS, struct.pack("i4x", flags | _FS_TOPDIR_FL))
    finally:
        os.close(fd)
