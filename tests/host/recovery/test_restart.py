"""The daemon stops, crashes and comes back; what runs doesn't notice, and nothing is forgotten."""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from minikubelet.linux.cgroup.mount import find_mount
from tests.host import leaks
from tests.host.node import PROGRAM, CrictlFailed, Node, wait_for

MakeNode = Callable[..., Node]


@pytest.fixture(params=["stopped", "killed"])
def end(request: pytest.FixtureRequest) -> Callable[[Node], None]:
    """The two ways in which a daemon goes away."""
    return {"stopped": _stop, "killed": Node.kill}[request.param]


def _stop(node: Node) -> None:
    assert node.stop() == 0, node.log()


def flag_mount(folder: Path) -> dict[str, object]:
    """A folder of the test in the container, through which a test says when to go on."""
    folder.mkdir(exist_ok=True)
    return {"mounts": [{"host_path": str(folder), "container_path": "/flags"}]}


WAIT = "while [ ! -e /flags/go ]; do sleep 0.05; done;"


def test_pods_run_on(node: Node, busybox: str, end: Callable[[Node], None]) -> None:
    pod = node.run_pod("on")
    container = node.start_container(
        pod, "main", busybox, "sh", "-c", "while true; do echo beat; sleep 0.1; done"
    )
    address, status = node.pod_ip(pod), node.status(container)
    wait_for("the first line", lambda: node.crictl("logs", container))
    end(node)
    log = node.logs / "on/main.log"
    length = len(log.read_text().splitlines())
    wait_for("lines while there is no daemon", lambda: len(log.read_text().splitlines()) > length + 5)
    node.start()
    assert node.pod_ip(pod) == address
    after = node.status(container)
    assert (after["state"], after["startedAt"]) == ("CONTAINER_RUNNING", status["startedAt"])
    assert node.crictl("exec", "--sync", container, "hostname") == "on"
    length = len(log.read_text().splitlines())
    wait_for("lines after it came back", lambda: len(log.read_text().splitlines()) > length + 5)
    node.crictl("stop", "--timeout", "0", container)
    assert node.status(container)["exitCode"] == 137


def test_exits_while_it_is_away_are_exact(
    node: Node, busybox: str, end: Callable[[Node], None], tmp_path: Path
) -> None:
    pod = node.run_pod("exits")
    ends = {
        "zero": ("exit 0", 0, "Completed"),
        "code": ("exit 42", 42, "Error"),
        "signal": ("kill -KILL $$", 137, "Error"),
    }
    containers = {
        name: node.start_container(
            pod,
            name,
            busybox,
            "sh",
            "-c",
            f"{WAIT} echo last {name}; {script}",
            **flag_mount(tmp_path / "flags"),
        )
        for name, (script, _, _) in ends.items()
    }
    pids = {name: _pid(node, container) for name, container in containers.items()}
    end(node)
    (tmp_path / "flags/go").touch()
    wait_for("all have ended", lambda: not any(_lives(pid) for pid in pids.values()))
    node.start()
    for name, (_, code, reason) in ends.items():
        status = node.wait_exited(containers[name])
        assert (name, status["exitCode"]) == (name, code)
        assert status["reason"] == reason
        assert node.crictl("logs", containers[name]) == f"last {name}"


def _pid(node: Node, container: str) -> int:
    pid: int = json.loads(node.crictl("inspect", container))["info"]["pid"]
    return pid


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_an_address_is_never_given_twice(node: Node, busybox: str, end: Callable[[Node], None]) -> None:
    addresses = {node.pod_ip(node.run_pod("before"))}
    for number in range(3):
        end(node)
        node.start()
        addresses.add(node.pod_ip(node.run_pod(f"after{number}")))
    assert len(addresses) == 4


def test_a_created_container_can_be_started_afterwards(
    node: Node, busybox: str, end: Callable[[Node], None]
) -> None:
    pod = node.run_pod("created")
    container = node.create(pod, "main", busybox, "sh", "-c", "echo started; exec sleep 1000")
    end(node)
    node.start()
    assert node.status(container)["state"] == "CONTAINER_CREATED"
    node.crictl("start", container)
    wait_for("its output", lambda: node.crictl("logs", container) == "started")


def test_pods_that_lost_every_process_meanwhile(node: Node, busybox: str) -> None:
    """As after a reboot: nothing runs any more, and the records say so."""
    pod = node.run_pod("lost")
    container = node.start_container(pod, "main", busybox, "sleep", "1000")
    node.kill()
    _kill_pod_processes(node, pod)
    node.start()
    wait_for(
        "the container is known to have ended", lambda: node.status(container)["state"] != "CONTAINER_RUNNING"
    )
    assert node.status(container)["exitCode"] != 0
    wait_for("the pod is known to have ended", lambda: "NotReady" in node.crictl("pods"))
    node.crictl("rmp", "--force", pod)


