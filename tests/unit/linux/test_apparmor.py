"""AppArmor: what is said of hosts, and loading profiles, with a program in the parser's place."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from minikubelet.linux import apparmor, apparmor_default, host


def _lacks(enabled: bool) -> list[str]:
    return [lack.what for lack in host._lacks(replace(host.detect(), apparmor=enabled))]


def test_hosts_say_what_they_lack(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apparmor, "parser", lambda: "")
    assert "apparmor_parser" in _lacks(True) and "AppArmor" not in _lacks(True)
    assert "AppArmor" in _lacks(False) and "apparmor_parser" not in _lacks(False)
    monkeypatch.setattr(apparmor, "parser", lambda: "/sbin/apparmor_parser")
    assert "apparmor_parser" not in _lacks(True)


def parser(folder: Path, script: str) -> str:
    path = folder / "apparmor_parser"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(path)


def test_a_profile_is_handed_to_the_parser(tmp_path: Path) -> None:
    program = parser(tmp_path, f'echo "$@" > {tmp_path}/arguments; cat > {tmp_path}/text')
    apparmor.load("profile p {}\n", program)
    assert (tmp_path / "arguments").read_text() == "--replace --skip-cache\n"
    assert (tmp_path / "text").read_text() == "profile p {}\n"


def test_what_the_parser_says_is_told(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="status 1: syntax error, line 3"):
        apparmor.load("", parser(tmp_path, "echo 'syntax error,\n line 3' >&2; exit 1"))
    with pytest.raises(OSError, match="missing"):
        apparmor.load("", str(tmp_path / "missing"))


def test_the_own_profile(tmp_path: Path) -> None:
    label = tmp_path / "current"
    paths = (str(tmp_path / "missing"), str(label))
    assert apparmor.own_profile(paths) == "unconfined"
    for content, name in (
        ("unconfined\n", "unconfined"),
        ("snap.x (enforce)\n", "snap.x"),
        ("my daemon (complain)\0", "my daemon"),
    ):
        label.write_text(content)
        assert apparmor.own_profile(paths) == name


def test_the_daemon_may_signal_whatever_confines_it() -> None:
    newer, older = apparmor_default.texts("my daemon")
    assert 'signal (receive) peer="my daemon",' in newer and 'signal (receive) peer="my daemon",' in older
    assert "userns," in newer and "userns," not in older
    assert 'peer="unconfined"' in apparmor_default.texts('evil", capability, x="')[0]
