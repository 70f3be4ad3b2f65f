"""Paths of httpGet actions in the form in which Go's net/url sends them."""

from __future__ import annotations

import re
import string
from urllib.parse import quote, unquote_to_bytes

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")
_ESCAPED = re.compile(r"[-A-Za-z0-9._~!$&'()*+,;=:@/\[\]%]*\Z")
_PATH_SAFE = "/:;,@&=+$-_.~"


def request_target(path: str) -> str:
    """Path and query of the request line.

    Of a whole URL only these parts count; what is no URL at all is taken for a path as it is.
    """
    whole = path.partition("#")[0]
    rest, mark, query = whole.partition("?")
    if _CONTROL.search(whole) or _BAD_ESCAPE.search(rest):
        return _rooted(quote(path, safe=_PATH_SAFE))
    scheme = _SCHEME.match(rest)
    if scheme is not None:
        rest = rest[scheme.end() :]
    if rest.startswith("//") and (scheme is not None or not rest.startswith("///")):
        rest = "/" + rest[2:].partition("/")[2]  # the host is the action's or the pod's
    return _rooted(escape_path(rest)) + mark + quote(query, safe=string.punctuation)


def escape_path(path: str) -> str:
    """A path that is escaped already stays as it is (``a%2Fb`` is one name); another is escaped whole."""
    return path if _ESCAPED.match(path) else quote(unquote_to_bytes(path), safe=_PATH_SAFE)


def _rooted(path: str) -> str:
    return path if path.startswith("/") else f"/{path}"
