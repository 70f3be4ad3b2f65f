"""Pod manifests in a folder (or one file), watched with inotify, and read again now and then.

inotify(7) tells nothing of files on network file systems, nor of those that links lead to.

A broken file is reported once and leaves everything else alone; pods it defined before keep running.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import stat
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from minikubelet.kubelet.lookups import Key
from minikubelet.kubelet.manifests.errors import ManifestError
from minikubelet.kubelet.manifests.yaml_reader import MAX_BYTES
from minikubelet.kubelet.object_store import ObjectStore
from minikubelet.kubelet.objects import Pod
from minikubelet.kubelet.objects.data import DataObject
from minikubelet.kubelet.sources.reading import Report, read_manifest
from minikubelet.linux import inotify

log = logging.getLogger(__name__)

SETTLE = 0.5
"""Seconds of quiet after which a file that a writer still holds open is read nevertheless."""
MAX_FILES = 20_000
PERIOD = 20.0
"""Seconds after which all is looked at again, as upstream's fileCheckFrequency."""
_FOLDER_MASK = (
    inotify.CREATE
    | inotify.MODIFY
    | inotify.ATTRIB
    | inotify.CLOSE_WRITE
    | inotify.MOVED_FROM
    | inotify.MOVED_TO
    | inotify.DELETE
    | inotify.DELETE_SELF
    | inotify.MOVE_SELF
)
_PARENT_MASK = inotify.CREATE | inotify.MOVED_TO | inotify.DELETE_SELF | inotify.MOVE_SELF
_UNFINISHED = inotify.CREATE | inotify.MODIFY
_FINISHED = inotify.CLOSE_WRITE | inotify.MOVED_TO | inotify.MOVED_FROM | inotify.DELETE

Signature = tuple[int, int, int, int]


@dataclass
class _File:
    """A manifest file as last read."""

    signature: Signature | None = None
    pods: list[Pod] = field(default_factory=list)
    objects: list[DataObject] = field(default_factory=list)
    problem: str = ""
    missing: bool = False
    """It is a link, and what it leads to wasn't there at the last look."""