def _kill_pod_processes(node: Node, pod: str) -> None:
    """Everything that holds the pod's run folder open or sits in one of its cgroups; they are gone then."""
    killed = [*_in_cgroups(node, pod)]
    for pid in killed:
        with contextlib.suppress(
            ProcessLookupError
        ):  # the first process of a namespace takes the others along
            os.kill(pid, 9)
    for pid in _holders(f"{node.run}/pods/{pod}"):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, 9)
        killed.append(pid)

    def gone() -> bool:
        leaks.reap_orphans()  # the first process of a PID namespace waits for that, too
        return not any(map(_lives, killed))

    wait_for("the pod's processes are gone", gone)


def _in_cgroups(node: Node, pod: str) -> Iterator[int]:
    top = Path(find_mount().path + node.config.cgroup_root)
    for procs in top.glob(f"**/{pod}/**/cgroup.procs"):
        with contextlib.suppress(OSError):
            yield from map(int, procs.read_text().split())


def _holders(path: str) -> Iterator[int]:
    """Processes that have something of a folder open."""
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if any(path in os.readlink(fd) for fd in (folder / "fd").iterdir()):
                yield int(folder.name)


def test_a_bystander_has_the_pid_of_a_monitor(node: Node, busybox: str) -> None:
    """PIDs are given again: who has one now isn't killed for what its former owner was."""
    pod = node.run_pod("reused")
    node.kill()
    _kill_pod_processes(node, pod)
    with subprocess.Popen(["sleep", "1000"]) as bystander:
        statement = (
            "UPDATE sandboxes SET status=json_set(CAST(status AS TEXT), '$.monitor_pid', ?) WHERE id=?"
        )
        with contextlib.closing(sqlite3.connect(node.root / "state.db")) as db, db:
            assert db.execute(statement, (bystander.pid, pod)).rowcount == 1
        node.start()
        node.crictl("rmp", "--force", pod)
        assert bystander.poll() is None
        bystander.kill()


def test_a_second_daemon_on_the_same_folders_is_refused(node: Node) -> None:
    done = subprocess.run(
        [str(each) for each in node.command], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1
    assert str(node.pid) in done.stderr
    assert str(node.root) in done.stderr or str(node.run) in done.stderr
    assert node.crictl("version")


def test_two_daemons_side_by_side(new_node: MakeNode, busybox: str) -> None:
    nodes = [new_node(), new_node()]
    addresses = []
    for node in nodes:
        node.start()
        node.crictl("pull", busybox)
        pod = node.run_pod("same-name")
        node.start_container(pod, "main", busybox, "sleep", "1000")
        addresses.append(node.pod_ip(pod))
    first, second = nodes
    assert addresses[0] != addresses[1]
    assert addresses[0].rsplit(".", 1)[0] != addresses[1].rsplit(".", 1)[0]
    first.kill()
    assert len(second.json("ps")["containers"]) == 1
    first.start()
    first.crictl("rmp", "--all", "--force")
    assert len(second.json("ps")["containers"]) == 1
    (container,) = second.json("ps")["containers"]
    assert second.crictl("exec", "--sync", container["id"], "hostname") == "same-name"


def test_descriptors_are_given_back(node: Node, busybox: str) -> None:
    def cycle(number: int) -> None:
        pod = node.run_pod(f"cycle{number}")
        container = node.start_container(pod, "main", busybox, "sleep", "1000")
        node.crictl("exec", "--sync", container, "true")
        node.crictl("exec", container, "true")
        with pytest.raises(CrictlFailed):
            node.crictl("exec", "--sync", container, "no-such-program")
        node.crictl("rmp", "--force", pod)

    for number in range(3):
        cycle(number)
    before = node.open_files()
    for number in range(3, 13):
        cycle(number)

    def no_more() -> bool:
        return all(count <= before.get(kind, 0) + 2 for kind, count in node.open_files().items())

    wait_for(f"as many descriptors as before, {before}", no_more)


def test_an_upgrade_is_a_restart_of_another_program(node: Node, busybox: str, tmp_path: Path) -> None:
    """The new version lies elsewhere and the old one is gone: pods keep nothing of its folders busy."""
    pod = node.run_pod("upgraded")
    container = node.start_container(pod, "main", busybox, "sleep", "1000")
    assert node.stop() == 0
    moved = tmp_path / "minikubelet"
    moved.write_text(PROGRAM.read_text())
    moved.chmod(0o755)
    old, node.command[0] = node.command[0], str(moved)
    try:
        node.start()
        assert node.crictl("exec", "--sync", container, "hostname") == "upgraded"
        assert node.stop() == 0
    finally:
        node.command[0] = old
        if node.process is None:
            node.start()
    assert node.status(container)["state"] == "CONTAINER_RUNNING"
