"""The upstream kubelet with its QoS cgroups on our runtime, where the kernel has all controllers."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from minikubelet.linux.cgroup.mount import find_mount
from tests.host.node import Node
from tests.upstream_kubelet import UpstreamKubelet, find_kubelet

ROOT = f"/mkupstream-{os.getpid()}"
SETTINGS = {"cgroupsPerQOS": True, "cgroupRoot": ROOT, "failCgroupV1": True, "podPidsLimit": 77}
MIB = 1 << 20


@pytest.fixture
def kubelet(node: Node, tmp_path: Path) -> Iterator[UpstreamKubelet]:
    if find_kubelet() is None:
        pytest.skip("no kubelet: build it with scripts/peers kubelet, which needs Go")
    folder = Path(find_mount().path + ROOT)
    folder.mkdir()
    kubelet = UpstreamKubelet(tmp_path / "k", node.config.listen, settings=SETTINGS)
    kubelet.home.mkdir()
    try:
        with kubelet:
            yield kubelet
            kubelet.drain()
            node.crictl("rmp", "--all", "--force")
    finally:
        for path, _, _ in os.walk(folder, topdown=False):
            with contextlib.suppress(FileNotFoundError):
                os.rmdir(path)


def manifest(name: str, image: str, resources: dict[str, Any]) -> dict[str, Any]:
    container = {"name": "app", "image": image, "command": ["sleep", "1000"], "resources": resources}
    spec = {"terminationGracePeriodSeconds": 0, "containers": [container]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}


def test_limits_by_qos_class(kubelet: UpstreamKubelet, node: Node, busybox: str) -> None:
    limits = {"cpu": "500m", "memory": "64Mi"}
    kubelet.write("sure", manifest("sure", busybox, {"limits": limits}))
    some = {"requests": {"cpu": "100m"}, "limits": {"memory": "32Mi"}}
    kubelet.write("some", manifest("some", busybox, some))
    kubelet.write("least", manifest("least", busybox, {}))
    folders = {"sure": "", "some": "burstable/", "least": "besteffort/"}
    found = {}
    for name, tier in folders.items():
        uid = kubelet.wait_ready(name)["metadata"]["uid"]
        pod = Path(f"{find_mount().path}{ROOT}/kubepods/{tier}pod{uid}")
        container = kubelet.pod(name)["status"]["containerStatuses"][0]["containerID"]  # type: ignore[index]
        found[name] = (pod, pod / container.removeprefix("minikubelet://"))
    for folder in found["sure"]:
        assert read(folder, "memory.max") == str(64 * MIB)
        assert read(folder, "cpu.max") == "50000 100000"
    assert read(found["some"][0], "memory.max") == read(found["some"][1], "memory.max") == str(32 * MIB)
    # 102 shares: the kubelet has runc's old line of weights for its pods, ours is the curve of runc 1.4.
    assert [read(folder, "cpu.weight") for folder in found["some"]] == ["4", "17"]
    assert read(found["least"][1], "memory.max") == "max"
    assert read(found["least"][1], "cpu.weight") == "1"
    for pod, container in found.values():
        assert read(pod, "pids.max") == "77"
        assert read(container, "cgroup.procs")
    (status,) = [each for each in node.json("ps")["containers"] if "sure-host" in json.dumps(each["labels"])]
    assert node.status(status["id"])["resources"]["linux"]["memoryLimitInBytes"] == str(64 * MIB)


def read(folder: Path, name: str) -> str:
    return (folder / name).read_text().strip()
