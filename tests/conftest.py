"""Lanes: which one runs (`--lane`), and that in CI nothing is skipped but what its lane is known to lack."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Generator
from pathlib import Path

import pytest

KNOWN_LACKS = Path(__file__).with_name("known_lacks.toml")
LANES = ("unit", "host", "vm", "critest", "critest-vm", "upstream", "differential")


def known_lacks(lane: str) -> list[str]:
    """Patterns that a skip's reason must match from its start to be accepted in CI."""
    return list(tomllib.loads(KNOWN_LACKS.read_text())[lane])


class SkipsAreKnown:
    """Fails the session for skips whose reasons aren't listed. An expected failure counts as a skip."""

    def __init__(self, lane: str) -> None:
        self.patterns = known_lacks(lane)
        self.unknown: list[str] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.skipped:
            self._take(report.nodeid, report.longrepr, getattr(report, "wasxfail", ""))

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.skipped:
            self._take(report.nodeid, report.longrepr, "")

    def _take(self, test: str, longrepr: object, xfail: str) -> None:
        reason = xfail or (longrepr[2] if isinstance(longrepr, tuple) else str(longrepr))
        reason = reason.removeprefix("Skipped: ")
        if not any(re.match(pattern, reason) for pattern in self.patterns):
            self.unknown.append(f"{test}: {reason}")

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if self.unknown and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    @pytest.hookimpl(wrapper=True)
    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> Generator[None]:
        yield
        if self.unknown:
            terminalreporter.section("skipped, and not on the list of known lacks", red=True)
            for line in self.unknown:
                terminalreporter.line(line)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--lane", choices=LANES, help="the lane that runs; in CI its skips must be known lacks")


def pytest_configure(config: pytest.Config) -> None:
    lane = config.getoption("--lane")
    if lane and os.environ.get("CI"):
        config.pluginmanager.register(SkipsAreKnown(lane))
