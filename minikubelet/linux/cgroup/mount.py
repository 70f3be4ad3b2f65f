"""Where cgroup2 is mounted and what it controls (proc_pid_mountinfo(5), kernel's cgroup-v2 document).

Three kinds of host: *unified* (cgroup2 has the controllers), *hybrid* (cgroup2 is there, the controllers are
on v1: processes can be grouped, killed, frozen and their pressure read, limits can't be set) and *legacy*
(no cgroup2).
Hierarchies of the host are never mounted, unmounted or re-bound here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_ESCAPE = re.compile(r"\\([0-7]{3})")


@dataclass(frozen=True)
class CgroupMount:
    """The cgroup2 hierarchy of this host."""

    path: str
    """Mount point; empty when cgroup2 is not mounted."""
    mode: str
    """``unified``, ``hybrid`` or ``legacy``."""
    controllers: frozenset[str] = frozenset()
    """What children of the mount's root can be given."""
    options: frozenset[str] = frozenset()
    """Mount options such as ``nsdelegate`` or ``memory_recursiveprot``."""
    legacy_controllers: frozenset[str] = frozenset()
    """Controllers that are on cgroup v1."""


def find_mount(mountinfo: str = "/proc/self/mountinfo") -> CgroupMount:
    """Look for cgroup2; the first mount of its root wins. Raises OSError when mountinfo can't be read."""
    path, options, legacy = "", frozenset[str](), set[str]()
    with open(mountinfo, encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            before, _, after = line.partition(" - ")
            fields, kind = before.split(), after.split()
            if len(fields) < 6 or len(kind) < 3:
                continue
            if kind[0] == "cgroup2" and not path:
                path = _ESCAPE.sub(lambda match: chr(int(match[1], 8)), fields[4])
                options = frozenset(kind[2].split(","))
            elif kind[0] == "cgroup":
                legacy.update(option for option in kind[2].split(",") if option not in ("rw", "ro"))
    legacy_controllers = frozenset(name for name in legacy if "=" not in name and name != "xattr")
    if not path:
        return CgroupMount("", "legacy", legacy_controllers=legacy_controllers)
    mode = "hybrid" if legacy_controllers else "unified"
    return CgroupMount(path, mode, read_controllers(path), options, legacy_controllers)


def read_controllers(path: str) -> frozenset[str]:
    """The controllers a cgroup may hand to its children (``cgroup.controllers``). Raises OSError."""
    with open(f"{path}/cgroup.controllers", encoding="ascii") as file:
        return frozenset(file.read().split())
