"""Pods put together at random, for ``live``: what nobody has thought of writing a case for.

The same seed makes the same pod. Each container appends to a file of its own what happens to it, so that
starts, hooks and stops are compared by their order, not by their time. What is looked at after SECONDS lies
between two restarts: 10 and 20 s after a crash nothing is about to happen.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import yaml

from tests.differential.case import Case, Stage

SECONDS = 22.0
"""After ABSENT_AFTER: at 26 s a container that crashes at once has been restarted twice by either kubelet."""
POLICIES = ("Always", "OnFailure", "Never")
Container = dict[str, Any]


def cases(seed: int, count: int) -> Iterator[Case]:
    """``count`` cases, from ``seed`` on."""
    for number in range(seed, seed + count):
        text = yaml.safe_dump(make_pod(number), sort_keys=False).replace("'PORT'", "PORT")
        yield Case(f"fuzz/{number}", [Stage(text, wait=["absent"], after=SECONDS)])


def make_pod(seed: int) -> dict[str, Any]:
    """A pod that is valid, though it may well come to nothing."""
    chance = random.Random(seed)
    inits = [_init(chance, index) for index in range(chance.choice([0, 0, 1, 2, 3]))]
    regular = [_container(chance, f"c{index}") for index in range(chance.choice([1, 1, 2, 2, 3]))]
    volumes: list[dict[str, Any]] = [
        {"name": "out", "hostPath": {"path": "DIR"}},
        {"name": "scratch", "emptyDir": {}},
    ]
    spec = {
        "restartPolicy": chance.choice(["Always", *POLICIES]),
        "terminationGracePeriodSeconds": chance.choice([1, 2, 3, 5]),
        "volumes": volumes,
        "initContainers": inits,
        "containers": regular,
        **_of_pod(chance),
    }
    if chance.random() < 0.05:
        volumes.append({"name": "none", "hostPath": {"path": "/none/such", "type": "Directory"}})
        chance.choice([*inits, *regular])["volumeMounts"].append({"name": "none", "mountPath": "/none"})
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": f"fuzz-{seed}"}, "spec": spec}


def _of_pod(chance: random.Random) -> dict[str, Any]:
    rare: list[dict[str, Any]] = [
        {"activeDeadlineSeconds": chance.choice([5, 12])},
        {"shareProcessNamespace": True},
        {"hostNetwork": True},
        {"hostPID": True},
        {"readinessGates": [{"conditionType": "example.com/gate"}]},
        {"securityContext": chance.choice([{"runAsUser": 1000}, {"fsGroup": 1234}, {"runAsNonRoot": True}])},
        {"hostAliases": [{"ip": "1.2.3.4", "hostnames": ["a.b"]}]},
    ]
    return chance.choice(rare) if chance.random() < 0.5 else {}


def _init(chance: random.Random, index: int) -> Container:
    if chance.random() < 0.5:
        return {**_container(chance, f"s{index}", "sidecar"), "restartPolicy": "Always"}
    return _container(chance, f"i{index}", "init")


def _container(chance: random.Random, name: str, kind: str = "regular") -> Container:
    container: Container = {
        "name": name,
        "image": "IMAGE",
        "command": ["sh", "-c", _script(chance, name, kind)],
        "volumeMounts": [{"name": "out", "mountPath": "/out"}],
    }
    if kind != "sidecar" and chance.random() < 0.2:
        container["restartPolicy"] = chance.choice(POLICIES if kind == "regular" else POLICIES[1:])
        container["restartPolicyRules"] = [_rule(chance)]
    if kind != "init":
        container |= _probes(chance, name) | _hooks(chance, name)
    for odds, change in (
        (0.15, {"terminationMessagePolicy": "FallbackToLogsOnError"}),
        (0.03, {"command": ["/none"]}),
        (0.03, {"image": "localhost/none:1", "imagePullPolicy": "Never"}),
        (0.05, {"workingDir": chance.choice(["/out", "/none/such"])}),
        (0.05, {"terminationMessagePath": "/none/such/file"}),
        (0.05, {"tty": True}),
        (0.08, {"securityContext": chance.choice([{"runAsUser": 1000}, {"readOnlyRootFilesystem": True}])}),
    ):
        if chance.random() < odds:
            container |= change
    return container


def _script(chance: random.Random, name: str, kind: str) -> str:
    log, code = f"/out/{name}", chance.choice([0, 0, 1, 2, 42])
    begin = f"echo start >> {log}"
    lives = f"trap 'echo stop >> {log}; exit {chance.choice([0, 0, 7])}' TERM; while :; do sleep 0.2; done"
    ends = f"{begin}; echo printed; exit {code}"
    late = f"{begin}; sleep {chance.choice([1, 2, 3])}; echo -n told > /dev/termination-log; exit {code}"
    succeeds = (
        f"{begin}; [ $(grep -c start {log}) -ge {chance.choice([2, 3])} ] || exit {chance.choice([1, 2])}"
    )
    killed = f"{begin}; sh -c 'kill -KILL $$'; exit $?"
    if kind == "init":
        return chance.choice([begin, begin, begin, ends, late, succeeds])
    return chance.choice([f"{begin}; {lives}"] * 4 + [ends, late, succeeds, f"{succeeds}; {lives}", killed])


def _rule(chance: random.Random) -> dict[str, Any]:
    codes = {"operator": chance.choice(["In", "NotIn"]), "values": chance.sample([0, 1, 2, 42], 2)}
    return {"action": "Restart", "exitCodes": codes}


def _probes(chance: random.Random, name: str) -> Container:
    found: Container = {}
    for kind, odds in (("livenessProbe", 0.12), ("readinessProbe", 0.25), ("startupProbe", 0.12)):
        if chance.random() < odds:
            how: list[dict[str, Any]] = [
                {"exec": {"command": ["true"]}},
                {"exec": {"command": ["false"]}},
                {"exec": {"command": ["/none"]}},
                {"exec": {"command": ["sh", "-c", f"[ $(grep -c start /out/{name}) -ge 2 ]"]}},
                {"tcpSocket": {"port": 1}},
                {"httpGet": {"port": "PORT", "host": "127.0.0.1", "path": f"/fuzz/{name}"}},
            ]
            found[kind] = {
                **chance.choice(how),
                "periodSeconds": 1,
                "failureThreshold": chance.choice([1, 2, 3]),
            }
    return found


def _hooks(chance: random.Random, name: str) -> Container:
    hooks: dict[str, Any] = {}
    for kind in ("postStart", "preStop"):
        if chance.random() < 0.12:
            how: list[dict[str, Any]] = [
                {
                    "exec": {
                        "command": ["sh", "-c", f"echo {kind} >> /out/{name}; exit {chance.choice([0, 3])}"]
                    }
                },
                {"exec": {"command": ["sh", "-c", f"sleep 1; echo {kind} >> /out/{name}"]}},
                {"sleep": {"seconds": 1}},
            ]
            hooks[kind] = chance.choice(how)
    return {"lifecycle": hooks} if hooks else {}
