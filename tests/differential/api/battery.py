"""The requests: ``requests/GROUP.txt``, one a line.

``METHOD TARGET [| as WHO] [| Header: value]… [| < body] [| no body]``

WHO is one of :data:`WHO`; the default is the group's. ``< body`` is sent; with ``no body`` only the status
and the headers of the answer count. The pods that they are about are in ``stage.py``. Comments at a file's
head:

``# port: NAME``  of PORTS; ``main`` if there is none
``# as: WHO``  who asks; ``admin`` if there is none
``# kubelet: NAME``  of ``stage.KUBELETS``; ``plain`` if there is none
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

REQUESTS = Path(__file__).with_name("requests")
PORTS = ("main", "health", "readonly")
WHO = ("admin", "none", "stranger", "expired", "nameless")
"""A client certificate of the CA, no certificate, one of another CA, an expired one, one without a name."""
_DIRECTIVE = re.compile(r"#\s*(port|as|kubelet):\s*(\S+)\s*\Z")


@dataclass
class Request:
    """One line of a file."""

    name: str
    """The line itself: what it is called in results."""
    method: str
    target: str
    who: str = "admin"
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: bytes = b""
    with_body: bool = True


@dataclass
class Group:
    """One file."""

    name: str
    port: str = "main"
    who: str = "admin"
    kubelet: str = "plain"
    requests: list[Request] = field(default_factory=list)


def load(*patterns: str, folder: Path = REQUESTS) -> list[Group]:
    """The groups whose name contains one of the patterns; all if there is none."""
    paths = sorted(folder.glob("*.txt"))
    return [read(path) for path in paths if any(each in path.stem for each in patterns or ("",))]


def read(path: Path) -> Group:
    """One group. Raises ValueError for lines that aren't right or are there twice."""
    group = Group(path.stem)
    seen: set[str] = set()
    for line in path.read_text().splitlines():
        if line.startswith("#"):
            if match := _DIRECTIVE.match(line):
                setattr(group, {"as": "who"}.get(match[1], match[1]), match[2])
        elif line.strip():
            if line in seen:
                raise ValueError(f"{path}: {line!r} is there twice")
            seen.add(line)
            group.requests.append(parse(line, group.who))
    if group.port not in PORTS or group.who not in WHO:
        raise ValueError(f"{path}: port or asker is none of {PORTS}, {WHO}")
    return group


def parse(line: str, who: str = "admin") -> Request:
    """One request. Raises ValueError."""
    first, *more = line.strip().split(" | ")
    method, _, target = first.partition(" ")
    if not target.startswith(("/", "*", "http:")) or " " in target:
        raise ValueError(f"{line!r} is no request")
    request = Request(line.strip(), method, target, who)
    for part in more:
        if part.startswith("as "):
            request.who = part.removeprefix("as ")
            if request.who not in WHO:
                raise ValueError(f"{line!r}: who?")
        elif part.startswith("< "):
            request.body = part.removeprefix("< ").encode()
        elif part == "no body":
            request.with_body = False
        elif match := re.match(r"([A-Za-z0-9-]+): ?(.*)\Z", part):
            request.headers.append((match[1], match[2]))
        else:
            raise ValueError(f"{line!r}: what is {part!r}?")
    return request
