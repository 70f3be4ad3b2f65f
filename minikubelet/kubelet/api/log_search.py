"""Log queries at /logs/ (KEP-2258), with enableSystemLogQuery: a service's journal, or its file there."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import os
import re
import stat
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass, field

from aiohttp import web
from aiohttp.web_response import ContentCoding
from multidict import MultiMapping

from minikubelet.base.errors import invalid
from minikubelet.linux import openat2

PATIENCE = 30.0
"""Seconds for a whole query."""
MAX_LINES = 100_000
MAX_SERVICES = 4
MAX_NAME = 256
_UNSAFE = re.compile(r"[^a-zA-Z\-_.:0-9@]")
_CHUNK = 64 * 1024
_OPTIONS = ("sinceTime", "untilTime", "boot", "tailLines", "pattern")

journalctl = "journalctl"
"""The program, systemd's journalctl(1)."""


@dataclass
class LogSearch:
    """What is asked for."""

    services: list[str] = field(default_factory=list)
    files: list[str] = field(default_factory=list)
    since: datetime.datetime | None = None
    until: datetime.datetime | None = None
    lines: int | None = None
    boot: int | None = None
    pattern: str = ""

    @property
    def narrowed(self) -> bool:
        """Whether there are options, which only a journal knows what to do with."""
        return bool(self.pattern) or not all(
            each is None for each in (self.since, self.until, self.lines, self.boot)
        )

    def arguments(self, services: list[str]) -> list[str]:
        """Those of journalctl(1)."""
        made = ["--utc", "--no-pager", "--output=short-precise"]
        made += [f"--since={_journal_time(self.since)}"] if self.since else []
        made += [f"--until={_journal_time(self.until)}"] if self.until else []
        made += ["--pager-end", f"--lines={self.lines}"] if self.lines is not None else []
        made += [f"--unit={name}" for name in services]
        made += [f"--grep={self.pattern}"] if self.pattern else []
        return made + (["--boot", str(self.boot)] if self.boot is not None else [])


def parse(query: MultiMapping[str]) -> LogSearch | None:
    """What a request asks for; None: for a file or folder by its path. Raises NodeError INVALID_ARGUMENT."""
    if "query" not in query and not any(query.get(name) for name in _OPTIONS):
        return None
    wanted = LogSearch(pattern=query.get("pattern", ""))
    for name in query.getall("query", []):
        # A slash is the hint that a file is meant.
        if "/" in name or "\\" in name:
            wanted.files.append(name.replace("\\", "/"))
        elif name.strip():
            wanted.services.append(name)
    if "query" in query and not wanted.files and not wanted.services:
        raise invalid("query", "may not be empty")
    wanted.since, wanted.until = _time(query, "sinceTime"), _time(query, "untilTime")
    wanted.boot, wanted.lines = _number(query, "boot"), _number(query, "tailLines")
    return wanted


def check(wanted: LogSearch, path: str) -> None:
    """Raises HTTPNotAcceptable, as upstream does, for what can't be asked."""
    problems = list(_problems(wanted))
    if path.strip("/"):
        problems = ["path not allowed in query mode"]
    if problems:
        raise web.HTTPNotAcceptable(text="; ".join(problems) + "\n")


def _problems(wanted: LogSearch) -> list[str]:
    found = []
    for name in wanted.services:
        if len(name) > MAX_NAME:
            found.append(f"query: {name[:20]!r}…: length must be less than {MAX_NAME}")
        elif _UNSAFE.search(name):
            found.append(f"query: {name!r}: input contains unsupported characters")
    if len(wanted.services) > MAX_SERVICES:
        found.append(f"query: must have at most {MAX_SERVICES} items")
    if not wanted.files and not wanted.services:
        found.append("query: cannot be empty with options")
    if wanted.files and wanted.services:
        found.append("query: cannot specify a file and service")
    if len(wanted.files) > 1:
        found.append("query: cannot specify more than one file")
    if wanted.files and wanted.narrowed:
        found.append("query: cannot specify file with options")
    if wanted.since and wanted.until and wanted.since > wanted.until:
        found.append("untilTime: must be after `sinceTime`")
    if wanted.boot is not None and wanted.boot > 0:
        found.append("boot: must be less than 1")
    if wanted.lines is not None and not 0 <= wanted.lines <= MAX_LINES:
        found.append(f"tailLines: must be between 0 and {MAX_LINES}, inclusive")
    try:
        re.compile(wanted.pattern)
    except (re.error, OverflowError, RecursionError) as exc:
        found.append(f"pattern: {exc}")
    return found


