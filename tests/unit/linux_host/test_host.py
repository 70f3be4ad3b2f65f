"""Facts about the host the tests run on agree with what the system says otherwise."""

from __future__ import annotations

import dataclasses
import os
import platform
from pathlib import Path

from minikubelet.linux import apparmor, host


def test_the_facts_of_this_host() -> None:
    facts = host.detect()
    assert facts.release == platform.release()
    assert facts.kernel >= (4, 0)
    assert facts.cgroup.mode in ("unified", "hybrid", "legacy")
    assert facts.ipv6 == os.path.isdir("/proc/sys/net/ipv6")
    assert "tmpfs" in facts.filesystems
    assert facts.has("CAP_SYS_ADMIN") == ("CAP_SYS_ADMIN" not in {lack.what for lack in facts.lacks})
    missing = {lack.what.split(" (")[0] for lack in facts.lacks}
    for name in ("memory", "cpu", "pids"):
        assert (f"cgroup2 controller {name}" in missing) == (name not in facts.cgroup.controllers)
    assert all(lack.consequence for lack in facts.lacks)


def test_apparmor_profiles(tmp_path: Path) -> None:
    file = tmp_path / "profiles"
    file.write_text("/usr/bin/man (enforce)\nsnap.x (y) (complain)\n")
    assert apparmor.profiles(str(file)) == {"/usr/bin/man": "enforce", "snap.x (y)": "complain"}
    assert apparmor.loaded("snap.x (y)", str(file)) and not apparmor.loaded("man", str(file))
    assert not apparmor.enabled(str(tmp_path / "missing"))
    (tmp_path / "enabled").write_text("Y\n")
    assert apparmor.enabled(str(tmp_path / "enabled"))


def test_which_hosts_offer_user_namespaces() -> None:
    facts = host.detect()

    def offered(kernel: tuple[int, int], count: int) -> bool:
        return dataclasses.replace(facts, kernel=kernel, user_namespaces=count).maps_users

    assert offered((6, 3), 1) and offered((7, 0), 96_365)
    assert not offered((6, 2), 96_365) and not offered((6, 18), 0)
