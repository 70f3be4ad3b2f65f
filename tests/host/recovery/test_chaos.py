"""The daemon is killed at random moments under load: nothing lost, nothing leaked."""

from __future__ import annotations

import os
import random
import re
import threading
from dataclasses import dataclass, field

import pytest

from tests.host.node import CrictlFailed, Node, wait_for

ROUNDS = int(os.environ.get("MINIKUBELET_CHAOS_ROUNDS", "8"))
WORKERS = 3


@dataclass
class Load:
    """Clients that make pods, use them and remove them, whatever the daemon does meanwhile."""

    node: Node
    image: str
    seed: int
    stopping: threading.Event = field(default_factory=threading.Event)
    done: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    """Answers that a daemon may never give, dying or not."""

    def work(self, worker: int) -> None:
        source = random.Random(self.seed * 100 + worker)
        number = 0
        while not self.stopping.is_set():
            number += 1
            try:
                self._life(source, f"load-{worker}-{number}")
            except CrictlFailed as exc:
                self.failures.append(str(exc))

    def _life(self, source: random.Random, name: str) -> None:
        node = self.node
        pod = node.run_pod(name)
        code = source.randrange(1, 200)
        container = node.create(
            pod, name, self.image, "sh", "-c", f"sleep 0.{source.randrange(5)}; exit {code}"
        )
        node.crictl("start", container)
        if source.random() < 0.5:
            self._exec(container)
        status = node.wait_exited(container)
        if status["exitCode"] != code:
            self.wrong.append(f"{name}: exit code {status['exitCode']}, not {code}")
        self.done.append(name)
        if source.random() < 0.7:
            node.crictl("rmp", "--force", pod)

    def _exec(self, container: str) -> None:
        try:
            said = self.node.crictl("exec", "--sync", container, "echo", "here")
        except CrictlFailed:
            return  # it may have ended meanwhile, or the daemon
        if said != "here":
            self.wrong.append(f"exec said {said!r}")


@pytest.mark.parametrize("seed", [1, 2])
def test_killed_at_random_moments(node: Node, busybox: str, seed: int) -> None:
    source = random.Random(seed)
    steady = {}
    for name in ("steady-a", "steady-b"):
        pod = node.run_pod(name)
        script = "i=0; while true; do i=$((i+1)); echo $i; sleep 0.02; done"
        container = node.start_container(pod, name, busybox, "sh", "-c", script)
        steady[name] = (pod, container, node.pod_ip(pod), node.status(container)["startedAt"])

    load = Load(node, busybox, seed)
    workers = [threading.Thread(target=load.work, args=(number,)) for number in range(WORKERS)]
    for worker in workers:
        worker.start()
    try:
        for _ in range(ROUNDS):
            threading.Event().wait(source.uniform(0.05, 1.5))
            node.kill()
            threading.Event().wait(source.uniform(0, 0.3))
            node.start()
        threading.Event().wait(1)
    finally:
        load.stopping.set()
        for worker in workers:
            worker.join()
    assert load.wrong == []
    assert load.done, f"no pod lived through it: {load.failures[-3:]}"

    for name, (pod, container, address, started) in steady.items():
        status = node.status(container)
        assert (status["state"], status["startedAt"]) == ("CONTAINER_RUNNING", started)
        assert node.pod_ip(pod) == address
        assert node.crictl("exec", "--sync", container, "hostname") == name
        _assert_no_line_is_missing(node, name)
    _assert_records_fit_the_world(node)
    node.crictl("rmp", "--all", "--force")  # and the fixtures see that nothing is left
    assert node.crictl("ps", "--all", "--quiet") == ""


def _assert_no_line_is_missing(node: Node, name: str) -> None:
    log = (node.logs / name / f"{name}.log").read_text()
    numbers = [int(line) for line in re.findall(r" stdout F (\d+)\n", log)]  # the last may be half written
    assert numbers == list(range(1, len(numbers) + 1))
    length = len(numbers)
    grown = f"stdout F {length + 5}\n"
    wait_for("the log grows", lambda: grown in (node.logs / name / f"{name}.log").read_text())


def _assert_records_fit_the_world(node: Node) -> None:
    """Whatever state a pod was left in, it says so rightly and can be used accordingly."""
    addresses = []
    for pod in node.json("pods")["items"]:
        if pod["state"] == "SANDBOX_READY":
            addresses.append(node.pod_ip(pod["id"]))
    assert len(addresses) == len(set(addresses)), addresses
    for container in node.json("ps", "--all")["containers"]:
        if container["state"] == "CONTAINER_RUNNING" and "steady" not in container["metadata"]["name"]:
            status = node.wait_exited(container["id"])
            assert 0 < status["exitCode"] < 200
