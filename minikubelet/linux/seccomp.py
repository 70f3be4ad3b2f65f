"""Compile seccomp profiles to classic BPF with libseccomp.so.2; a container's init installs the result.

libseccomp may be older than the kernel. Calls it can't name are put in front of its program by number (they
have the same number on all architectures since 424), and calls newer than anything the profile mentions fail
with ENOSYS instead of EPERM, as if the kernel did not have them: C libraries then fall back.
"""

from __future__ import annotations

import ctypes
import errno
import functools
import json
import logging
import os
import struct
from collections.abc import Collection, Iterator
from typing import Any

from minikubelet.base.errors import Code, NodeError, invalid
from minikubelet.linux import seccomp_default
from minikubelet.linux.seccomp_schema import ALLOW, LOG, Condition, Profile, Rule, Surroundings, parse

log = logging.getLogger(__name__)

_LIBRARY = "libseccomp.so.2"
_MAX_INSTRUCTIONS = 4096  # BPF_MAXINSNS
_ATTRIBUTE_OPTIMISE = 8  # SCMP_FLTATR_CTL_OPTIMIZE; 2: binary search, since 2.5
_UNKNOWN = -1  # __NR_SCMP_ERROR
_ERRNO = 0x00050000
_X32_BIT = 0x40000000
_LAST_OLD = 423
"""Up to here architectures count differently: a number says nothing about the call's age."""

_NUMBERS = {
    "set_mempolicy_home_node": 450,
    "cachestat": 451,
    "fchmodat2": 452,
    "map_shadow_stack": 453,
    "futex_wake": 454,
    "futex_wait": 455,
    "futex_requeue": 456,
    "statmount": 457,
    "listmount": 458,
    "lsm_get_self_attr": 459,
    "lsm_set_self_attr": 460,
    "lsm_list_modules": 461,
    "mseal": 462,
    "setxattrat": 463,
    "getxattrat": 464,
    "listxattrat": 465,
    "removexattrat": 466,
    "open_tree_attr": 467,
    "file_getattr": 468,
    "file_setattr": 469,
}
"""Calls that libseccomp 2.5 does not know, from the kernel's scripts/syscall.tbl."""
_AUDIT = {
    "x86_64": (0xC000003E, 0x40000003),  # with i386
    "aarch64": (0xC00000B7, 0x40000028),  # with arm
    "riscv64": (0xC00000F3,),
    "ppc64le": (0xC0000015,),
    "s390x": (0x80000016, 0x00000016),
}


class _Comparison(ctypes.Structure):
    # struct scmp_arg_cmp
    _fields_ = (
        ("argument", ctypes.c_uint),
        ("operator", ctypes.c_int),
        ("a", ctypes.c_uint64),
        ("b", ctypes.c_uint64),
    )


@functools.cache
def _library() -> ctypes.CDLL:
    try:
        lib = ctypes.CDLL(_LIBRARY)
    except OSError as exc:
        raise NodeError(
            Code.FAILED_PRECONDITION,
            f"seccomp profiles need {_LIBRARY}, which can't be loaded ({exc}): install libseccomp2",
        ) from exc
    lib.seccomp_init.argtypes = [ctypes.c_uint32]
    lib.seccomp_init.restype = ctypes.c_void_p
    lib.seccomp_release.argtypes = [ctypes.c_void_p]
    lib.seccomp_release.restype = None
    lib.seccomp_attr_set.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_uint32]
    lib.seccomp_arch_resolve_name.argtypes = [ctypes.c_char_p]
    lib.seccomp_arch_resolve_name.restype = ctypes.c_uint32
    lib.seccomp_arch_add.argtypes = [ctypes.c_void_p, ctypes.c_uint32]
    lib.seccomp_syscall_resolve_name.argtypes = [ctypes.c_char_p]
    lib.seccomp_rule_add_array.argtypes = [
        ctypes.c_void_p,
        ctypes.c_uint32,
        ctypes.c_int,
        ctypes.c_uint,
        ctypes.POINTER(_Comparison),
    ]
    lib.seccomp_export_bpf.argtypes = [ctypes.c_void_p, ctypes.c_int]
    return lib


def available() -> bool:
    """Whether profiles can be compiled on this host."""
    try:
        _library()
    except NodeError:
        return False
    return True


@functools.cache
def default_profile() -> dict[str, Any]:
    """The profile of RuntimeDefault for this machine."""
    return seccomp_default.build(os.uname().machine)


def compile_profile(profile: object, capabilities: Collection[str]) -> bytes:
    """A cBPF program (array of struct sock_filter) for an OCI- or Docker-style profile.

    ``profile`` is decoded JSON, ``capabilities`` the container's bounding set (``includes`` and ``excludes``
    ask about it). The result is cached. Raises NodeError: INVALID_ARGUMENT with the path of what is wrong,
    UNIMPLEMENTED for user notification, FAILED_PRECONDITION without libseccomp.
    """
    try:
        text = json.dumps(profile, sort_keys=True)
    except (TypeError, ValueError) as exc:
        raise invalid("seccomp", f"is no JSON: {exc}") from exc
    return _compile_text(text, frozenset(capabilities))


@functools.lru_cache(maxsize=128)
def _compile_text(text: str, capabilities: frozenset[str]) -> bytes:
    return _compile(parse(json.loads(text), Surroundings.here(capabilities)))


def load_profile(path_text: str | bytes, capabilities: Collection[str]) -> bytes:
    """Compile the text of a profile file. Raises NodeError as :func:`compile_profile`."""
    try:
        profile = json.loads(path_text)
    except ValueError as exc:
        raise invalid("seccomp", f"is no JSON: {exc}") from exc
    return compile_profile(profile, capabilities)


