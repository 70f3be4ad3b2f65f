"""scripts/run as a new user meets it: a pod, its address, Ctrl-C, and nothing left."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.host.node import PATIENCE, wait_for

ROOT = Path(__file__).resolve().parents[2]
STATE = Path("/var/lib/minikubelet-run")
RUN = Path("/run/minikubelet-run")


class Session:
    """scripts/run in the foreground of nobody: its output, line by line."""

    def __init__(self, *arguments: str | Path) -> None:
        self.process = subprocess.Popen(
            [str(ROOT / "scripts/run"), *map(str, arguments)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.rstrip())

    @property
    def text(self) -> str:
        return "\n".join(self.lines)

    def wait_line(self, pattern: str) -> re.Match[str]:
        """The first match of `pattern` in what it said."""

        def found() -> re.Match[str] | None:
            assert self.process.poll() is None or re.search(pattern, self.text), self.text
            return re.search(pattern, self.text)

        match = wait_for(f"a line like {pattern!r}", found)
        assert match is not None
        return match

    def interrupt(self) -> int:
        """Ctrl-C; the exit code."""
        self.process.send_signal(signal.SIGINT)
        try:
            return self.process.wait(PATIENCE)
        finally:
            self._reader.join(PATIENCE)

    def end(self) -> None:
        if self.process.poll() is None:
            self.interrupt()
        self._reader.join(PATIENCE)


@pytest.fixture
def sessions() -> Iterator[list[Session]]:
    if os.geteuid() != 0:
        pytest.skip("needs root")
    if RUN.exists() and (RUN / "minikubelet.sock").exists():
        pytest.skip("scripts/run is in use on this machine")
    was_there = STATE.exists()
    made: list[Session] = []
    yield made
    for session in made:
        session.end()
    if not was_there:
        shutil.rmtree(STATE, ignore_errors=True)


def fetch(url: str) -> str:
    with urllib.request.urlopen(url, timeout=PATIENCE) as answer:
        return str(answer.read().decode())


def test_the_example(sessions: list[Session]) -> None:
    session = Session()
    sessions.append(session)
    url = session.wait_line(r"answers on (http://127\.0\.0\.1:\d+/)").group(1)
    session.wait_line(r"is Ready")
    assert "<h1>Hello from web" in fetch(url)
    wait_for("the sidecar's log", lambda: fetch(f"{url}beats.txt"))
    for step in ("page: Container started", "heartbeat: Container started", "server: Container started"):
        session.wait_line(step)

    get = [str(ROOT / ".venv/bin/minikubelet"), "--run", str(RUN), "get", "pods"]
    listed = subprocess.run(get, capture_output=True, text=True, check=True).stdout
    assert re.search(r"web\S*\s+2/2\s+Running", listed), listed

    assert session.interrupt() == 0, session.text
    assert "nothing is left" in session.text
    with pytest.raises(OSError):
        fetch(url)
    assert not list(RUN.glob("pods/*"))
    assert not list(STATE.glob("containers/*"))


def test_the_second_start_is_quick(sessions: list[Session]) -> None:
    """Two seconds on a machine of its own; the limit here leaves room for what else runs."""
    first = Session()
    sessions.append(first)
    first.wait_line("is Ready")
    assert first.interrupt() == 0
    started = time.monotonic()
    second = Session()
    sessions.append(second)
    second.wait_line("is Ready")
    took = time.monotonic() - started
    assert second.interrupt() == 0
    assert "installing" not in second.text
    assert took < 20


def test_a_manifest_of_ones_own(sessions: list[Session], tmp_path: Path) -> None:
    manifest = tmp_path / "mine.yaml"
    manifest.write_text(
        """
apiVersion: v1
kind: Pod
metadata: {name: mine}
spec:
  restartPolicy: Never
  containers:
    - name: main
      image: localhost/minikubelet/example:1
      imagePullPolicy: Never
      command: [sh, -c, "exit 0"]
"""
    )
    session = Session(manifest)
    sessions.append(session)
    assert session.process.wait(PATIENCE) == 0, session.text
    session.end()
    assert "mine" in session.text


def test_a_manifest_that_is_wrong_says_where(sessions: list[Session], tmp_path: Path) -> None:
    manifest = tmp_path / "wrong.yaml"
    manifest.write_text("apiVersion: v1\nkind: Pod\nmetadata: {name: w}\nspec: {containers: [{nam: x}]}\n")
    session = Session(manifest)
    sessions.append(session)
    assert session.process.wait(PATIENCE) != 0
    session.end()
    assert "wrong.yaml" in session.text
    assert "containers[0]" in session.text


def test_options() -> None:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [str(ROOT / "scripts/run"), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    assert run("--setup-only").returncode == 0
    assert "--setup-only" in run("--help").stdout
    assert run("--no-such-option").returncode == 1
