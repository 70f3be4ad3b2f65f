"""Profiles are checked whole: nothing half-written leaves a container unconfined."""

from __future__ import annotations

import errno
from typing import Any

import pytest

from minikubelet.base.errors import Code, NodeError
from minikubelet.linux.seccomp_schema import Surroundings, parse

AROUND = Surroundings(frozenset({"CAP_CHOWN", "CAP_SYS_ADMIN"}), "x86_64", (6, 1))
ALLOW_READ: dict[str, Any] = {"names": ["read"], "action": "SCMP_ACT_ALLOW"}


def profile(**changes: Any) -> dict[str, Any]:
    return {"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [ALLOW_READ], **changes}


def with_rule(**changes: Any) -> dict[str, Any]:
    return profile(syscalls=[ALLOW_READ, {**ALLOW_READ, **changes}])


ARGUMENT = {"index": 0, "value": 1, "op": "SCMP_CMP_EQ"}
BAD: list[tuple[object, str]] = [
    (None, "seccomp"),
    ({}, "seccomp.defaultAction"),
    ([], "seccomp"),
    ("", "seccomp"),
    ("unconfined", "seccomp"),
    ({"syscalls": [ALLOW_READ]}, "seccomp.defaultAction"),
    (profile(defaultAction=None), "seccomp.defaultAction"),
    (profile(defaultAction=""), "seccomp.defaultAction"),
    (profile(defaultAction="SCMP_ACT_ERNO"), "seccomp.defaultAction"),
    (profile(defaultAction="scmp_act_errno"), "seccomp.defaultAction"),
    (profile(defaultAction=["SCMP_ACT_ERRNO"]), "seccomp.defaultAction"),
    (profile(defaultErrnoRet="1"), "seccomp.defaultErrnoRet"),
    (profile(defaultErrnoRet=5000), "seccomp.defaultErrnoRet"),
    (profile(defaultErrno="NOPE"), "seccomp.defaultErrno"),
    ({"defaultAction": "SCMP_ACT_ALLOW", "defaultErrnoRet": 1}, "seccomp.defaultAction"),
    (profile(sycalls=[]), "seccomp.sycalls"),
    (profile(syscalls=None), "seccomp.syscalls"),
    (profile(syscalls={}), "seccomp.syscalls"),
    (profile(syscalls=[None]), "seccomp.syscalls[0]"),
    (profile(architectures=["x86"]), "seccomp.architectures"),
    (profile(architectures="SCMP_ARCH_X86"), "seccomp.architectures"),
    (profile(archMap=[{"arch": "SCMP_ARCH_X86_64"}]), "seccomp.archMap[0].arch"),
    (with_rule(action="ALLOW"), "seccomp.syscalls[1].action"),
    (with_rule(action=None), "seccomp.syscalls[1].action"),
    (with_rule(names=[]), "seccomp.syscalls[1].names"),
    (with_rule(names=["re ad"]), "seccomp.syscalls[1].names"),
    (with_rule(names=[1]), "seccomp.syscalls[1].names"),
    (with_rule(errnoRet=1), "seccomp.syscalls[1].action"),
    (with_rule(arguments=[]), "seccomp.syscalls[1].arguments"),
    (with_rule(args=[{}]), "seccomp.syscalls[1].args[0].index"),
    (with_rule(args=[{**ARGUMENT, "op": "=="}]), "seccomp.syscalls[1].args[0].op"),
    (with_rule(args=[{**ARGUMENT, "index": 6}]), "seccomp.syscalls[1].args[0].index"),
    (with_rule(args=[{**ARGUMENT, "value": -1}]), "seccomp.syscalls[1].args[0].value"),
    (with_rule(args=[{**ARGUMENT, "value": True}]), "seccomp.syscalls[1].args[0].value"),
    (with_rule(includes={"capabilities": []}), "seccomp.syscalls[1].includes.capabilities"),
    (with_rule(includes={"caps": ["SYS_ADMIN"]}), "seccomp.syscalls[1].includes.caps"),
    (with_rule(excludes={"minKernel": "4"}), "seccomp.syscalls[1].excludes.minKernel"),
    (with_rule(excludes=["CAP_CHOWN"]), "seccomp.syscalls[1].excludes"),
]


@pytest.mark.parametrize(("bad", "field"), BAD)
def test_a_bad_profile_is_an_error_with_its_path(bad: object, field: str) -> None:
    with pytest.raises(NodeError) as error:
        parse(bad, AROUND)
    assert error.value.code is Code.INVALID_ARGUMENT
    assert error.value.field == field


@pytest.mark.parametrize(
    "text",
    [
        profile(listenerPath="/run/x"),
        profile(defaultAction="SCMP_ACT_NOTIFY"),
        with_rule(action="SCMP_ACT_NOTIFY"),
        profile(flags=["SECCOMP_FILTER_FLAG_LOG"]),
    ],
)
def test_what_is_not_built_says_so(text: dict[str, Any]) -> None:
    with pytest.raises(NodeError) as error:
        parse(text, AROUND)
    assert error.value.code is Code.UNIMPLEMENTED


def test_actions_and_error_numbers() -> None:
    text = profile(
        defaultErrnoRet=38,
        flags=["SECCOMP_FILTER_FLAG_SPEC_ALLOW"],
        syscalls=[
            {"names": ["a"], "action": "SCMP_ACT_ERRNO", "errnoRet": 7},
            {"names": ["b"], "action": "SCMP_ACT_ERRNO", "errno": "ENOENT", "args": None},
            {"name": "c", "action": "SCMP_ACT_ERRNO", "comment": "", "includes": {}, "excludes": None},
            {"names": ["d"], "action": "SCMP_ACT_KILL_PROCESS"},
        ],
    )
    parsed = parse(text, AROUND)
    assert parsed.default_action == 0x50000 | errno.ENOSYS
    assert [(rule.names, rule.action) for rule in parsed.rules] == [
        (("a",), 0x50007),
        (("b",), 0x50002),
        (("c",), 0x50001),
        (("d",), 0x80000000),
    ]


@pytest.mark.parametrize(
    ("condition", "applies"),
    [
        ({"includes": {"caps": ["CAP_SYS_ADMIN"]}}, True),
        ({"includes": {"caps": ["CAP_SYS_ADMIN", "CAP_BPF"]}}, False),
        ({"excludes": {"caps": ["CAP_BPF", "CAP_CHOWN"]}}, False),
        ({"excludes": {"caps": ["CAP_BPF"]}}, True),
        ({"includes": {"arches": ["amd64", "x32"]}}, True),
        ({"includes": {"arches": ["x86_64"]}}, True),
        ({"includes": {"arches": ["s390x"]}}, False),
        ({"excludes": {"arches": ["amd64"]}}, False),
        ({"includes": {"minKernel": "4.8"}}, True),
        ({"includes": {"minKernel": "6.2"}}, False),
        ({"excludes": {"minKernel": "6.1"}}, False),
    ],
)
def test_includes_and_excludes(condition: dict[str, Any], applies: bool) -> None:
    assert len(parse(with_rule(**condition), AROUND).rules) == 1 + applies


def test_the_architecture_map_of_this_machine_counts() -> None:
    text = profile(
        archMap=[
            {"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86", "SCMP_ARCH_X32"]},
            {"architecture": "SCMP_ARCH_AARCH64", "subArchitectures": ["SCMP_ARCH_ARM"]},
        ]
    )
    assert parse(text, AROUND).architectures == ("SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32")
