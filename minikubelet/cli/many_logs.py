"""The logs of several containers as whole lines, one after the other or as they come."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from minikubelet.base.errors import NodeError
from minikubelet.cli.api_client import ApiClient
from minikubelet.cli.options import CommandError

_NOT_YET = "is waiting to start"
"""What the kubelet says of a container that has no log yet."""
_PAUSE = 0.5
"""Seconds between two tries."""


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


class Printer:
    """Writes logs one after the other, or the lines of several as they come, none into another."""

    def __init__(
        self,
        client: ApiClient,
        query: dict[str, str],
        output: BinaryIO,
        *,
        prefix: bool = False,
        ignore_errors: bool = False,
        patience: float = 0.0,
    ) -> None:
        """``ignore_errors``: what fails is told where its lines would be, and the others go on.

        ``patience``: for how many seconds a log that is followed is waited for until there is one.
        """
        self._client, self._query, self._output = client, query, output
        self._prefix, self._ignore = prefix, ignore_errors
        self._until = time.monotonic() + (patience if query.get("follow") else 0)
        self._lock = threading.Lock()
        self._failure: BaseException | None = None

    def print(self, source: Source) -> None:
        """All of one log. Raises CommandError, OSError."""
        try:
            self._copy(source, whole_lines=self._prefix)
        except (NodeError, OSError) as exc:
            if not self._ignore:
                raise
            self._write(f"error: {exc}\n".encode())

    def follow_all(self, sources: list[Source]) -> None:
        """All logs, each as it grows. Raises the first failure once the others have ended."""
        threads = [threading.Thread(target=self._follow, args=(each,), daemon=True) for each in sources]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if self._failure is not None:
            raise self._failure

    def _follow(self, source: Source) -> None:
        try:
            self._copy(source, whole_lines=True)
        except (NodeError, OSError) as exc:
            if self._ignore:
                self._write(f"error: {exc}\n".encode())
                return
            with self._lock:
                self._failure = self._failure or exc

    def _copy(self, source: Source, *, whole_lines: bool) -> None:
        first = source.prefix if self._prefix else b""
        pieces = self._pieces(source)
        for piece in lines(pieces) if whole_lines else pieces:
            self._write(first + piece)

    def _pieces(self, source: Source) -> Iterator[bytes]:
        said = ""
        while True:
            try:
                yield from self._client.logs(source.namespace, source.pod, source.container, self._query)
                return
            except CommandError as exc:
                if _NOT_YET not in (message := str(exc)) or time.monotonic() >= self._until:
                    raise
                if message != said:
                    print(message, file=sys.stderr, flush=True)
                    said = message
            time.sleep(_PAUSE)

    def _write(self, text: bytes) -> None:
        with self._lock:
            self._output.write(text)
            self._output.flush()
