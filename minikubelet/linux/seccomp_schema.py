"""Seccomp profiles as people write them (OCI runtime spec and Docker's dialect), checked whole.

Half a profile must never become no profile: a missing or unknown action, an unknown key, ``{}`` and ``null``
are errors. All errors are NodeError INVALID_ARGUMENT whose field is the path inside the profile.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from minikubelet.base.errors import NodeError, invalid, unimplemented

# values of linux/seccomp.h; the low 16 bits of ERRNO and TRACE carry data
ACTIONS = {
    "SCMP_ACT_KILL": 0x00000000,
    "SCMP_ACT_KILL_THREAD": 0x00000000,
    "SCMP_ACT_KILL_PROCESS": 0x80000000,
    "SCMP_ACT_TRAP": 0x00030000,
    "SCMP_ACT_ERRNO": 0x00050000,
    "SCMP_ACT_TRACE": 0x7FF00000,
    "SCMP_ACT_LOG": 0x7FFC0000,
    "SCMP_ACT_ALLOW": 0x7FFF0000,
}
OPERATORS = {
    "SCMP_CMP_NE": 1,
    "SCMP_CMP_LT": 2,
    "SCMP_CMP_LE": 3,
    "SCMP_CMP_EQ": 4,
    "SCMP_CMP_GE": 5,
    "SCMP_CMP_GT": 6,
    "SCMP_CMP_MASKED_EQ": 7,
}
ALLOW, LOG = ACTIONS["SCMP_ACT_ALLOW"], ACTIONS["SCMP_ACT_LOG"]
_WITH_ERRNO = ("SCMP_ACT_ERRNO", "SCMP_ACT_TRACE")
_HARMLESS_FLAGS = ("SECCOMP_FILTER_FLAG_TSYNC", "SECCOMP_FILTER_FLAG_SPEC_ALLOW")
"""One thread installs the filter, and the kernel's speculation guard just stays on."""
_NAME = re.compile(r"[a-z_][a-z0-9_]{0,63}\Z")
_CAPABILITY = re.compile(r"CAP_[A-Z_]+\Z")
_KERNEL = re.compile(r"(\d+)\.(\d+)\Z")
_GO_ARCHES = {"x86_64": "amd64", "aarch64": "arm64"}


@dataclass(frozen=True)
class Condition:
    """One comparison of a system call's argument."""

    index: int
    operator: int
    value: int
    value_two: int


@dataclass(frozen=True)
class Rule:
    """What happens to some system calls; ``action`` is the filter's return value."""

    names: tuple[str, ...]
    action: int
    conditions: tuple[Condition, ...] = ()


@dataclass(frozen=True)
class Profile:
    """A profile with everything that depends on the container and the host decided."""

    default_action: int
    architectures: tuple[str, ...]
    """``SCMP_ARCH_…`` beside the machine's own."""
    rules: tuple[Rule, ...]


@dataclass(frozen=True)
class Surroundings:
    """What ``includes`` and ``excludes`` ask about."""

    capabilities: frozenset[str]
    machine: str
    """``uname -m``."""
    kernel: tuple[int, int]

    @staticmethod
    def here(capabilities: Collection[str]) -> Surroundings:
        """This machine, and a container with ``capabilities`` (its bounding set)."""
        system = os.uname()
        match = re.match(r"(\d+)\.(\d+)", system.release)
        kernel = (int(match[1]), int(match[2])) if match else (0, 0)
        return Surroundings(frozenset(capabilities), system.machine, kernel)


