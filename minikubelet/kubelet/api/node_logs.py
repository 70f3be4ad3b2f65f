"""/logs/: files of the node's log folder, and nothing outside it."""

from __future__ import annotations

import asyncio
import email.utils
import errno
import html
import os
import stat
from urllib.parse import quote

from aiohttp import web

from minikubelet.kubelet.api import log_search, manners
from minikubelet.linux import openat2

_CHUNK = 256 * 1024
_MAX_NAMES = 10_000
_HEAD = '<!doctype html>\n<meta name="viewport" content="width=device-width">\n'


def add_routes(router: web.UrlDispatcher, folder: str, *, queries: bool = False) -> None:
    """Lists of folders, contents of files below ``folder``; with ``queries`` the logs of services as well."""

    async def serve(request: web.Request) -> web.StreamResponse:
        path = request.match_info.get("path", "")
        wanted = log_search.parse(request.query) if queries else None
        if wanted is not None:
            log_search.check(wanted, path)
            if wanted.services:
                return await log_search.answer(request, wanted, folder)
            (path,) = wanted.files
        return await _serve(request, folder, path)

    router.add_route("*", "/logs", manners.with_slash)
    router.add_get("/logs/{path:.*}", serve, allow_head=False)


async def _serve(request: web.Request, folder: str, path: str) -> web.StreamResponse:
    try:
        fd = await asyncio.to_thread(_open, folder, path)
    except OSError as exc:
        if exc.errno in (errno.EXDEV, errno.ELOOP, errno.EACCES, errno.EPERM):
            raise web.HTTPForbidden(text="not below the log folder, or not to be read\n") from None
        raise web.HTTPNotFound(text="404 page not found\n") from None
    try:
        status = os.fstat(fd)
        if stat.S_ISDIR(status.st_mode):
            if path and not path.endswith("/"):
                raise web.HTTPMovedPermanently(f"/logs/{quote(path)}/")
            unchanged, common = _dated(request, status)
            if unchanged:
                return web.Response(status=304, headers=common)
            listing = await asyncio.to_thread(_listing, fd)
            return web.Response(text=listing, content_type="text/html", headers=common)
        if not stat.S_ISREG(status.st_mode):
            raise web.HTTPNotFound(text="404 page not found\n")
        return await _send(request, fd, status)
    finally:
        os.close(fd)


def _open(folder: str, path: str) -> int:
    """Links are followed as long as they stay below the folder; a pipe doesn't hold us up. Raises OSError."""
    if "\0" in path:
        raise OSError(errno.ENOENT, "no such file", path)
    base = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        resolve = openat2.RESOLVE_BENEATH | openat2.RESOLVE_NO_MAGICLINKS
        return openat2.open_at(
            base, path.lstrip("/") or ".", os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY, resolve
        )
    finally:
        os.close(base)


def _listing(fd: int) -> str:
    with os.scandir(fd) as entries:
        names = sorted(
            f"{each.name}/" if each.is_dir(follow_symlinks=False) else each.name for each in entries
        )
    rows = [f'<a href="{quote(name)}">{html.escape(name)}</a>' for name in names[:_MAX_NAMES]]
    return f"{_HEAD}<pre>\n" + "\n".join(rows) + "\n</pre>\n"


def _dated(request: web.Request, found: os.stat_result) -> tuple[bool, dict[str, str]]:
    """Whether the client knows the file as it is now, and the header that says from when it is."""
    changed = int(found.st_mtime)
    since = request.if_modified_since
    unchanged = since is not None and changed <= since.timestamp()
    return unchanged, {"Last-Modified": email.utils.formatdate(changed, usegmt=True)}


async def _send(request: web.Request, fd: int, found: os.stat_result) -> web.StreamResponse:
    """The file as it is now, or the part of it that was asked for (RFC 9110, sections 13 and 14)."""
    unchanged, common = _dated(request, found)
    if unchanged:
        return web.Response(status=304, headers=common)
    size = found.st_size
    start, end, status = 0, size, 200
    try:
        wanted = request.http_range
    except ValueError:
        raise web.HTTPRequestRangeNotSatisfiable(text="invalid range\n") from None
    if wanted.start is not None or wanted.stop is not None:
        start = wanted.start or 0
        start, end = (max(0, size + start), size) if start < 0 else (start, min(wanted.stop or size, size))
        if start >= size:
            raise web.HTTPRequestRangeNotSatisfiable(
                text="invalid range: failed to overlap\n", headers={"Content-Range": f"bytes */{size}"}
            )
        status = 206
    headers = common | {
        "Accept-Ranges": "bytes",
        "Content-Type": "text/plain; charset=utf-8",
        "Content-Length": str(end - start),
    }
    if status == 206:
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
    response = web.StreamResponse(status=status, headers=headers)
    await response.prepare(request)
    while start < end:
        block = await asyncio.to_thread(os.pread, fd, min(_CHUNK, end - start), start)
        if not block:
            raise ConnectionResetError("the file has become shorter")
        await response.write(block)
        start += len(block)
    return response
