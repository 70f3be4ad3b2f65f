"""crictl's streams over both transports: exec on a terminal, attach, port-forward; logs and events."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.host.node import PATIENCE, CrictlFailed, Node, wait_for
from tests.ports import free_port
from tests.terminal import Terminal

TRANSPORTS = ("spdy", "websocket")


def command(node: Node, *arguments: str) -> list[str | Path]:
    assert node.crictl_path is not None
    endpoint = ("--runtime-endpoint", node.config.listen, "--image-endpoint", node.config.listen)
    return [node.crictl_path, "--config", "/dev/null", *endpoint, *arguments]


@contextlib.contextmanager
def background(node: Node, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """crictl with its standard output in a pipe; killed at the end."""
    process = subprocess.Popen(
        list(map(str, command(node, *arguments))),
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_exec(node: Node, busybox: str, transport: str) -> None:
    container = node.start_container(node.run_pod("exec"), "main", busybox, "sleep", "1000")
    run = ("exec", "--transport", transport)
    assert node.crictl(*run, container, "hostname") == "exec"
    text = "line\n" * 50_000
    assert node.crictl(*run, "-i", container, "cat", stdin=text) == text.strip()
    with pytest.raises(CrictlFailed, match=r"exit status 7|exit code 7") as failed:
        node.crictl(*run, container, "sh", "-c", "echo oops >&2; exit 7")
    assert "oops" in failed.value.output
    with pytest.raises(CrictlFailed, match="no-such-program"):
        node.crictl(*run, container, "no-such-program")


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_exec_on_a_terminal_that_is_resized(node: Node, busybox: str, transport: str) -> None:
    container = node.start_container(node.run_pod("terminal"), "main", busybox, "sleep", "1000")
    shell = command(node, "exec", "--transport", transport, "-it", container, "sh")
    with Terminal(shell, size=(33, 111)) as terminal:
        terminal.expect_after("echo $((6*7))\r", r"\s42\s")
        terminal.expect_after("stty size\r", r"33 111")
        terminal.resize(44, 122)
        terminal.expect_after("stty size\r", r"44 122")
        terminal.type("sh -c 'echo begun; sleep 1000'\r")
        terminal.expect(r"begun\r?\n")
        terminal.type("\x03")
        terminal.expect_after("echo $((7*7))\r", r"\s49\s")
        terminal.type("exit 0\r")
        assert terminal.wait() == 0


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_attach(node: Node, busybox: str, transport: str) -> None:
    pod = node.run_pod("attach")
    script = "while read line; do echo got $line; [ $line != end ] || exit 0; done"
    container = node.start_container(pod, "main", busybox, "sh", "-c", script, stdin=True)
    with background(node, "attach", "--transport", transport, "--stdin", container) as attached:
        assert attached.stdin is not None
        assert attached.stdout is not None
        attached.stdin.write("this\n")
        attached.stdin.flush()
        assert attached.stdout.readline() == "got this\n"
        attached.stdin.write("end\n")
        attached.stdin.flush()
        assert attached.stdout.readline() == "got end\n"
    assert node.wait_exited(container)["exitCode"] == 0


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_attach_on_a_terminal(node: Node, busybox: str, transport: str) -> None:
    pod = node.run_pod("attach-tty")
    container = node.start_container(pod, "main", busybox, "sh", stdin=True, tty=True)
    attach = command(node, "attach", "--transport", transport, "-i", "-t", container)
    with Terminal(attach, size=(33, 111)) as terminal:
        terminal.expect_after("echo $((6*7))\r", r"\s42\s")
        terminal.expect_after("stty size\r", r"33 111")
        terminal.type("exit 3\r")
        terminal.wait()
    assert node.wait_exited(container)["exitCode"] == 3


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_port_forward(node: Node, busybox: str, transport: str) -> None:
    pod = node.run_pod("forward")
    script = "mkdir /www && echo forwarded >/www/index.html && exec httpd -f -p 80 -h /www"
    node.start_container(pod, "main", busybox, "sh", "-c", script)
    port = free_port()

    def page() -> bytes:
        try:
            with socket.create_connection(("127.0.0.1", port), PATIENCE) as connection:
                connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
                return connection.makefile("rb").read()
        except OSError:
            return b""

    wait_for(
        "the server listens", lambda: ":80 " in node.crictl("exec", "-s", _main(node), "netstat", "-ltn")
    )
    with background(node, "port-forward", "--transport", transport, pod, f"{port}:80"):
        wait_for("the page", lambda: page().endswith(b"forwarded\n"))
        assert [page().endswith(b"forwarded\n") for _ in range(5)] == [True] * 5


def _main(node: Node) -> str:
    return node.crictl("ps", "--quiet", "--no-trunc", "--name", "main")


def test_logs(node: Node, busybox: str) -> None:
    pod = node.run_pod("logs")
    until = "until [ -e /{} ]; do sleep 0.1; done".format
    script = f"echo line 1; {until('more')}; echo line 2; echo line 3; {until('go')}; echo last"
    container = node.start_container(pod, "main", busybox, "sh", "-c", script)
    # Lines that are read at once may have the same time, so the first one must have been read alone.
    wait_for("a line", lambda: node.crictl("logs", container) == "line 1")
    node.crictl("exec", "--sync", container, "touch", "/more")
    wait_for("three lines", lambda: len(node.crictl("logs", container).splitlines()) == 3)
    assert node.crictl("logs", "--tail", "1", container) == "line 3"
    assert node.crictl("logs", "--limit-bytes", "6", container) == "line 1"
    stamped = node.crictl("logs", "--timestamps", container).splitlines()
    assert all(line.split(" ", 1)[0][:2] == "20" and "line" in line for line in stamped)
    since = stamped[1].split(" ", 1)[0]
    assert node.crictl("logs", "--since", since, container).splitlines() == ["line 2", "line 3"]
    with background(node, "logs", "--follow", "--tail", "1", container) as followed:
        assert followed.stdout is not None
        assert followed.stdout.readline() == "line 3\n"
        with contextlib.suppress(CrictlFailed):  # the container may end before the program that ends it
            node.crictl("exec", "--sync", container, "touch", "/go")
        assert followed.stdout.read() == "last\n"


def test_a_log_is_reopened(node: Node, busybox: str) -> None:
    script = "echo before; until [ -e /go ]; do sleep 0.1; done; echo after; sleep 1000"
    container = node.start_container(node.run_pod("reopen"), "main", busybox, "sh", "-c", script)
    wait_for("the first line", lambda: node.crictl("logs", container) == "before")
    path = node.logs / "reopen/main.log"
    path.rename(path.with_suffix(".1"))
    node.crictl("logs", "--reopen", "--tail", "0", container)
    node.crictl("exec", "--sync", container, "touch", "/go")
    wait_for("the line in the new file", lambda: node.crictl("logs", container) == "after")


def test_events(node: Node, busybox: str) -> None:
    with background(node, "events", "--output", "json") as events:
        shown: list[str] = []
        reader = threading.Thread(target=lambda: shown.extend(iter(events.stdout.readline, "")))  # type: ignore[union-attr]
        reader.start()
        for number in range(50):  # events from before the stream was there are not told
            heard = bool(shown)
            pod = node.run_pod(f"events{number}")
            container = node.start_container(pod, "main", busybox, "true")
            node.wait_exited(container)
            node.crictl("rmp", "--force", pod)
            if heard:
                break
        wait_for("the pod's end", lambda: (pod, "DELETED") in _events("".join(shown)))
        kinds = [kind for identifier, kind in _events("".join(shown)) if identifier == container]
        assert kinds == ["CREATED", "STARTED", "STOPPED", "DELETED"]
        events.kill()
        reader.join()


def _events(text: str) -> list[tuple[str, str]]:
    """What happened to whom, from JSON objects one after the other."""
    found, decoder = [], json.JSONDecoder()
    while text := text.lstrip():
        try:
            event, end = decoder.raw_decode(text)
        except json.JSONDecodeError:  # the rest of it is still to come
            break
        kind = event["containerEventType"].removeprefix("CONTAINER_").removesuffix("_EVENT")
        found.append((event["containerId"], kind))
        text = text[end:]
    return found