def parse(profile: object, around: Surroundings) -> Profile:
    """Check ``profile`` (decoded JSON) and decide its conditions. Raises NodeError."""
    top = _mapping(profile, "seccomp")
    _known(
        top,
        "seccomp",
        "defaultAction defaultErrnoRet defaultErrno architectures archMap flags syscalls listenerPath "
        "listenerMetadata",
    )
    if top.get("listenerPath") or top.get("listenerMetadata"):
        raise unimplemented("a seccomp profile with listenerPath (user notification)")
    if "defaultAction" not in top:
        raise invalid("seccomp.defaultAction", "is missing: a profile without it would confine nothing")
    default = _action(top["defaultAction"], _errno(top, "seccomp", "default"), "seccomp.defaultAction")
    for flag in _strings(top.get("flags", []), "seccomp.flags"):
        if flag not in _HARMLESS_FLAGS:
            raise unimplemented(f"seccomp flag {flag}")
    rules = []
    for number, entry in enumerate(_list(top.get("syscalls", []), "seccomp.syscalls")):
        rule = _rule(entry, f"seccomp.syscalls[{number}]", around)
        if rule is not None:
            rules.append(rule)
    return Profile(default, _architectures(top, around), tuple(rules))


def _rule(entry: object, where: str, around: Surroundings) -> Rule | None:
    """The rule, None when its includes or excludes leave it out (it is checked all the same)."""
    fields = _mapping(entry, where)
    _known(fields, where, "names name action errnoRet errno args comment includes excludes")
    names = _strings(fields.get("names", []), f"{where}.names")
    if "name" in fields:
        names += _strings([fields["name"]], f"{where}.name")
    if not names:
        raise invalid(f"{where}.names", "names no system call")
    for name in names:
        if not _NAME.match(name):
            raise invalid(f"{where}.names", f"{name!r} is no name of a system call")
    if "action" not in fields:
        raise invalid(f"{where}.action", "is missing")
    action = _action(fields["action"], _errno(fields, where, ""), f"{where}.action")
    arguments = _list(fields.get("args") or [], f"{where}.args")
    conditions = tuple(_condition(arg, f"{where}.args[{i}]") for i, arg in enumerate(arguments))
    includes = _filter(fields.get("includes"), f"{where}.includes")
    excludes = _filter(fields.get("excludes"), f"{where}.excludes")
    if not includes.all_hold(around) or excludes.any_holds(around):
        return None
    return Rule(tuple(names), action, conditions)


@dataclass(frozen=True)
class _Filter:
    capabilities: tuple[str, ...] = ()
    arches: tuple[str, ...] = ()
    kernel: tuple[int, int] | None = None

    def all_hold(self, around: Surroundings) -> bool:
        if self.arches and not self._here(around):
            return False
        if self.kernel is not None and around.kernel < self.kernel:
            return False
        return set(self.capabilities) <= around.capabilities

    def any_holds(self, around: Surroundings) -> bool:
        if self.kernel is not None and around.kernel >= self.kernel:
            return True
        return self._here(around) or not around.capabilities.isdisjoint(self.capabilities)

    def _here(self, around: Surroundings) -> bool:
        return around.machine in self.arches or _GO_ARCHES.get(around.machine) in self.arches


def _filter(value: object, where: str) -> _Filter:
    fields = _mapping(value or {}, where)
    _known(fields, where, "caps arches minKernel")
    capabilities = _strings(fields.get("caps") or [], f"{where}.caps")
    for name in capabilities:
        if not _CAPABILITY.match(name):
            raise invalid(f"{where}.caps", f"{name!r} is no capability")
    arches = _strings(fields.get("arches") or [], f"{where}.arches")
    text = fields.get("minKernel")
    if not text:
        return _Filter(tuple(capabilities), tuple(arches))
    match = _KERNEL.match(text) if isinstance(text, str) else None
    if match is None:
        raise invalid(f"{where}.minKernel", f"{text!r} is no version such as 4.8")
    return _Filter(tuple(capabilities), tuple(arches), (int(match[1]), int(match[2])))


