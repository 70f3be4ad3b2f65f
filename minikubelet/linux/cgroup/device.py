"""An eBPF program that decides which device nodes a cgroup may use (BPF_PROG_TYPE_CGROUP_DEVICE).

cgroup v2 has no devices controller; a program attached to the cgroup is asked at each open(2) and mknod(2) of
a device (kernel's cgroup-v2 document, "Device controller"). The last rule that says something about a device
wins; without one it is denied.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import NamedTuple

_INSTRUCTION = struct.Struct("=BBhi")
_ACCESS = {"m": 1, "r": 2, "w": 4}  # BPF_DEVCG_ACC_*
_TYPES = {"b": 1, "c": 2}  # BPF_DEVCG_DEV_*
ANY = -1

# opcodes, linux/bpf.h and linux/bpf_common.h
_LOAD_WORD = 0x61  # BPF_LDX | BPF_MEM | BPF_W
_MOVE_REGISTER = 0xBC  # BPF_ALU | BPF_MOV | BPF_X
_MOVE = 0xB4  # BPF_ALU | BPF_MOV | BPF_K
_AND = 0x54  # BPF_ALU | BPF_AND | BPF_K
_SHIFT_RIGHT = 0x74  # BPF_ALU | BPF_RSH | BPF_K
_JUMP_NOT_EQUAL = 0x56  # BPF_JMP32 | BPF_JNE | BPF_K
_JUMP_EQUAL = 0x16  # BPF_JMP32 | BPF_JEQ | BPF_K
_EXIT = 0x95
_RESULT, _CONTEXT, _TYPE, _WANTED, _MAJOR, _MINOR, _SCRATCH = 0, 1, 2, 3, 4, 5, 6


class DeviceRule(NamedTuple):
    """Allow or deny ``access`` (of ``rwm``) to devices of ``kind`` a (all), b or c; -1 is any number."""

    allow: bool
    kind: str = "a"
    major: int = ANY
    minor: int = ANY
    access: str = "rwm"


ALLOW_ALL = (DeviceRule(True),)
"""For privileged containers."""

DEFAULT_RULES = (
    DeviceRule(True, "c", access="m"),
    DeviceRule(True, "b", access="m"),
    DeviceRule(True, "c", 1, 3),  # null
    DeviceRule(True, "c", 1, 5),  # zero
    DeviceRule(True, "c", 1, 7),  # full
    DeviceRule(True, "c", 1, 8),  # random
    DeviceRule(True, "c", 1, 9),  # urandom
    DeviceRule(True, "c", 5, 0),  # tty
    DeviceRule(True, "c", 5, 2),  # ptmx
    DeviceRule(True, "c", 136),  # pts/*
)
"""What every container may use: OCI runtime spec, "Default Devices"; making nodes, but not opening them."""


def _bits(access: str) -> int:
    if not access or not set(access) <= set(_ACCESS) or len(set(access)) != len(access):
        raise ValueError(f"access {access!r} is not of r, w, m")
    return sum(_ACCESS[letter] for letter in access)


def _emit(code: int, target: int = 0, source: int = 0, offset: int = 0, immediate: int = 0) -> bytes:
    return _INSTRUCTION.pack(code, source << 4 | target, offset, immediate)


def _letters(bits: int) -> str:
    return "".join(letter for letter in "rwm" if bits & _ACCESS[letter])


def merge(rules: Sequence[DeviceRule]) -> list[DeviceRule]:
    """Join neighbouring rules about the same devices: ``r`` and ``w`` allowed apart also allow ``rw``."""
    merged: list[DeviceRule] = []
    for rule in rules:
        bits = _bits(rule.access)
        for number in range(len(merged) - 1, -1, -1):
            other = merged[number]
            if other.allow != rule.allow:
                break
            if (other.kind, other.major, other.minor) == (rule.kind, rule.major, rule.minor):
                bits |= _bits(other.access)
                del merged[number]
                break
        merged.append(DeviceRule(rule.allow, rule.kind, rule.major, rule.minor, _letters(bits)))
    return merged


def program(rules: Sequence[DeviceRule]) -> bytes:
    """The instructions (array of struct bpf_insn) for ``rules``. Raises ValueError for a bad rule.

    An allowing rule must cover all that is wanted; a denying one takes effect when it covers part of it.
    """
    code = _emit(_LOAD_WORD, _TYPE, _CONTEXT, 0) + _emit(_MOVE_REGISTER, _WANTED, _TYPE)
    code += _emit(_AND, _TYPE, immediate=0xFFFF) + _emit(_SHIFT_RIGHT, _WANTED, immediate=16)
    code += _emit(_LOAD_WORD, _MAJOR, _CONTEXT, 4) + _emit(_LOAD_WORD, _MINOR, _CONTEXT, 8)
    for rule in reversed(merge(rules)):
        block = _block(rule)
        code += block
        if _decides_all(rule):
            return code
    return code + _emit(_MOVE, _RESULT, immediate=0) + _emit(_EXIT)


def _decides_all(rule: DeviceRule) -> bool:
    """The verifier refuses code that can't be reached: nothing may follow a rule about everything."""
    return rule.kind == "a" and rule.major == ANY and rule.minor == ANY and _bits(rule.access) == 7


def _block(rule: DeviceRule) -> bytes:
    if rule.kind not in ("a", *_TYPES):
        raise ValueError(f"device kind {rule.kind!r} is none of a, b, c")
    if rule.major < ANY or rule.minor < ANY or max(rule.major, rule.minor) >= 1 << 31:
        raise ValueError(f"device number {rule.major}:{rule.minor} is none")
    tests: list[tuple[bytes, int, int, int]] = []  # set-up, jump opcode, register, value
    if rule.kind != "a":
        tests.append((b"", _JUMP_NOT_EQUAL, _TYPE, _TYPES[rule.kind]))
    bits = _bits(rule.access)
    if bits != 7:
        copy = _emit(_MOVE_REGISTER, _SCRATCH, _WANTED)
        if rule.allow:  # leave when something else is wanted
            tests.append((copy + _emit(_AND, _SCRATCH, immediate=~bits & 7), _JUMP_NOT_EQUAL, _SCRATCH, 0))
        else:  # leave when nothing of it is wanted
            tests.append((copy + _emit(_AND, _SCRATCH, immediate=bits), _JUMP_EQUAL, _SCRATCH, 0))
    if rule.major != ANY:
        tests.append((b"", _JUMP_NOT_EQUAL, _MAJOR, rule.major))
    if rule.minor != ANY:
        tests.append((b"", _JUMP_NOT_EQUAL, _MINOR, rule.minor))
    block = _emit(_MOVE, _RESULT, immediate=int(rule.allow)) + _emit(_EXIT)
    for setup, jump, register, value in reversed(tests):
        block = setup + _emit(jump, register, offset=len(block) // 8, immediate=value) + block
    return block
