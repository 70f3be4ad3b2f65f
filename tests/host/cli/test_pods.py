"""Pods by command: `run` in the foreground, and what others see of it meanwhile."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import signal
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.host.cli.conftest import SERVER, Cli, read_terminal
from tests.host.node import PATIENCE, PROGRAM, wait_for

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


class Foreground:
    """`minikubelet run` in folders of its own."""

    def __init__(self, home: Path, certs_dir: Path, *words: str) -> None:
        self.root, self.run = home / "root", home / "run"
        self.cli = Cli(("--run", str(self.run)))
        self.output = home / "output"
        command = [
            *(str(PROGRAM), "run", "--root", str(self.root), "--run", str(self.run)),
            *("--certs-dir", str(certs_dir), *words),
        ]
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
            )

    def text(self) -> str:
        return self.output.read_text()

    def wait_for(self, words: str) -> None:
        def seen() -> bool:
            assert self.process.poll() is None or words in self.text(), self.text()
            return words in self.text()

        wait_for(words, seen)

    def end(self, number: signal.Signals = signal.SIGINT) -> int:
        self.process.send_signal(number)
        return self.process.wait(PATIENCE)

    def check_nothing_is_left(self) -> None:
        """Beside what the lane checks after each test: folders, bridge, table, cgroup."""
        assert not self.run.exists(), os.listdir(self.run)
        assert not {"kubelet", "logs"} & set(os.listdir(self.root))
        from minikubelet.cli.foreground import Settings
        from minikubelet.linux.cgroup.mount import find_mount

        config = Settings(root=str(self.root), run=str(self.run)).daemon
        assert not os.path.exists(f"/sys/class/net/mk-{config.instance}")
        assert not os.path.exists(find_mount().path + config.cgroup_root)
        tables = subprocess.run(["nft", "list", "tables"], capture_output=True, text=True, check=True).stdout
        assert config.instance not in tables


@pytest.fixture
def run(tmp_path: Path, certs_dir: Path) -> Iterator[Callable[..., Foreground]]:
    made: list[Foreground] = []

    def start(*words: str) -> Foreground:
        made.append(Foreground(tmp_path, certs_dir, *words))
        return made[-1]

    yield start
    for each in made:
        if each.process.poll() is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                each.end()
            each.process.kill()
            each.process.wait()


def test_a_pod_comes_up_is_looked_at_and_leaves_nothing(
    run: Callable[..., Foreground], server_manifest: str
) -> None:
    foreground = run(server_manifest)
    foreground.wait_for("Ctrl-C stops the pod")
    cli = foreground.cli
    url = next(line.split()[-1] for line in foreground.text().splitlines() if "answers on" in line)
    with urllib.request.urlopen(url, timeout=PATIENCE) as response:
        assert response.read() == b"hello\n"
    shown = json.loads(cli("get", "pods", "server", "-o", "json"))
    assert shown["status"]["phase"] == "Running"
    assert cli("get", "pods", "-l", "app=server", "--no-headers").split()[1:3] == ["2/2", "Running"]
    wait_for("its log", lambda: cli("logs", "server", "-c", "web") == "started\n")
    assert "Started" in cli("describe", "pod", "server")
    done = cli.run("exec", "server", "--", "sh", "-c", "echo out; echo err >&2; exit 7")
    assert (done.returncode, done.stdout) == (7, b"out\n") and done.stderr.endswith(b"err\n")
    data = os.urandom(300_000)
    assert cli.run("exec", "-i", "server", "-c", "other", "--", "cat", stdin=data).stdout == data
    assert cli.run("exec", "server", "--", "no-such-program").returncode == 1
    assert foreground.end() == 0
    assert "stopped; nothing is left but the images" in foreground.text()
    foreground.check_nothing_is_left()


def test_a_terminal_in_a_container(run: Callable[..., Foreground], server_manifest: str) -> None:
    foreground = run(server_manifest)
    foreground.wait_for("Ctrl-C stops the pod")
    pid, terminal = pty.fork()
    if pid == 0:
        words = [*foreground.cli.options, "exec", "-it", "server", "-c", "other", "--", "sh"]
        os.execv(PROGRAM, [str(PROGRAM), *words])
    os.write(terminal, b"tty; sleep 1000\n")
    shown = b""
    while b"/dev/pts/" not in shown:
        data = read_terminal(terminal)
        assert data, shown
        shown += data
    look = ("exec", "server", "-c", "other", "--", "pidof", "sleep")
    wait_for("both sleep", lambda: len(foreground.cli.run(*look).stdout.split()) == 2)
    os.write(terminal, b"\x03exit 5\n")  # Ctrl-C is the container's, not the command's
    while read_terminal(terminal):
        pass
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 5
    assert foreground.end(signal.SIGTERM) == 0
    foreground.check_nothing_is_left()


def test_following_a_log_until_the_pod_goes(run: Callable[..., Foreground], server_manifest: str) -> None:
    foreground = run(server_manifest)
    foreground.wait_for("Ctrl-C stops the pod")
    command = [str(PROGRAM), *foreground.cli.options, "logs", "-f", "server", "-c", "web"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as follower:
        assert follower.stdout is not None
        assert follower.stdout.readline() == b"started\n"
        assert foreground.end() == 0
        assert follower.stdout.read() == b""
    foreground.check_nothing_is_left()


def test_the_run_ends_with_its_pods(run: Callable[..., Foreground], busybox: str, tmp_path: Path) -> None:
    manifest = tmp_path / "jobs.yaml"
    job = """
