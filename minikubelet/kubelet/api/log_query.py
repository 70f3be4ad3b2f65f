"""PodLogOptions (core/v1) out of the query of /containerLogs."""

from __future__ import annotations

import datetime
import time
from collections.abc import Mapping

from aiohttp import web

from minikubelet.base.errors import invalid
from minikubelet.kubelet.api.crilog import LogOptions

Query = Mapping[str, str]

_STREAMS = ("All", "Stdout", "Stderr")


def log_options(query: Query) -> LogOptions:
    """Options from a query.

    Raises NodeError INVALID_ARGUMENT for what isn't of the right type, HTTPUnprocessableEntity for what is
    out of bounds or doesn't go together, as upstream tells them apart.
    """
    since = _number(query, "sinceSeconds", minimum=1)
    moment = _moment(query.get("sinceTime", ""))
    if since and moment:
        raise _unfit("at most one of `sinceTime` or `sinceSeconds` may be specified")
    stream = query.get("stream", "All")
    if stream not in _STREAMS:
        raise _unfit(f"stream: {stream!r} is none of {', '.join(_STREAMS)}")
    tail = _tail(query)
    if tail is not None and stream != "All":
        raise _unfit("`tailLines` and specific `stream` are mutually exclusive for now")
    return LogOptions(
        follow=flag(query, "follow"),
        tail_lines=tail,
        since=time.time() - since if since else moment,
        timestamps=flag(query, "timestamps"),
        limit_bytes=_number(query, "limitBytes", minimum=1),
        stream="" if stream == "All" else stream.lower(),
    )


def flag(query: Query, name: str) -> bool:
    """Whether it is there and neither 0 nor false, as all of Kubernetes' API reads truth values."""
    return name in query and query[name] != "0" and query[name].lower() != "false"


def _tail(query: Query) -> int | None:
    """``tail`` is older than ``tailLines`` and goes before it; ``all``: no limit."""
    if query.get("tail") == "all":
        return None
    return _number(query, "tail" if query.get("tail") else "tailLines", minimum=0)


def _number(query: Query, name: str, *, minimum: int) -> int | None:
    text = query.get(name)
    if text is None:
        return None
    digits = text[1:] if text[:1] in ("-", "+") else text
    if not (digits.isascii() and digits.isdigit()) or abs(int(text[:25])) >= 1 << 63:
        raise invalid(name, f"{text[:40]!r} is not a whole number")
    if int(text) < minimum:
        raise _unfit(f"{name}: {int(text)} is less than {minimum}")
    return int(text)


def _moment(text: str) -> float:
    """RFC 3339 as seconds since the epoch; 0 for nothing."""
    if not text:
        return 0.0
    try:
        moment = datetime.datetime.fromisoformat(text)
    except ValueError:
        moment = datetime.datetime.min
    if moment.tzinfo is None:
        raise invalid("sinceTime", f"{text[:40]!r} is not a time like 2006-01-02T15:04:05Z")
    return moment.timestamp()


def _unfit(why: str) -> web.HTTPException:
    return web.HTTPUnprocessableEntity(text=why)