class FolderSource:
    """See the module; one reader at a time."""

    def __init__(
        self,
        path: str,
        node_name: str,
        report: Report,
        objects: ObjectStore | None = None,
        *,
        period: float = PERIOD,
    ) -> None:
        """``objects`` takes what the manifests hold beside pods."""
        self._period = period
        self._objects = objects or ObjectStore()
        self._path = os.path.abspath(path)
        self._node_name = node_name
        self._report = report
        self._files: dict[str, _File] = {}
        self._whole = _File()
        """What is wrong with the folder itself."""
        self._notify = inotify.Inotify()
        self._watched: str | None = None
        self._watch = -1
        self._changed = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._clashes: set[tuple[str, str]] = set()
        self._holders: dict[str, str] = {}
        """By a pod's name the file that it came from at the last look."""
        self._object_clashes: set[tuple[str, str]] = set()
        self._refused: set[Key] = set()
        self._said: list[tuple[ManifestError, str]] = []
        """Problems found by the reading thread, to be reported from the event loop."""

    async def watch(self) -> AsyncIterator[list[Pod]]:
        """See :class:`PodSource`."""
        loop = asyncio.get_running_loop()
        loop.add_reader(self._notify.fd, self._on_events)
        last: list[str] | None = None
        try:
            while True:
                self._changed.clear()
                self._place_watch()
                await asyncio.to_thread(self._scan)
                pods = self._pods()
                self._hand_over_objects()
                for problem, level in self._said:
                    self._report(problem, level)
                self._said.clear()
                uids = sorted(f"{pod.uid} {pod.metadata.annotations}" for pod in pods)
                if uids != last:
                    last = uids
                    yield pods
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._period):
                        await self._changed.wait()
        finally:
            loop.remove_reader(self._notify.fd)
            if self._timer is not None:
                self._timer.cancel()
            self._notify.close()

    def _hand_over_objects(self) -> None:
        """Tell the store what there is, before the pods that refer to it."""
        objects: dict[Key, DataObject] = {}
        clashes: set[tuple[str, str]] = set()
        for name in sorted(self._files):
            for each in self._files[name].objects:
                if objects.setdefault(each.key, each) is not each:
                    clashes.add((name, _title(each.key)))
        for name, title in sorted(clashes - self._object_clashes):
            message = f"{title} is defined twice; the first definition counts"
            self._said.append((ManifestError(message, file=name), "error"))
        self._object_clashes = clashes
        refused = set(self._objects.replace(self._path, objects.values()))
        for key in sorted(refused - self._refused):
            name = next(n for n, file in self._files.items() if any(o.key == key for o in file.objects))
            message = f"{_title(key)} is immutable: what has changed in it doesn't count"
            self._said.append((ManifestError(message, file=name), "error"))
        self._refused = refused

    # --- watching --------------------------------------------------------------------------------------

    def _place_watch(self) -> None:
        """Watch the folder (for a single file: the one it is in), or the nearest parent there is."""
        while True:
            target = os.path.dirname(self._path) if os.path.isfile(self._path) else self._path
            while not os.path.isdir(target):
                target = os.path.dirname(target)
            if target == self._watched:
                return
            whole = target in (self._path, os.path.dirname(self._path))
            if self._watch >= 0:
                with contextlib.suppress(OSError):
                    self._notify.remove(self._watch)
            try:
                self._watch = self._notify.add(target, _FOLDER_MASK if whole else _PARENT_MASK)
                self._watched = target
            except FileNotFoundError:
                self._watched = None

    def _on_events(self) -> None:
        urgent = settling = False
        for event in self._notify.read():
            if event.mask & inotify.IGNORED and event.watch != self._watch:
                continue
            if event.mask & (inotify.DELETE_SELF | inotify.MOVE_SELF | inotify.IGNORED | inotify.Q_OVERFLOW):
                self._watched = None
                urgent = True
            elif self._watched != self._path and os.path.dirname(self._path) != self._watched:
                urgent = True
            elif event.name.startswith("."):
                continue
            elif event.mask & _UNFINISHED and not event.mask & _FINISHED:
                settling = True
            else:
                urgent = True
        if urgent:
            self._fire()
        elif settling:
            if self._timer is not None:
                self._timer.cancel()
            self._timer = asyncio.get_running_loop().call_later(SETTLE, self._fire)

    def _fire(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._changed.set()

    # --- reading (in a thread) -------------------------------------------------------------------------

    def _scan(self) -> None:
        names = self._names()
        for gone in self._files.keys() - set(names):
            del self._files[gone]
        for name in names:
            self._read(name)

    def _names(self) -> list[str]:
        if os.path.isfile(self._path):
            return [self._path]
        try:
            entries = sorted(os.listdir(self._path))
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as exc:
            self._problem(self._whole, ManifestError(exc.strerror or str(exc), file=self._path))
            return sorted(self._files)
        names = [os.path.join(self._path, entry) for entry in entries if not entry.startswith(".")]
        if len(names) > MAX_FILES:
            self._problem(
                self._whole, ManifestError(f"only the first {MAX_FILES} files are read", file=self._path)
            )
        else:
            self._whole.problem = ""
        return names[:MAX_FILES]

    def _read(self, name: str) -> None:
        file = self._files.setdefault(name, _File())
        try:
            fd = os.open(name, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError:
            self._lost(name, file)
            return
        except OSError as exc:
            self._problem(file, ManifestError(exc.strerror or str(exc), file=name))
            return
        file.missing = False
        try:
            status = os.fstat(fd)
            signature = (status.st_dev, status.st_ino, status.st_mtime_ns, status.st_size)
            if signature == file.signature:
                return
            file.signature = signature
            file.pods, file.objects = self._parse(name, fd, status)
            file.problem = ""
        except ManifestError as exc:
            exc.file = exc.file or name
            self._problem(file, exc)
        except OSError as exc:
            self._problem(file, ManifestError(exc.strerror or str(exc), file=name))
        except Exception as exc:
            # A gap in the checks: this file is out, the others must not be.
            log.exception("manifest %s", name)
            self._problem(file, ManifestError(f"can't be understood: {exc!r}"[:500], file=name))
        finally:
            os.close(fd)

    def _lost(self, name: str, file: _File) -> None:
        """It has gone since the folder was read; or it is a link that leads nowhere.

        Its pods go as if it had been removed, unless what it leads to is just being replaced.
        """
        if not os.path.islink(name):
            return
        if file.missing:
            file.pods, file.objects, file.signature = [], [], None
            self._problem(file, ManifestError("a link that leads nowhere", file=name))
        file.missing = True

    def _problem(self, file: _File, error: ManifestError) -> None:
        if file.problem != str(error):
            file.problem = str(error)
            self._said.append((error, "error"))

    def _parse(self, name: str, fd: int, status: os.stat_result) -> tuple[list[Pod], list[DataObject]]:
        if stat.S_ISDIR(status.st_mode):
            raise ManifestError("a folder; manifests in sub-folders are not read")
        if not stat.S_ISREG(status.st_mode):
            raise ManifestError("not a regular file")
        with os.fdopen(fd, "rb", closefd=False) as stream:
            reading = read_manifest(stream.read(MAX_BYTES + 1), name, self._node_name)
        self._said += [(warning, "warning") for warning in reading.warnings]
        return reading.pods, reading.objects

    def _pods(self) -> list[Pod]:
        """Each UID once; of several pods of one name first the one whose file had the name at the last look.

        A copy of a manifest, made beside it, must not take the place of the pod that runs: the kubelet lets
        later ones wait until the first has gone. They are reported once.
        """
        by_name: dict[str, list[tuple[str, Pod]]] = {}
        for name, file in sorted(self._files.items()):
            for pod in file.pods:
                by_name.setdefault(pod.key, []).append((name, pod))
        holders: dict[str, str] = {}
        kept: dict[str, Pod] = {}
        clashes: set[tuple[str, str]] = set()
        for key, defined in by_name.items():
            defined.sort(key=lambda each: each[0] != self._holders.get(each[1].key))
            for name, pod in defined:
                if pod.uid in kept or key in holders:
                    clashes.add((name, key))
                kept.setdefault(pod.uid, pod)
                holders.setdefault(key, name)
        for name, key in sorted(clashes - self._clashes):
            message = f"pod {key} is defined twice; one of them waits until the other has gone"
            self._said.append((ManifestError(message, file=name), "error"))
        self._clashes, self._holders = clashes, holders
        return list(kept.values())


def _title(key: Key) -> str:
    kind, namespace, name = key
    return f"{kind} {namespace}/{name}" if namespace else f"{kind} {name}"
