"""Lanes: which one runs (`--lane`), what CI repeats, what it may skip."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Generator
from pathlib import Path

import pytest

KNOWN_LACKS = Path(__file__).with_name("known_lacks.toml")
LANES = ("unit", "host", "vm", "critest", "critest-vm", "upstream", "differential")
REPEATING = ("host", "vm", "upstream")
"""Lanes of real daemons and pods, where a test can also fail by what the machine does beside it."""
REPEATS = 2
"""How many failed tests of such a lane CI runs once more."""


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


@pytest.hookimpl(tryfirst=True)  # before pytest-rerunfailures reads its options
def pytest_configure(config: pytest.Config) -> None:
    lane = config.getoption("--lane")
    if not lane or not os.environ.get("CI"):
        return
    config.pluginmanager.register(SkipsAreKnown(lane))
    if lane in REPEATING:
        config.option.reruns = 1
        config.option.max_suite_reruns = REPEATS
        config.option.rerun_except = ["left behind"]  # a leak is one, however rarely it happens
        config.option.rerun_show_tracebacks = True
