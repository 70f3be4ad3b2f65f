"""Reading a CRI log, and following it as it grows and is rotated, by inotify(7)."""

from __future__ import annotations

import asyncio
import io
import os
from collections.abc import AsyncIterator, Callable, Iterator
from types import TracebackType

from minikubelet.base.clock import monotonic
from minikubelet.kubelet.api import crilog
from minikubelet.kubelet.api.crilog import LogOptions, Renderer
from minikubelet.linux import inotify

_CHUNK = 128 * 1024
_REOPENING = 2.0
"""Seconds in which a runtime opens the new file of a log that was rotated; there is none until then."""


class Wakeup:
    """Wakes a reader when something in the log's folder changes, or when :meth:`set` is called."""

    def __init__(self, folder: str) -> None:
        self._event = asyncio.Event()
        self._inotify = inotify.Inotify()
        self._inotify.add(folder, inotify.MODIFY | inotify.CREATE | inotify.MOVED_TO)

    def __enter__(self) -> Wakeup:
        asyncio.get_running_loop().add_reader(self._inotify.fileno(), self._readable)
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: object, tb: TracebackType | None) -> None:
        asyncio.get_running_loop().remove_reader(self._inotify.fileno())
        self._inotify.close()

    def _readable(self) -> None:
        for _ in self._inotify.read():
            pass
        self._event.set()

    def set(self) -> None:
        """Wake the reader."""
        self._event.set()

    async def wait(self) -> None:
        """Until something happens."""
        await self._event.wait()
        self._event.clear()


class Cursor:
    """A place in a log, which is one file after another when it is rotated."""

    def __init__(self, path: str, options: LogOptions) -> None:
        self._path = path
        self._file = crilog.open_log(path)
        self.renderer = Renderer(options)
        if options.tail_lines is not None:
            crilog.seek_tail(self._file, options.tail_lines)

    def read(self) -> Iterator[bytes]:
        """What is there up to the end of the file, or until the limit is reached."""
        while not self.renderer.full and (data := self._file.read(_CHUNK)):
            if output := self.renderer.feed(data):
                yield output

    def successor(self) -> io.FileIO | None:
        """The file after this one, if this one was rotated away. Once it exists, this one doesn't grow."""
        here = os.fstat(self._file.fileno())
        try:
            there = os.stat(self._path, follow_symlinks=False)
            if (here.st_dev, here.st_ino) == (there.st_dev, there.st_ino):
                return None
            return crilog.open_log(self._following())
        except FileNotFoundError:
            return None

    def _following(self) -> str:
        """Several rotations may lie between: rotated files are named PATH.TIME, so that they sort."""
        folder, base = os.path.split(self._path)
        name = os.path.basename(os.readlink(f"/proc/self/fd/{self._file.fileno()}"))
        name = name.removesuffix(" (deleted)")  # compressed meanwhile: what follows it is still there
        if name.startswith(f"{base}."):
            later = [each for each in os.listdir(folder) if each.startswith(f"{base}.") and each > name]
            plain = sorted(each for each in later if not each.endswith((".gz", ".tmp")))
            if plain:
                return os.path.join(folder, plain[0])
        return self._path

    def switch(self, file: io.FileIO) -> None:
        """Go on in ``file``."""
        self._file.close()
        self._file = file
        self.renderer.skip_rest()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


async def _open(path: str, options: LogOptions) -> Cursor:
    """The log's beginning; waits for a log that is just being rotated. Raises OSError."""
    end = monotonic() + _REOPENING
    while True:
        try:
            return Cursor(path, options)
        except FileNotFoundError:
            folder, base = os.path.split(path)
            rotated = os.path.isdir(folder) and any(
                each.startswith(f"{base}.") for each in os.listdir(folder)
            )
            if not rotated or monotonic() > end:
                raise
        await asyncio.sleep(0.01)


async def read_log(
    path: str, options: LogOptions, is_over: Callable[[], bool], on_wakeup: Callable[[Wakeup], None]
) -> AsyncIterator[bytes]:
    """The wanted part of the log at ``path``, in pieces; with ``follow`` as it grows.

    Following ends when ``is_over`` is true and the end is reached; ``on_wakeup`` gets the object to wake when
    that may have changed. Raises OSError when there is no log.
    """
    cursor = await _open(path, options)
    try:
        if not options.follow:
            for piece in cursor.read():
                yield piece
            return
        with Wakeup(os.path.dirname(path)) as wakeup:
            on_wakeup(wakeup)
            while not cursor.renderer.full:
                over = is_over()  # asked first: what was written until then is read in any case
                for piece in cursor.read():
                    yield piece
                following = cursor.successor()
                if following is not None:
                    for piece in cursor.read():
                        yield piece
                    cursor.switch(following)
                elif over:
                    return
                elif not cursor.renderer.full:
                    await wakeup.wait()
    finally:
        cursor.close()
