"""The compiled filter decides what the profile says: in an interpreter of classic BPF and in the kernel."""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import re
import struct
from pathlib import Path
from typing import Any

import pytest

from minikubelet.base.errors import Code, NodeError
from minikubelet.linux import seccomp, seccomp_default

pytestmark = [
    pytest.mark.skipif(not seccomp.available(), reason="libseccomp.so.2 is not installed"),
    pytest.mark.skipif(platform.machine() != "x86_64", reason="call numbers of x86_64"),
]
X86_64, I386 = 0xC000003E, 0x40000003
ALLOW, EPERM, ENOSYS = 0x7FFF0000, 0x50000 | errno.EPERM, 0x50000 | errno.ENOSYS
READ, PTRACE, MOUNT, CLONE, REBOOT, CLONE3, SOCKET = 0, 101, 165, 56, 169, 435, 41


def decide(program: bytes, number: int, *arguments: int, arch: int = X86_64) -> int:
    """Run a filter on a struct seccomp_data."""
    args = (*arguments, 0, 0, 0, 0, 0, 0)[:6]
    data = struct.pack("=IIQ6Q", number, arch, 0, *args)
    accumulator, position = 0, 0
    while True:
        code, jump_true, jump_false, value = struct.unpack_from("=HBBI", program, position * 8)
        position += 1
        if code == 0x20:
            (accumulator,) = struct.unpack_from("=I", data, value)
        elif code == 0x54:
            accumulator &= value
        elif code == 0x06:
            return int(value)
        elif code == 0x05:
            position += value
        elif code in (0x15, 0x25, 0x35, 0x45):
            test = {
                0x15: accumulator == value,
                0x25: accumulator > value,
                0x35: accumulator >= value,
                0x45: bool(accumulator & value),
            }
            position += jump_true if test[code] else jump_false
        else:
            raise AssertionError(f"code {code:#x}")


def profile(*rules: dict[str, Any], default: str = "SCMP_ACT_ERRNO") -> dict[str, Any]:
    return {
        "defaultAction": default,
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
        "syscalls": list(rules),
    }


def rule(*names: str, action: str = "SCMP_ACT_ALLOW", **more: Any) -> dict[str, Any]:
    return {"names": list(names), "action": action, **more}


def test_the_default_profile_without_capabilities() -> None:
    program = seccomp.compile_profile(seccomp.default_profile(), ())
    assert decide(program, READ) == ALLOW
    assert decide(program, MOUNT) == EPERM
    assert decide(program, REBOOT) == EPERM
    assert decide(program, CLONE, 0x10000) == ALLOW
    assert decide(program, CLONE, 0x10000000) == EPERM
    assert decide(program, CLONE3) == ENOSYS
    assert decide(program, SOCKET, 2) == ALLOW
    assert decide(program, SOCKET, 40) == EPERM
    assert decide(program, 3, arch=I386) == ALLOW


def test_the_default_profile_follows_the_capabilities() -> None:
    program = seccomp.compile_profile(seccomp.default_profile(), ["CAP_SYS_ADMIN", "CAP_SYS_BOOT"])
    assert decide(program, MOUNT) == ALLOW
    assert decide(program, REBOOT) == ALLOW
    assert decide(program, CLONE, 0x10000000) == ALLOW
    assert decide(program, CLONE3) == ALLOW


def test_calls_younger_than_libseccomp() -> None:
    program = seccomp.compile_profile(seccomp.default_profile(), ())
    for number in (451, 452, 462, 466):
        assert decide(program, number) == ALLOW
        assert decide(program, number, arch=I386) == ALLOW
    assert decide(program, 467) == ENOSYS
    assert decide(program, 999) == ENOSYS
    assert decide(program, 0x40000000 | 999) != ALLOW
    assert decide(program, 999, arch=0x1234) == 0


def test_an_open_default_stays_open_for_younger_calls() -> None:
    text = profile(rule("mount", action="SCMP_ACT_KILL_PROCESS"), default="SCMP_ACT_ALLOW")
    program = seccomp.compile_profile(text, ())
    assert decide(program, MOUNT) == 0x80000000
    assert decide(program, 999) == ALLOW


def test_a_call_that_cannot_be_forbidden_is_an_error() -> None:
    text = profile(rule("mout", action="SCMP_ACT_ERRNO"), default="SCMP_ACT_ALLOW")
    with pytest.raises(NodeError, match="can't be forbidden") as error:
        seccomp.compile_profile(text, ())
    assert error.value.code is Code.INVALID_ARGUMENT
    assert decide(seccomp.compile_profile(profile(rule("read", "not_yet_invented")), ()), READ) == ALLOW