def _compile(profile: Profile) -> bytes:
    lib = _library()
    context = lib.seccomp_init(profile.default_action)
    if not context:
        raise invalid("seccomp.defaultAction", f"libseccomp does not know action {profile.default_action:#x}")
    try:
        lib.seccomp_attr_set(context, _ATTRIBUTE_OPTIMISE, 2)  # an older library searches one by one
        for name in profile.architectures:
            _add_architecture(lib, context, name)
        by_number: dict[int, int] = {}
        highest = _LAST_OLD if profile.rules else 0
        for rule in profile.rules:
            highest = max(highest, _add_rule(lib, context, profile, rule, by_number))
        program = _export(lib, context)
    finally:
        lib.seccomp_release(context)
    program = _preamble(profile, by_number, highest) + program
    if len(program) // 8 > _MAX_INSTRUCTIONS:
        raise invalid("seccomp", f"the filter has {len(program) // 8} instructions, more than 4096")
    return program


def _add_architecture(lib: ctypes.CDLL, context: int, name: str) -> None:
    token = lib.seccomp_arch_resolve_name(name.removeprefix("SCMP_ARCH_").lower().encode())
    if not token:
        raise invalid("seccomp.architectures", f"libseccomp does not know {name}")
    result = lib.seccomp_arch_add(context, token)
    if result not in (0, -errno.EEXIST):
        raise invalid("seccomp.architectures", f"{name}: {os.strerror(-result)}")


def _add_rule(lib: ctypes.CDLL, context: int, profile: Profile, rule: Rule, by_number: dict[int, int]) -> int:
    """Add one rule; returns its highest call number. What libseccomp can't name goes to ``by_number``."""
    highest = 0
    for name in rule.names:
        number = lib.seccomp_syscall_resolve_name(name.encode())
        if number == _UNKNOWN:
            number = _NUMBERS.get(name, _UNKNOWN)
            if number == _UNKNOWN or rule.conditions:
                _skip(profile, rule, name)
            else:
                by_number[number] = rule.action
                highest = max(highest, number)
            continue
        highest = max(highest, number)
        if rule.action == profile.default_action:
            continue  # libseccomp refuses rules that say what the default says
        for conditions in _alternatives(rule.conditions):
            array = (_Comparison * max(1, len(conditions)))(*(_comparison(c) for c in conditions))
            result = lib.seccomp_rule_add_array(context, rule.action, number, len(conditions), array)
            if result != 0:
                raise invalid("seccomp.syscalls", f"{name}: libseccomp: {os.strerror(-result)}")
    return highest


def _comparison(condition: Condition) -> _Comparison:
    return _Comparison(condition.index, condition.operator, condition.value, condition.value_two)


def _alternatives(conditions: tuple[Condition, ...]) -> Iterator[tuple[Condition, ...]]:
    """All conditions in one rule; when an argument is compared twice, one rule for each, as runc reads it."""
    indexes = [condition.index for condition in conditions]
    if len(set(indexes)) == len(indexes):
        yield conditions
        return
    for condition in conditions:
        yield (condition,)


def _skip(profile: Profile, rule: Rule, name: str) -> None:
    """An unknown name that allows is harmless; one that forbids would leave a hole without a word."""
    open_by_default = profile.default_action in (ALLOW, LOG)
    if open_by_default and rule.action not in (ALLOW, LOG):
        raise invalid("seccomp.syscalls", f"{name!r} is unknown on this host: it can't be forbidden")
    log.debug("seccomp: system call %s is unknown here and stays at the default action", name)


def _export(lib: ctypes.CDLL, context: int) -> bytes:
    fd = os.memfd_create("seccomp", os.MFD_CLOEXEC)
    try:
        result = lib.seccomp_export_bpf(context, fd)
        if result != 0:
            raise invalid("seccomp", f"libseccomp can't make a filter: {os.strerror(-result)}")
        return os.pread(fd, os.fstat(fd).st_size, 0)
    finally:
        os.close(fd)


def _instruction(code: int, jump_true: int, jump_false: int, value: int) -> bytes:
    return struct.pack("=HBBI", code, jump_true, jump_false, value)


def _preamble(profile: Profile, by_number: dict[int, int], highest: int) -> bytes:
    """cBPF that decides the calls libseccomp does not know, and lets all others through to its program."""
    audits = _AUDIT.get(os.uname().machine, ())
    # a native filter without further architectures kills foreign calls: leave that to libseccomp
    audits = audits if len(profile.architectures) > 1 else audits[:1]
    body = b""
    for number, action in sorted(by_number.items()):
        body += _instruction(0x15, 0, 1, number) + _instruction(0x06, 0, 0, action)
    restrictive = profile.default_action not in (ALLOW, LOG, _ERRNO | errno.ENOSYS)
    if restrictive and highest:
        body += _instruction(0x35, 2, 0, _X32_BIT)  # x32 calls: to libseccomp
        body += _instruction(0x25, 0, 1, highest)
        body += _instruction(0x06, 0, 0, _ERRNO | errno.ENOSYS)
    if not body or not audits or len(body) // 8 > 250:
        return b""
    size = len(body) // 8
    code = _instruction(0x20, 0, 0, 4)  # load the architecture
    for number, audit in enumerate(audits):
        last = number == len(audits) - 1
        to_body = len(audits) - 1 - number
        code += _instruction(0x15, to_body, size + 1 if last else 0, audit)
    return code + _instruction(0x20, 0, 0, 0) + body  # load the call's number