def _condition(entry: object, where: str) -> Condition:
    fields = _mapping(entry, where)
    _known(fields, where, "index value valueTwo op")
    for name in ("index", "value", "op"):
        if name not in fields:
            raise invalid(f"{where}.{name}", "is missing")
    operator = fields["op"]
    if not isinstance(operator, str) or operator not in OPERATORS:
        raise invalid(f"{where}.op", f"{operator!r} is none of {', '.join(OPERATORS)}")
    index = _integer(fields["index"], 5, f"{where}.index")
    value = _integer(fields["value"], (1 << 64) - 1, f"{where}.value")
    value_two = _integer(fields.get("valueTwo", 0), (1 << 64) - 1, f"{where}.valueTwo")
    return Condition(index, OPERATORS[operator], value, value_two)


def _architectures(top: Mapping[str, Any], around: Surroundings) -> tuple[str, ...]:
    names = _strings(top.get("architectures") or [], "seccomp.architectures")
    native = f"SCMP_ARCH_{around.machine.upper()}"
    for number, entry in enumerate(_list(top.get("archMap") or [], "seccomp.archMap")):
        where = f"seccomp.archMap[{number}]"
        fields = _mapping(entry, where)
        _known(fields, where, "architecture subArchitectures")
        (main,) = _strings([fields.get("architecture")], f"{where}.architecture")
        others = _strings(fields.get("subArchitectures") or [], f"{where}.subArchitectures")
        if main == native:
            names += [main, *others]
    for name in names:
        if not re.match(r"SCMP_ARCH_[A-Z0-9_]+\Z", name):
            raise invalid("seccomp.architectures", f"{name!r} is no architecture such as {native}")
    return tuple(dict.fromkeys(names))


def _action(name: object, number: int | None, where: str) -> int:
    if name == "SCMP_ACT_NOTIFY":
        raise unimplemented("SCMP_ACT_NOTIFY in a seccomp profile")
    if not isinstance(name, str) or name not in ACTIONS:
        raise invalid(where, f"{name!r} is none of {', '.join(ACTIONS)}")
    if name not in _WITH_ERRNO:
        if number is not None:
            raise invalid(where, f"{name} takes no errnoRet")
        return ACTIONS[name]
    return ACTIONS[name] | (errno.EPERM if number is None else number)


def _errno(fields: Mapping[str, Any], where: str, prefix: str) -> int | None:
    """``errnoRet`` (number) or ``errno`` (name, as in containers' profiles); the number wins."""
    number_key, name_key = ("defaultErrnoRet", "defaultErrno") if prefix else ("errnoRet", "errno")
    number, name = fields.get(number_key), fields.get(name_key)
    if number is not None:
        return _integer(number, 4095, f"{where}.{number_key}")
    if name in (None, ""):
        return None
    found = getattr(errno, name, None) if isinstance(name, str) and name.startswith("E") else None
    if not isinstance(found, int):
        raise invalid(f"{where}.{name_key}", f"{name!r} is no error name such as EPERM")
    return found


def _known(fields: Mapping[str, Any], where: str, known: str) -> None:
    for key in fields:
        if key not in known.split():
            raise invalid(f"{where}.{key}", "is no field of a seccomp profile")


def _mapping(value: object, where: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise _wrong(where, "an object", value)
    return value


def _list(value: object, where: str) -> list[Any]:
    if not isinstance(value, list):
        raise _wrong(where, "a list", value)
    return value


def _strings(value: object, where: str) -> list[str]:
    entries = _list(value, where)
    for entry in entries:
        if not isinstance(entry, str):
            raise _wrong(where, "a list of strings", value)
    return list(entries)


def _integer(value: object, largest: int, where: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= largest:
        raise invalid(where, f"{value!r} is no number from 0 to {largest}")
    return value


def _wrong(where: str, wanted: str, value: object) -> NodeError:
    found = "null" if value is None else type(value).__name__
    return invalid(where, f"must be {wanted}, not {found}")


__all__ = ["ALLOW", "LOG", "Condition", "Profile", "Rule", "Surroundings", "parse"]