def test_conditions() -> None:
    equal = {"index": 0, "value": 5, "op": "SCMP_CMP_EQ"}
    text = profile(
        rule("kill", args=[equal, {"index": 1, "value": 9, "op": "SCMP_CMP_NE"}]),
        rule("personality", args=[equal, {**equal, "value": 6}]),
        rule("dup", args=[{"index": 0, "value": 0xF0, "valueTwo": 0x10, "op": "SCMP_CMP_MASKED_EQ"}]),
    )
    program = seccomp.compile_profile(text, ())
    assert decide(program, 62, 5, 1) == ALLOW
    assert decide(program, 62, 5, 9) == EPERM
    assert decide(program, 62, 4, 1) == EPERM
    assert [decide(program, 135, value) for value in (5, 6, 7)] == [ALLOW, ALLOW, EPERM]
    assert [decide(program, 32, value) for value in (0x1F, 0x2F)] == [ALLOW, EPERM]


def test_results_are_cached_by_profile_and_capabilities() -> None:
    first = seccomp.compile_profile(seccomp.default_profile(), ["CAP_CHOWN", "CAP_KILL"])
    assert seccomp.compile_profile(seccomp.default_profile(), {"CAP_KILL", "CAP_CHOWN"}) is first
    assert seccomp.compile_profile(seccomp.default_profile(), {"CAP_SYS_ADMIN"}) != first


@pytest.mark.parametrize("text", ["", "{", "null", "{}", '"unconfined"', "[]", b"\xff\xfe"])
def test_files_that_are_no_profile(text: str | bytes) -> None:
    with pytest.raises(NodeError) as error:
        seccomp.load_profile(text, ())
    assert error.value.code is Code.INVALID_ARGUMENT


def test_an_unknown_architecture() -> None:
    with pytest.raises(NodeError, match="SCMP_ARCH_VAX"):
        seccomp.compile_profile({"defaultAction": "SCMP_ACT_ERRNO", "architectures": ["SCMP_ARCH_VAX"]}, ())


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seccomp, "_LIBRARY", "libseccomp.so.missing")
    seccomp._library.cache_clear()
    try:
        with pytest.raises(NodeError, match="libseccomp2") as error:
            seccomp.compile_profile(profile(rule("read", "write")), ["CAP_NOT_CACHED_YET"])
        assert error.value.code is Code.FAILED_PRECONDITION
    finally:
        seccomp._library.cache_clear()


def test_the_kernel_takes_the_filter_and_obeys() -> None:
    program = seccomp.compile_profile(seccomp.default_profile(), ())
    pid = os.fork()
    if pid == 0:
        os._exit(_obeys(program))
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def _obeys(program: bytes) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    buffer = ctypes.create_string_buffer(program, len(program))
    header = struct.pack("@HP", len(program) // 8, ctypes.addressof(buffer))
    if libc.prctl(38, 1, 0, 0, 0) or libc.prctl(22, 2, header, 0, 0):
        return 1
    if libc.unshare(0x10000000) != -1 or ctypes.get_errno() != errno.EPERM:
        return 2
    if libc.syscall(999) != -1 or ctypes.get_errno() != errno.ENOSYS:
        return 3
    return 0 if os.getpid() > 0 and os.listdir("/") else 4


MODULE = Path.home() / "go/pkg/mod/github.com/containerd/containerd"


def _containerds(text: str) -> tuple[set[str], dict[str, set[str]]]:
    """(calls always allowed on amd64, capability → calls) from the Go source's string literals."""
    body = text[text.index("func DefaultProfile") :]
    before, _, rest = body.partition("switch runtime.GOARCH")
    amd64 = re.search(r'case "amd64":(.*?)case', rest, re.DOTALL)
    assert amd64 is not None
    literals = re.compile(r'"([a-z0-9_]+)"')
    always = set(literals.findall(before)) | set(literals.findall(amd64[1]))
    by_capability: dict[str, set[str]] = {}
    capabilities = rest[rest.index("admin := false") : rest.index("if !admin")]
    for part in re.split(r"case ", capabilities)[1:]:
        name = re.match(r'"(CAP_[A-Z_]+)"', part)
        assert name is not None
        by_capability[name[1]] = set(literals.findall(part))
    return always, by_capability


def test_the_default_profile_is_containerds() -> None:
    files = sorted(MODULE.glob("v2@*/contrib/seccomp/seccomp_default.go"))
    if not files:
        pytest.skip("the containerd module is not in the Go module cache")
    always, by_capability = _containerds(files[-1].read_text())
    assert len(always) > 300 and len(by_capability) > 10
    ours = {name for names in seccomp_default._ALLOWED.values() for name in names.split()}
    ours |= {"socket", "personality", "process_vm_readv", "process_vm_writev", "ptrace"}
    ours |= set(seccomp_default._BY_ARCHITECTURE["amd64"].split())
    assert ours == always
    mine = {name: set(calls.split()) for name, calls in seccomp_default._BY_CAPABILITY.items()}
    assert mine == by_capability
