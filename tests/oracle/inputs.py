"""What upstream's code and ours are asked: the differential suite's pods, changed, and others from a seed."""

from __future__ import annotations

import copy
import datetime
import itertools
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import yaml

from tests.oracle.mutants import mutants

Json = dict[str, Any]
ROOT = Path(__file__).resolve().parents[2]
NOW = 1_900_000_000
"""When rows and descriptions are made, in seconds since the epoch."""
LENIENT = "broken/unknown-field"
"""Upstream takes no notice of unknown fields."""


def whole_pods() -> Iterator[Json]:
    """The pods of the differential suite and of the examples, as they are in files."""
    places = sorted([*ROOT.glob("tests/differential/cases/*/*.yaml"), *ROOT.glob("examples/*.yaml")])
    for path in places:
        if f"{path.parent.name}/{path.stem}" == LENIENT:
            continue
        text = path.read_text().replace("PORT", "8080").replace("DIR", "/dir").replace("IMAGE", "busybox:1")
        try:
            documents = list(yaml.safe_load_all(text))
        except yaml.YAMLError:
            continue
        for each in documents:
            if isinstance(each, dict) and each.get("kind") == "Pod" and isinstance(each.get("spec"), dict):
                yield each


def pods() -> Iterator[Json]:
    """Whole pods, and each with one thing changed."""
    yield from whole_pods()
    yield from mutants(whole_pods(), skip=[("apiVersion",), ("kind",)])


def rows() -> Iterator[Json]:
    """Pods in all states, likely and not."""
    chance = random.Random(1)
    for number in range(1000):
        spec: Json = {"containers": [_named("c", index) for index in range(chance.choice([1, 1, 2, 3]))]}
        if chance.random() < 0.6:
            spec["initContainers"] = [
                _named("i", index) | ({"restartPolicy": "Always"} if chance.random() < 0.5 else {})
                for index in range(chance.choice([1, 2, 3]))
            ]
        if chance.random() < 0.5:
            spec["nodeName"] = "node"
        if chance.random() < 0.2:
            spec["readinessGates"] = [{"conditionType": "example.com/gate"}]
        pod = _pod(f"p{number}", spec)
        pod["status"] = _status(chance, spec)
        if chance.random() < 0.1:
            pod["metadata"]["deletionTimestamp"] = _ago(30)
        yield pod


def descriptions() -> Iterator[Json]:
    """Every third of the whole pods, in some state, with what else a description tells."""
    chance = random.Random(2)
    for each in itertools.islice(whole_pods(), 0, None, 3):
        pod = copy.deepcopy(each)
        try:
            pod["status"] = _status(chance, pod["spec"])
        except (KeyError, TypeError):
            continue
        pod["metadata"] = {"namespace": "default", "name": "pod", "creationTimestamp": _ago(100)}
        pod["metadata"] |= chance.choice([{}, {"labels": {"b": "2", "a": "1"}}])
        pod["metadata"] |= chance.choice([{}, {"annotations": {"note": "one\ntwo", "long": "x" * 300}}])
        pod["spec"] |= chance.choice([{}, {"nodeName": "node"}])
        pod["spec"] |= chance.choice([{}, {"serviceAccountName": "robot", "priority": 5}])
        pod["status"] |= {"qosClass": chance.choice(["Burstable", "BestEffort"]), "hostIP": "192.0.2.1"}
        pod["status"] |= chance.choice([{}, {"startTime": _ago(90), "message": "so it is"}])
        yield pod


def selectors() -> Iterator[list[Any]]:
    """Selectors, good and bad, and labels."""
    chance = random.Random(3)
    keys = [
        "a",
        "b",
        "app.kubernetes.io/name",
        "x-y",
        "A",
        "a b",
        "-a",
        "a/",
        "/a",
        "a/b/c",
        "é",
        "in",
        "notin",
    ]
    values = ["", "1", "2", "x", "X", "a b", "-x", "x-", "1.5", "in", "(x)", '"x"']

    def space() -> str:
        return chance.choice(["", "", " ", "  "])

    def requirement() -> str:
        key, kind = chance.choice(keys), chance.random()
        if kind < 0.2:
            return chance.choice(["", "!"]) + space() + key
        if kind < 0.6:
            operator = chance.choice(["=", "==", "!=", "===", "<", ">", ">=", "in"])
            return key + space() + operator + space() + chance.choice(values)
        listed = ",".join(space() + chance.choice(values) + space() for _ in range(chance.choice([0, 1, 2])))
        end = chance.choice([")", ")", ")", ""])
        return f"{key} {chance.choice(['in', 'notin', 'IN'])}{space()}({listed}{end}"

    for _ in range(3000):
        text = chance.choice([",", ",", " , ", ",,"]).join(
            requirement() for _ in range(chance.choice([1, 1, 2, 3]))
        )
        yield [text, {key: chance.choice(["1", "2", "x", "", "X"]) for key in chance.sample(keys[:5], 3)}]


