"""The device filter, run by an interpreter of the instructions it uses and loaded by the kernel."""

from __future__ import annotations

import ctypes
import os
import struct

import pytest

from minikubelet.linux.cgroup.device import ALLOW_ALL, DEFAULT_RULES, DeviceRule, merge, program

KINDS = {"b": 1, "c": 2}
BITS = {"m": 1, "r": 2, "w": 4}


def decide(code: bytes, kind: str, major: int, minor: int, access: str) -> bool:
    context = {0: KINDS[kind] | sum(BITS[letter] for letter in access) << 16, 4: major, 8: minor}
    registers = [0] * 11
    position = 0
    while True:
        opcode, both, offset, immediate = struct.unpack_from("=BBhi", code, position * 8)
        target, source = both & 15, both >> 4
        position += 1
        if opcode == 0x61:
            registers[target] = context[offset]
        elif opcode == 0xBC:
            registers[target] = registers[source]
        elif opcode == 0xB4:
            registers[target] = immediate
        elif opcode == 0x54:
            registers[target] &= immediate
        elif opcode == 0x74:
            registers[target] >>= immediate
        elif opcode == 0x56:
            position += offset if registers[target] != immediate else 0
        elif opcode == 0x16:
            position += offset if registers[target] == immediate else 0
        elif opcode == 0x95:
            return registers[0] == 1
        else:
            raise AssertionError(f"opcode {opcode:#x}")


def test_default_devices() -> None:
    code = program(DEFAULT_RULES)
    assert decide(code, "c", 1, 3, "rw")
    assert decide(code, "c", 136, 9, "rw")
    assert decide(code, "b", 8, 0, "m")
    assert not decide(code, "b", 8, 0, "r")
    assert not decide(code, "b", 8, 0, "rm")
    assert not decide(code, "c", 1, 1, "r")
    assert not decide(code, "b", 1, 3, "r")


def test_nothing_and_everything() -> None:
    assert not decide(program([]), "c", 1, 3, "r")
    assert decide(program(ALLOW_ALL), "b", 8, 0, "rwm")
    assert not decide(program([DeviceRule(True), DeviceRule(False)]), "c", 1, 3, "r")


def test_the_last_rule_wins_and_a_denial_of_a_part_counts() -> None:
    code = program([DeviceRule(True), DeviceRule(False, "b", 8, 0, "w"), DeviceRule(True, "b", 8, 1)])
    assert decide(code, "b", 8, 0, "r")
    assert not decide(code, "b", 8, 0, "rw")
    assert decide(code, "b", 8, 1, "rw")


def test_rights_given_apart_add_up() -> None:
    rules = [
        DeviceRule(True, "c", 10, 200, "r"),
        DeviceRule(True, "c", 1, 3),
        DeviceRule(True, "c", 10, 200, "w"),
    ]
    assert merge(rules) == [DeviceRule(True, "c", 1, 3), DeviceRule(True, "c", 10, 200, "rw")]
    assert decide(program(rules), "c", 10, 200, "rw")
    assert not decide(program(rules), "c", 10, 200, "rwm")


@pytest.mark.parametrize(
    "rule",
    [
        DeviceRule(True, "x"),
        DeviceRule(True, "c", access="rx"),
        DeviceRule(True, "c", access=""),
        DeviceRule(True, "c", -2),
    ],
)
def test_bad_rules(rule: DeviceRule) -> None:
    with pytest.raises(ValueError, match=r"is none|is not"):
        program([rule])


SETS = {
    "default": DEFAULT_RULES,
    "all": ALLOW_ALL,
    "none": (),
    "mixed": (DeviceRule(True), DeviceRule(False, "b", 8, 0, "w"), DeviceRule(True, "c", 10, access="r")),
}


@pytest.mark.skipif(os.geteuid() != 0, reason="loading eBPF programs needs root")
@pytest.mark.parametrize("name", SETS)
def test_the_kernels_verifier_accepts_it(name: str) -> None:
    code = program(SETS[name])
    instructions = ctypes.create_string_buffer(code, len(code))
    licence = ctypes.create_string_buffer(b"Apache-2.0")
    log = ctypes.create_string_buffer(65536)
    attributes = struct.pack(
        "=IIQQIIQ",
        15,
        len(code) // 8,
        ctypes.addressof(instructions),
        ctypes.addressof(licence),
        1,
        len(log),
        ctypes.addressof(log),
    ).ljust(128, b"\0")
    libc = ctypes.CDLL(None, use_errno=True)
    fd = libc.syscall(321, 5, attributes, len(attributes))
    assert fd >= 0, (os.strerror(ctypes.get_errno()), log.value.decode())
    os.close(fd)
