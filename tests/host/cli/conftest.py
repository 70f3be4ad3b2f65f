"""The command line as a program."""

from __future__ import annotations

import os
import select
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.host.node import PATIENCE, PROGRAM


@dataclass
class Cli:
    """`minikubelet` against one daemon."""

    options: tuple[str, ...]

    def run(self, *words: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        """Whatever the exit code."""
        command = [str(PROGRAM), *self.options, *words]
        return subprocess.run(command, input=stdin, capture_output=True, check=False, timeout=2 * PATIENCE)

    def __call__(self, *words: str) -> str:
        """The output; the exit code must be 0."""
        done = self.run(*words)
        assert done.returncode == 0, f"{words}: exit code {done.returncode}: {done.stderr.decode()}"
        return done.stdout.decode()


def read_terminal(terminal: int) -> bytes:
    """What the program on a terminal has written; empty at its end. Never waits for ever."""
    ready, _, _ = select.select([terminal], [], [], PATIENCE)
    assert ready, "no output"
    try:
        return os.read(terminal, 65536)
    except OSError:  # EIO: nobody has the other side open
        return b""


SERVER = """
apiVersion: v1
kind: Pod
metadata: {name: server, labels: {app: server}}
spec:
  terminationGracePeriodSeconds: 1
  containers:
    - name: web
      image: IMAGE
      command: [sh, -c, "echo started; echo hello > /srv/index.html; exec httpd -f -p 8080 -h /srv"]
      ports: [{name: http, containerPort: 8080}]
      readinessProbe: {httpGet: {path: /, port: http}, periodSeconds: 1}
    - name: other
      image: IMAGE
      command: [sleep, "1000"]
"""


@pytest.fixture
def server_manifest(busybox: str, tmp_path: Path) -> str:
    """A pod whose web server becomes ready."""
    path = tmp_path / "server.yaml"
    path.write_text(SERVER.replace("IMAGE", busybox))
    return str(path)
