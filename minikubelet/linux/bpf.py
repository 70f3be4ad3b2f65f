"""bpf(2), as far as device filters of cgroups need it: load a program, attach it to a cgroup."""

from __future__ import annotations

import ctypes
import os

from minikubelet.linux import libc

_NUMBERS = {"x86_64": 321, "aarch64": 280, "riscv64": 280}
_PROG_LOAD = 5
_PROG_ATTACH = 8
_PROG_TYPE_CGROUP_DEVICE = 15
_ATTACH_TYPE_CGROUP_DEVICE = 6
_ALLOW_MULTI = 2
_INSTRUCTION_SIZE = 8
_LOG_SIZE = 65536


class _LoadAttr(ctypes.Structure):
    # The first fields of union bpf_attr for BPF_PROG_LOAD.
    _fields_ = (
        ("prog_type", ctypes.c_uint32),
        ("insn_cnt", ctypes.c_uint32),
        ("insns", ctypes.c_uint64),
        ("license", ctypes.c_uint64),
        ("log_level", ctypes.c_uint32),
        ("log_size", ctypes.c_uint32),
        ("log_buf", ctypes.c_uint64),
        ("kern_version", ctypes.c_uint32),
        ("prog_flags", ctypes.c_uint32),
    )


class _AttachAttr(ctypes.Structure):
    # The same for BPF_PROG_ATTACH.
    _fields_ = (
        ("target_fd", ctypes.c_uint32),
        ("attach_bpf_fd", ctypes.c_uint32),
        ("attach_type", ctypes.c_uint32),
        ("attach_flags", ctypes.c_uint32),
    )


_bpf = libc.system_call(_NUMBERS.get(os.uname().machine, 280), ctypes.c_int, ctypes.c_void_p, ctypes.c_uint)


def load_device_program(instructions: bytes) -> int:
    """A descriptor of the program (array of struct bpf_insn). Raises OSError with the verifier's reason."""
    if not instructions or len(instructions) % _INSTRUCTION_SIZE:
        raise OSError(22, "not an array of 8-byte instructions", "device program")
    try:
        return _load(instructions, None)
    except OSError:
        # Once more, for the reason: asking for it at once would cost every start.
        log = ctypes.create_string_buffer(_LOG_SIZE)
        try:
            return _load(instructions, log)
        except OSError as exc:
            lines = log.value.decode(errors="replace").strip().splitlines()
            reason = [line for line in lines if not line.startswith("processed ")][-1:]
            raise OSError(exc.errno, "; ".join([exc.strerror or "", *reason]), "device program") from None


def _load(instructions: bytes, log: ctypes.Array[ctypes.c_char] | None) -> int:
    code = ctypes.create_string_buffer(instructions, len(instructions))
    license_text = ctypes.create_string_buffer(b"Apache")
    attributes = _LoadAttr(
        prog_type=_PROG_TYPE_CGROUP_DEVICE,
        insn_cnt=len(instructions) // _INSTRUCTION_SIZE,
        insns=ctypes.addressof(code),
        license=ctypes.addressof(license_text),
    )
    if log is not None:
        attributes.log_level = 1
        attributes.log_size = _LOG_SIZE
        attributes.log_buf = ctypes.addressof(log)
    result = _bpf(_PROG_LOAD, ctypes.byref(attributes), ctypes.sizeof(attributes))
    return libc.check(result, "device program")


def attach_device_program(cgroup_fd: int, program_fd: int) -> None:
    """Ask ``program_fd`` whenever a process in the cgroup (or below) opens or makes a device node.

    The attachment ends with the cgroup. Several programs must all agree. Raises OSError.
    """
    attributes = _AttachAttr(cgroup_fd, program_fd, _ATTACH_TYPE_CGROUP_DEVICE, _ALLOW_MULTI)
    result = _bpf(_PROG_ATTACH, ctypes.byref(attributes), ctypes.sizeof(attributes))
    libc.check(result, "device program")
