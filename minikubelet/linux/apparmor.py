"""AppArmor: whether it is on, which profiles are loaded (apparmor(7))."""

from __future__ import annotations

import re

_MODULE = "/sys/module/apparmor/parameters/enabled"
_PROFILES = "/sys/kernel/security/apparmor/profiles"
_LINE = re.compile(r"(?P<name>.+) \((?P<mode>[a-z]+)\)\Z")


def enabled(path: str = _MODULE) -> bool:
    """Whether this kernel enforces AppArmor."""
    try:
        with open(path, encoding="ascii") as file:
            return file.read(1) == "Y"
    except OSError:
        return False


def profiles(path: str = _PROFILES) -> dict[str, str]:
    """Loaded profiles: name → mode (``enforce``, ``complain`` …). Raises OSError (securityfs not mounted)."""
    found: dict[str, str] = {}
    with open(path, encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            match = _LINE.match(line.rstrip("\n"))
            if match:
                found[match["name"]] = match["mode"]
    return found


def loaded(name: str, path: str = _PROFILES) -> bool:
    """Whether the profile ``name`` is loaded. Raises OSError."""
    return name in profiles(path)