def quantities() -> Iterator[str]:
    """Amounts in every notation, as far as upstream's 64 bits hold them.

    Without ``5.`` and ``1E3``: upstream shows them as they were written.
    """
    numbers = ["0", "1", "1.5", ".5", "0.001", "00", "1.25", "0.1", "3.14159265358979", "1..2", "x"]
    suffixes = ["", "m", "k", "K", "M", "G", "T", "P", "E", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei", "n", "u"]
    suffixes += ["e3", "e-3", "e", "i", "mi", "b", "e12"]
    for number in numbers:
        for suffix in suffixes:
            yield number + suffix
    for number in ("12", "999", "1000", "1024", "123456789012"):
        for suffix in ("", "m", "k", "M", "Ki", "Mi", "n", "u", "e3", "e-3"):
            yield number + suffix
    yield from ("", "1e3", "1e3e3", "1e3m")


def cpus() -> Iterator[list[Any]]:
    """Machines with some of their CPUs free, and how many are wanted."""
    chance = random.Random(4)
    machines = [
        (1, 1, 4, 1),
        (1, 1, 4, 2),
        (2, 1, 4, 2),
        (2, 1, 3, 2),
        (1, 2, 4, 2),
        (2, 2, 2, 2),
        (2, 4, 3, 1),
    ]
    for _ in range(1500):
        sockets, nodes, cores, threads = chance.choice(machines)
        sibling = chance.choice(["near", "far"])
        every = [
            (socket, socket * nodes + node, node * cores + core, thread)
            for socket in range(sockets)
            for node in range(nodes)
            for core in range(cores)
            for thread in range(threads)
        ]
        if (
            sibling == "far"
        ):  # as Linux numbers them on most machines: second threads after all the first ones
            every.sort(key=lambda each: each[3])
        free = sorted(chance.sample(range(len(every)), chance.randint(1, len(every))))
        yield [[list(each[:3]) for each in every], free, chance.randint(1, len(free))]


def configurations() -> Iterator[Json]:
    """A configuration field by field, and each with one thing changed."""
    whole = yaml.safe_load((Path(__file__).parent / "configuration.yaml").read_text())
    head = {name: whole.pop(name) for name in ("apiVersion", "kind", "failCgroupV1")}
    singles = [{**head, name: value} for name, value in whole.items()]
    yield from singles
    yield from mutants(singles, skip=[(name,) for name in head])


ALL: dict[str, Callable[[], Iterator[Any]]] = {
    each.__name__: each for each in (pods, rows, descriptions, selectors, quantities, cpus, configurations)
}


def _pod(name: str, spec: Json) -> Json:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "creationTimestamp": _ago(1000)},
        "spec": spec,
    }


def _named(letter: str, index: int) -> Json:
    return {"name": f"{letter}{index}", "image": "image"}


def _ago(seconds: int) -> str:
    return datetime.datetime.fromtimestamp(NOW - seconds, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _status(chance: random.Random, spec: Json) -> Json:
    status: Json = {"phase": chance.choice(["Pending", "Running", "Succeeded", "Failed", "Unknown"])}
    if chance.random() < 0.2:
        status["reason"] = chance.choice(["Evicted", "NodeLost", "NodeAffinity"])
    kinds = ["PodScheduled", "Initialized", "Ready", "ContainersReady", "example.com/gate"]
    status["conditions"] = [
        {"type": kind, "status": chance.choice(["True", "False"])}
        | ({"reason": "SchedulingGated"} if chance.random() < 0.05 else {})
        for kind in chance.sample(kinds, chance.choice([0, 3, 5]))
    ]
    for field in ("container", "initContainer"):
        if spec.get(f"{field}s") and chance.random() < 0.9:
            status[f"{field}Statuses"] = [_container(chance, each["name"]) for each in spec[f"{field}s"]]
    if chance.random() < 0.8:
        status |= {"podIP": "10.0.0.1", "podIPs": [{"ip": "10.0.0.1"}]}
    return status


def _container(chance: random.Random, name: str) -> Json:
    found: Json = {"name": name, "image": "image", "imageID": "sha256:1", "containerID": "c://1"}
    found |= {"ready": chance.random() < 0.6, "restartCount": chance.choice([0, 0, 1, 3])}
    found["state"] = _state(chance)
    if chance.random() < 0.5:
        found["started"] = chance.random() < 0.6
    if chance.random() < 0.5:
        times = {"startedAt": _ago(5000), "finishedAt": _ago(chance.choice([5, 90, 700, 4000]))}
        found["lastState"] = {"terminated": {"exitCode": 1, "reason": "Error", **times}}
    return found


def _state(chance: random.Random) -> Json:
    times = {"startedAt": _ago(3000), "finishedAt": _ago(chance.choice([5, 90, 700]))}
    ended: list[Json] = [{}, {"reason": "Completed"}, {"reason": "Error", "message": "why"}, {"signal": 9}]
    waits: list[Json] = [{}, *({"reason": why} for why in ("PodInitializing", "CrashLoopBackOff"))]
    return chance.choice(
        [
            {},
            {"running": {"startedAt": times["startedAt"]}},
            {"running": {"startedAt": times["startedAt"]}},
            {"waiting": chance.choice(waits)},
            {"terminated": {"exitCode": chance.choice([0, 1, 137]), **times, **chance.choice(ended)}},
        ]
    )
