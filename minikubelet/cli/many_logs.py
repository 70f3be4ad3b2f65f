"""The logs of several containers as whole lines, one after the other or as they come."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from minikubelet.base.errors import NodeError
from minikubelet.cli.api_client import ApiClient


@dataclass(frozen=True)
class Source:
    """A container whose log is read."""

    namespace: str
    pod: str
    container: str

    @property
    def prefix(self) -> bytes:
        """What kubectl begins the container's lines with."""
        return f"[pod/{self.pod}/{self.container}] ".encode()


def lines(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Pieces of a stream as lines; the last one may lack its newline."""
    rest = b""
    for piece in pieces:
        *whole, rest = (rest + piece).split(b"\n")
        yield from (line + b"\n" for line in whole)
    if rest:
        yield rest


class _Printer:
    """Writes lines of several threads, none into another; keeps the first failure."""

    def __init__(self, client: ApiClient, query: dict[str, str], output: BinaryIO) -> None:
        self._client, self._query, self._output = client, query, output
        self._lock = threading.Lock()
        self.failure: BaseException | None = None

    def copy(self, source: Source, *, prefix: bool) -> None:
        """All of one log. Raises CommandError."""
        first = source.prefix if prefix else b""
        for line in lines(self._client.logs(source.namespace, source.pod, source.container, self._query)):
            with self._lock:
                self._output.write(first + line)
                self._output.flush()

    def follow(self, source: Source, *, prefix: bool) -> None:
        """The same in a thread."""
        try:
            self.copy(source, prefix=prefix)
        except (NodeError, OSError) as exc:
            with self._lock:
                self.failure = self.failure or exc


def print_lines(
    client: ApiClient,
    sources: list[Source],
    query: dict[str, str],
    output: BinaryIO,
    *,
    prefix: bool,
    at_once: bool,
) -> int:
    """Print all logs; 0. ``at_once``: each as it grows. Raises CommandError once the others have ended."""
    printer = _Printer(client, query, output)
    if not at_once:
        for source in sources:
            printer.copy(source, prefix=prefix)
        return 0
    threads = [
        threading.Thread(target=printer.follow, args=(source,), kwargs={"prefix": prefix}, daemon=True)
        for source in sources
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if printer.failure is not None:
        raise printer.failure
    return 0
