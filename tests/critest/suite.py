"""One run of critest and what came of it."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

PROXIES = ("http_proxy", "https_proxy", "all_proxy")
"""critest asks its web servers through a proxy, if one is set."""
RUN_SECONDS = round(900 * float(os.environ.get("MINIKUBELET_PATIENCE", "1")))
"""After these the suite interrupts the specs that still run, which fail then, and starts no other."""
END_SECONDS = 60
"""What it gets on top to do so."""


class SuiteError(Exception):
    """The suite did not run to its end; the message says why."""


@dataclass(frozen=True)
class Spec:
    """One spec of the suite, or a set-up step of it that failed."""

    name: str
    status: str
    """"passed", "failed" (panicked, timed out and the like included) or "skipped"."""
    detail: str = ""
    """Why it was skipped, or the first line of what went wrong."""
    seconds: float = 0.0


@dataclass
class Report:
    """What became of each spec; those that a filter left out are not in it."""

    specs: list[Spec] = field(default_factory=list)
    left_out: int = 0

    def with_status(self, status: str) -> list[Spec]:
        return [spec for spec in self.specs if spec.status == status]

    def summary(self) -> str:
        """For people: the figures, every failure and every skip."""
        passed, failed, skipped = (self.with_status(each) for each in ("passed", "failed", "skipped"))
        lines = [f"{len(passed) + len(failed)} of {len(self.specs)} specs ran"]
        for title, specs in (("failed", failed), ("skipped", skipped)):
            if specs:
                lines += ["", f"{title}:"]
                lines += [f"  {spec.name}\n      {spec.detail}" for spec in specs]
        lines += ["", f"{len(passed)} passed, {len(failed)} failed, {len(skipped)} skipped"]
        return "\n".join(lines)


FRAMES = re.compile(r"^\[It\] ")
SUITE_NODES = re.compile(r"^\[\w*(?:Before|After)Suite\]")
GIST = 400
"""Longest error message in a summary."""


def read_report(junit: Path) -> Report:
    """Read the JUnit file that Ginkgo 2 writes. Raises SuiteError for a missing or broken one."""
    try:
        root = ElementTree.parse(junit).getroot()
    except (OSError, ElementTree.ParseError) as error:
        raise SuiteError(f"critest left no report: {error}") from error
    report = Report()
    for case in root.iter("testcase"):
        spec = _spec(case)
        if spec is None:
            report.left_out += 1
        elif spec.status == "failed" or not SUITE_NODES.match(case.get("name", "")):
            report.specs.append(spec)
    report.specs.sort(key=lambda spec: spec.name)
    return report


def _spec(case: ElementTree.Element) -> Spec | None:
    """The spec of a <testcase>; None for one left out by a filter, called skipped without a reason."""
    name = FRAMES.sub("", case.get("name", ""))
    seconds = float(case.get("time", "0"))
    skipped = case.find("skipped")
    if skipped is not None:
        _, dash, reason = skipped.get("message", "").partition(" - ")
        return Spec(name, "skipped", reason, seconds) if dash else None
    for kind in ("failure", "error"):
        wrong = case.find(kind)
        if wrong is not None:
            return Spec(name, "failed", _gist(wrong), seconds)
    return Spec(name, "passed", "", seconds)


def _gist(wrong: ElementTree.Element) -> str:
    """The gist of a Gomega message on one line, without its dump of Go structures."""
    text = wrong.get("message", "") or (wrong.text or "")
    words = " ".join(text.split())
    gist = words.partition(" Unexpected error:")[0]
    return gist if len(gist) <= GIST else f"{gist[:GIST]}…"


@dataclass(frozen=True)
class Suite:
    """How critest runs."""

    program: Path
    socket: Path
    scratch: Path
    """Where its temporary files go."""
    focus: Sequence[str] = ()
    parallel: int = 1
    ginkgo: Path | None = None
    """Wanted for `parallel` above one."""
    websocket: bool = False

    def command(self, junit: Path) -> list[str]:
        command = [str(self.program), f"--runtime-endpoint=unix://{self.socket}"]
        command += [f"--ginkgo.junit-report={junit}"]
        command += [f"--ginkgo.focus={each}" for each in self.focus]
        command += ["--ginkgo.no-color", f"--ginkgo.timeout={RUN_SECONDS}s"]
        command += [f"--parallel={self.parallel}"] if self.parallel > 1 else []
        if self.websocket:
            command += [f"--websocket-{each}" for each in ("exec", "attach", "portforward")]
        return command

    def run(self, log: Path, junit: Path) -> Report:
        """Run it, with its output in `log` and its report in `junit`. Raises SuiteError.

        A run whose specs fail is none: that is in the report.
        """
        written, temporary = self.scratch / "written.xml", self.scratch / "tmp"
        temporary.mkdir()
        env = {name: value for name, value in os.environ.items() if name.lower() not in PROXIES}
        env["TMPDIR"] = str(temporary)
        if self.ginkgo is not None:
            env["PATH"] = f"{self.ginkgo.parent}:{env['PATH']}"
        with open(log, "wb") as output:
            critest = subprocess.Popen(
                self.command(written),
                stdout=output,
                stderr=output,
                stdin=subprocess.DEVNULL,
                cwd=self.scratch,
                env=env,
                start_new_session=True,
            )
            status = _wait(critest)
        if not written.exists():
            tail = log.read_text(errors="replace").splitlines()[-15:]
            raise SuiteError("\n".join([f"critest ended with {status} and left no report", *tail]))
        junit.write_bytes(written.read_bytes())
        return read_report(junit)


def _wait(critest: subprocess.Popen[bytes]) -> int:
    """Wait for it to end, and end what it started (in parallel runs ginkgo and the test processes)."""
    try:
        return critest.wait(RUN_SECONDS + END_SECONDS)
    except subprocess.TimeoutExpired as error:
        raise SuiteError(f"critest still runs after {error.timeout:.0f} s") from error
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(critest.pid, signal.SIGKILL)
        critest.wait()
