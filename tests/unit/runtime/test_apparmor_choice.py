"""Which AppArmor profile a container gets: never less than was asked for."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from minikubelet.base.errors import Code, NodeError
from minikubelet.linux import apparmor, apparmor_default
from minikubelet.runtime import security
from minikubelet.runtime.models import SecurityProfile

DEFAULT = SecurityProfile(kind="RuntimeDefault")
UNCONFINED = SecurityProfile(kind="Unconfined")
LOCALHOST = SecurityProfile(kind="Localhost", localhost_ref="localhost/mine")


class Kernel:
    """What is loaded, and a parser that loads into it."""

    def __init__(self) -> None:
        self.enabled = True
        self.program = "/sbin/apparmor_parser"
        self.names = {"mine"}
        self.knows_newer = True
        self.loads = 0

    def load(self, text: str, program: str) -> None:
        assert program == self.program
        self.loads += 1
        if "userns," in text and not self.knows_newer:
            raise ValueError("syntax error")
        self.names.add(apparmor_default.NAME)


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Iterator[Kernel]:
    kernel = Kernel()
    monkeypatch.setattr(security, "_apparmor_enabled", lambda: kernel.enabled)
    monkeypatch.setattr(apparmor, "loaded", lambda name: name in kernel.names)
    monkeypatch.setattr(apparmor, "parser", lambda: kernel.program)
    monkeypatch.setattr(apparmor, "load", kernel.load)
    yield kernel


def test_default_is_loaded_when_first_needed(kernel: Kernel) -> None:
    for profile in (None, DEFAULT, None):
        assert security.apparmor_profile(profile, False) == "minikubelet-default"
    assert kernel.loads == 1


def test_an_old_parser_gets_the_old_words(kernel: Kernel) -> None:
    kernel.knows_newer = False
    assert security.apparmor_profile(DEFAULT, False) == "minikubelet-default"
    assert kernel.loads == 2


def test_who_is_not_confined(kernel: Kernel) -> None:
    assert security.apparmor_profile(UNCONFINED, False) == "unconfined"
    for profile in (None, DEFAULT, LOCALHOST, UNCONFINED):
        assert security.apparmor_profile(profile, True) == "unconfined"
    assert kernel.loads == 0


def test_localhost_must_be_loaded(kernel: Kernel) -> None:
    assert security.apparmor_profile(LOCALHOST, False) == "mine"
    kernel.names.clear()
    with pytest.raises(
        NodeError, match=r"security_context\.apparmor: profile 'mine' is not loaded"
    ) as caught:
        security.apparmor_profile(LOCALHOST, False)
    assert caught.value.code is Code.FAILED_PRECONDITION


def test_without_the_parser_only_who_asks_is_refused(kernel: Kernel) -> None:
    kernel.program = ""
    assert security.apparmor_profile(None, False) == ""
    with pytest.raises(NodeError, match="no apparmor_parser"):
        security.apparmor_profile(DEFAULT, False)


def test_a_parser_that_fails_is_never_unconfined(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(text: str, program: str) -> None:
        raise ValueError("no memory")

    monkeypatch.setattr(apparmor, "load", fail)
    for profile in (None, DEFAULT):
        with pytest.raises(NodeError, match="no memory"):
            security.apparmor_profile(profile, False)


@pytest.mark.parametrize("profile", [DEFAULT, LOCALHOST])
def test_without_apparmor_who_asks_is_refused(kernel: Kernel, profile: SecurityProfile) -> None:
    kernel.enabled = False
    with pytest.raises(NodeError, match="this host has no AppArmor"):
        security.apparmor_profile(profile, False)
    assert security.apparmor_profile(profile, True) == ""
    assert security.apparmor_profile(None, False) == security.apparmor_profile(UNCONFINED, False) == ""


def test_warm_up_never_raises(kernel: Kernel, tmp_path: Path) -> None:
    security.warm_up_apparmor()
    assert kernel.loads == 1
    kernel.program = ""
    security.warm_up_apparmor()
    kernel.enabled = False
    security.warm_up_apparmor()
    assert kernel.loads == 1
