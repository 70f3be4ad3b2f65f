"""A daemon with ``--ipv6``: what CRI, the kubelet and a container see of both addresses."""

from __future__ import annotations

import ipaddress
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from minikubelet.network.ipv6 import usable
from tests.host.node import PROGRAM, Node, wait_for


@pytest.fixture
def node(tmp_path: Path, certs_dir: Path) -> Iterator[Node]:
    if not usable():
        pytest.skip("this machine has no IPv6")
    node = Node(tmp_path / "node", certs_dir, "--ipv6", "auto", kubelet=True)
    node.start()
    yield node
    for manifest in node.manifests.iterdir():
        manifest.unlink()
    wait_for("the pods are gone", lambda: not node.json("pods")["items"])
    node.finish()


def pod(node: Node) -> dict[str, Any]:
    command = [str(PROGRAM), "get", "pods", "-o", "json", "--run", str(node.run)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    items = json.loads(done.stdout)["items"] if done.returncode == 0 else []
    return dict(items[0]) if items else {}


def running(node: Node) -> list[str]:
    status = pod(node).get("status", {})
    return [each["ip"] for each in status.get("podIPs", ())] if status.get("phase") == "Running" else []


def test_everybody_sees_both_addresses(node: Node, busybox: str) -> None:
    manifest = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "dual"},
        "spec": {
            "terminationGracePeriodSeconds": 0,
            "containers": [{"name": "main", "image": busybox, "command": ["sleep", "1000"]}],
        },
    }
    (node.manifests / "dual.yaml").write_text(yaml.safe_dump(manifest))
    addresses = wait_for("the pod runs", lambda: running(node))
    four, six = (ipaddress.ip_address(text) for text in addresses)
    assert (four.version, six.version) == (4, 6) and six in ipaddress.ip_network("fd00::/8")

    sandbox = node.json("pods")["items"][0]["id"]
    told = json.loads(node.crictl("inspectp", sandbox))["status"]["network"]
    assert (told["ip"], told["additionalIps"]) == (str(four), [{"ip": str(six)}])
    container = node.json("ps")["containers"][0]["id"]
    hosts = node.crictl("exec", "--sync", container, "cat", "/etc/hosts").splitlines()
    assert [line.split()[0] for line in hosts if "\tdual" in line] == addresses
    for name, value in (("accept_ra", "0"), ("forwarding", "0"), ("accept_dad", "0")):
        path = f"/proc/sys/net/ipv6/conf/eth0/{name}"
        assert node.crictl("exec", "--sync", container, "cat", path).strip() == value, name

    node.kill()
    node.start()
    assert wait_for("the pod is told again", lambda: running(node)) == addresses
    assert json.loads(node.crictl("inspectp", sandbox))["status"]["network"] == told
