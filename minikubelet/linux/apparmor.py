"""AppArmor: whether it is on, which profiles are loaded, loading one (apparmor(7), apparmor_parser(8))."""

from __future__ import annotations

import re
import shutil
import subprocess

_MODULE = "/sys/module/apparmor/parameters/enabled"
_PROFILES = "/sys/kernel/security/apparmor/profiles"
_OWN_LABELS = ("/proc/self/attr/apparmor/current", "/proc/self/attr/current")
_LINE = re.compile(r"(?P<name>.+) \((?P<mode>[a-z]+)\)\Z")
_PARSER = "apparmor_parser"
_PARSER_PATH = "/usr/sbin:/sbin:/usr/bin:/bin"
_PARSER_SECONDS = 120.0


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


def own_profile(paths: tuple[str, ...] = _OWN_LABELS) -> str:
    """The profile that confines this process, ``unconfined`` where none does or that can't be told."""
    for path in paths:
        try:
            with open(path, encoding="utf-8", errors="replace") as file:
                label = file.read(4096).rstrip("\0\n")
        except OSError:
            continue
        match = _LINE.match(label)
        return match["name"] if match else label or "unconfined"
    return "unconfined"


def parser() -> str:
    """The program that compiles and loads profiles, "" where it isn't installed."""
    return shutil.which(_PARSER, path=_PARSER_PATH) or ""


def load(text: str, program: str) -> None:
    """Compile a profile's text and load it in place of one of its name. Blocks for tens of milliseconds.

    ``program`` is executed by vfork(2), so that the size of this process doesn't matter. Raises OSError (it
    can't be executed), ValueError with its words if it does not accept the text or can't load it.
    """
    command = [program, "--replace", "--skip-cache"]
    try:
        done = subprocess.run(
            command,
            input=text.encode(),
            capture_output=True,
            timeout=_PARSER_SECONDS,
            check=False,
            env={"PATH": _PARSER_PATH, "LC_ALL": "C"},
            cwd="/",
        )
    except subprocess.TimeoutExpired:
        raise ValueError(f"{program} has not ended within {_PARSER_SECONDS:.0f} s") from None
    if done.returncode != 0:
        words = " ".join(done.stderr.decode("utf-8", "replace").split())
        raise ValueError(f"{program} failed with status {done.returncode}: {words[:500]}")
