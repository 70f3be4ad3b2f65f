"""What upstream's kubelet wants of the kernel (pkg/kubelet/cm); here it is looked at, never written."""

from __future__ import annotations

import os
from collections.abc import Mapping

EXPECTED: Mapping[str, int] = {
    "vm/overcommit_memory": 1,
    "vm/panic_on_oom": 0,
    "kernel/panic": 10,
    "kernel/panic_on_oops": 1,
    "kernel/keys/root_maxkeys": 1_000_000,
    "kernel/keys/root_maxbytes": 25_000_000,
}


def problems(proc: str = "/proc/sys") -> list[str]:
    """One line a setting that is another, in upstream's words; see proc_sys(5)."""
    found = []
    for name, expected in EXPECTED.items():
        try:
            with open(os.path.join(proc, name), encoding="ascii") as file:
                value = int(file.read(64))
        except (OSError, ValueError) as exc:
            found.append(f"kernel flag {name} can't be read: {exc}")
            continue
        if value != expected:
            found.append(f"invalid kernel flag: {name}, expected value: {expected}, actual value: {value}")
    return found