apiVersion: v1
kind: Pod
metadata: {name: job-CODE}
spec: {restartPolicy: Never, containers: [{name: c, image: IMAGE, command: [sh, -c, "exit CODE"]}]}
"""
    job = job.replace("IMAGE", busybox)
    manifest.write_text(job.replace("CODE", "0"))
    foreground = run(str(manifest))
    assert foreground.process.wait(PATIENCE) == 0, foreground.text()
    assert "has succeeded" in foreground.text()
    foreground.check_nothing_is_left()
    manifest.write_text(job.replace("CODE", "0") + "---" + job.replace("CODE", "3"))
    foreground = run(str(manifest))
    assert foreground.process.wait(PATIENCE) == 1, foreground.text()
    assert "has failed" in foreground.text()
    foreground.check_nothing_is_left()


def test_a_second_run_on_the_same_folders_is_refused(
    run: Callable[..., Foreground], server_manifest: str, tmp_path: Path, certs_dir: Path
) -> None:
    foreground = run(server_manifest)
    foreground.wait_for("Ctrl-C stops the pod")
    words = ["run", "--root", str(foreground.root), "--run", str(foreground.run), server_manifest]
    second = subprocess.run([PROGRAM, *words], capture_output=True, text=True, check=False, timeout=PATIENCE)
    assert second.returncode == 1 and len(second.stderr.splitlines()) == 1
    assert "another minikubelet daemon" in second.stderr
    assert foreground.cli("get", "pods", "-o", "name") != ""
    assert foreground.end() == 0
    foreground.check_nothing_is_left()


def test_killing_in_a_hurry(run: Callable[..., Foreground], busybox: str, tmp_path: Path) -> None:
    manifest = tmp_path / "stubborn.yaml"
    stubborn = SERVER.replace("terminationGracePeriodSeconds: 1", "terminationGracePeriodSeconds: 1000")
    manifest.write_text(stubborn.replace("IMAGE", busybox))
    foreground = run(str(manifest))
    foreground.wait_for("Ctrl-C stops the pod")
    for _ in range(2):  # twice at once: the same Ctrl-C by two ways
        foreground.process.send_signal(signal.SIGINT)
        time.sleep(0.01)
    foreground.wait_for("stopping the pods")
    time.sleep(1)
    assert foreground.process.poll() is None
    assert foreground.end() == 0
    foreground.check_nothing_is_left()
