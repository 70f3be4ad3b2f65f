"""What a host's AppArmor means for RuntimeDefault is said, not left to be found out."""

from __future__ import annotations

from dataclasses import replace

from minikubelet.linux import host


def _lacks(apparmor: bool) -> list[str]:
    return [lack.what for lack in host._lacks(replace(host.detect(), apparmor=apparmor))]


def test_an_apparmor_host_lacks_a_default_profile() -> None:
    assert "a RuntimeDefault AppArmor profile" in _lacks(True)
    assert "AppArmor" not in _lacks(True)
    assert "AppArmor" in _lacks(False)