async def answer(request: web.Request, wanted: LogSearch, folder: str) -> web.StreamResponse:
    """The logs of the services; what goes wrong with one of them is a line in the text."""
    response = web.StreamResponse(headers={"Content-Type": "text/plain;charset=UTF-8"})
    if request.headers.get("Accept-Encoding") == "gzip":
        response.enable_compression(ContentCoding.gzip)
    await response.prepare(request)
    try:
        async with asyncio.timeout(PATIENCE), contextlib.aclosing(_pieces(wanted, folder)) as pieces:
            async for piece in pieces:
                await response.write(piece)
    except TimeoutError:
        await response.write(b"\nerror: the logs took too long\n")
    return response


async def _pieces(wanted: LogSearch, folder: str) -> AsyncGenerator[bytes, None]:
    units = await _units()
    native = [name for name in wanted.services if f"{name}.service" in units or name in units]
    others = [name for name in wanted.services if name not in native]
    if native:
        async with contextlib.aclosing(_run(wanted.arguments(native))) as journal:
            async for piece in journal:
                yield piece
    if others and wanted.narrowed:
        words = f"options present and query resolved to log files for {others}"
        yield f"\n{words}\ntry without specifying options\n".encode()
        return
    for name in others:
        async for piece in _of_files(folder, name):
            yield piece


async def _units() -> set[str]:
    """Services that have written to the journal; none where there is no journal."""
    found = bytearray()
    async with contextlib.aclosing(_run(["--field", "_SYSTEMD_UNIT"], errors=False)) as names:
        async for piece in names:
            found += piece
    return set(found.decode(errors="replace").split())


async def _run(arguments: list[str], *, errors: bool = True) -> AsyncGenerator[bytes, None]:
    """What journalctl writes, as it comes. It ends with the reader."""
    try:
        process = await asyncio.create_subprocess_exec(
            journalctl,
            *arguments,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT if errors else asyncio.subprocess.DEVNULL,
        )
    except OSError:
        if errors:
            yield b"\nerror: journal output not available\n"
        return
    assert process.stdout is not None
    try:
        while piece := await process.stdout.read(_CHUNK):
            yield piece
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
        await process.wait()


async def _of_files(folder: str, service: str) -> AsyncIterator[bytes]:
    """The first of FOLDER/NAME, NAME.log and NAME/NAME.log that is a file."""
    for path in (service, f"{service}.log", f"{service}/{service}.log"):
        try:
            fd = await asyncio.to_thread(_open, folder, path)
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            continue
        except OSError as exc:
            yield f"\nerror getting log for {service}: {exc.strerror}\n".encode()
            return
        try:
            while piece := await asyncio.to_thread(os.read, fd, _CHUNK):
                yield piece
        finally:
            os.close(fd)
        return
    yield f"\nlog not found for {service}\n".encode()


def _open(folder: str, path: str) -> int:
    """Links are followed as long as they stay below the folder. Raises OSError."""
    base = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        resolve = openat2.RESOLVE_BENEATH | openat2.RESOLVE_NO_MAGICLINKS
        fd = openat2.open_at(base, path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY, resolve)
    finally:
        os.close(base)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise IsADirectoryError(21, "not a file", path)
    return fd


def _time(query: MultiMapping[str], name: str) -> datetime.datetime | None:
    text = query.get(name, "")
    if not text:
        return None
    with contextlib.suppress(ValueError):
        moment = datetime.datetime.fromisoformat(text)
        if moment.tzinfo is not None:
            return moment
    raise invalid(name, f"{text[:40]!r} is not a time like 2006-01-02T15:04:05Z")


def _number(query: MultiMapping[str], name: str) -> int | None:
    text = query.get(name, "")
    if not text:
        return None
    if not re.fullmatch(r"[-+]?[0-9]{1,9}", text):
        raise invalid(name, f"{text[:40]!r} is not a whole number")
    return int(text)


def _journal_time(moment: datetime.datetime) -> str:
    """As systemd.time(7) has it."""
    return moment.astimezone(datetime.UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
