"""A daemon whose pods are connected by the standard CNI plugins, over CRI."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.host.node import CrictlFailed, Node

PLUGINS = "/usr/lib/cni"
BRIDGE = "mkcnitest0"


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    if not os.path.exists(f"{PLUGINS}/bridge"):
        pytest.skip("needs containernetworking-plugins")
    conf = tmp_path / "net.d"
    options = ("--network", "cni", "--cni-conf-dir", str(conf), "--cni-bin-dir", PLUGINS)
    node = Node(tmp_path / "node", tmp_path / "certs", *options)
    node.start()
    try:
        yield node
        node.finish()
    finally:
        subprocess.run(["ip", "link", "delete", BRIDGE], check=False, capture_output=True)


def conditions(node: Node) -> dict[str, dict[str, object]]:
    found = json.loads(node.crictl("info"))["status"]["conditions"]
    return {item["type"]: item for item in found}


def test_pods_of_a_cni_node(node: Node, tmp_path: Path) -> None:
    ipam = {
        "type": "host-local",
        "dataDir": str(tmp_path / "ipam"),
        "ranges": [[{"subnet": "10.231.77.0/24"}], [{"subnet": "fd31:77::/64"}]],
    }
    pod = tmp_path / "pod.json"
    metadata = {"name": "one", "namespace": "default", "uid": "u1"}
    pod.write_text(json.dumps({"metadata": metadata, "linux": {}}))
    ready = conditions(node)["NetworkReady"]
    assert (ready["status"], ready["reason"]) == (False, "NetworkPluginNotReady")
    with pytest.raises(CrictlFailed, match="cni plugin not initialized"):
        node.crictl("runp", str(pod))

    plugin = {"type": "bridge", "bridge": BRIDGE, "isGateway": True, "ipam": ipam}
    network = {"cniVersion": "1.0.0", "name": "test", "plugins": [plugin]}
    (tmp_path / "net.d/10-test.conflist").write_text(json.dumps(network))
    assert conditions(node)["NetworkReady"]["status"] is True
    identifier = node.crictl("runp", str(pod)).strip()
    told = json.loads(node.crictl("inspectp", identifier))["status"]["network"]
    first = told["ip"], told["additionalIps"]
    assert first == ("10.231.77.2", [{"ip": "fd31:77::2"}])
    leases = tmp_path / "ipam/test"
    assert (leases / "10.231.77.2").exists()

    node.kill()
    (tmp_path / "net.d/10-test.conflist").unlink()
    node.start()
    node.crictl("stopp", identifier)
    assert not (leases / "10.231.77.2").exists()
    assert list((node.root / "cni").iterdir()) == []
    assert (
        BRIDGE
        not in subprocess.run(
            ["ip", "-o", "link", "show", "type", "veth"], check=True, capture_output=True, text=True
        ).stdout
    )


def test_name_servers_of_the_network(node: Node, tmp_path: Path) -> None:
    """For pods that ask for none; the standard plugins take them from the configuration."""
    ipam = {"type": "host-local", "dataDir": str(tmp_path / "ipam"), "subnet": "10.231.78.0/24"}
    dns = {
        "nameservers": ["10.231.78.1"],
        "domain": "pods.test",
        "search": ["svc.test"],
        "options": ["ndots:3"],
    }
    plugin = {"type": "bridge", "bridge": BRIDGE, "isGateway": True, "ipam": ipam, "dns": dns}
    network = {"cniVersion": "1.0.0", "name": "test", "plugins": [plugin]}
    (tmp_path / "net.d/10-test.conflist").write_text(json.dumps(network))

    def resolver(name: str, **more: object) -> str:
        pod = tmp_path / f"{name}.json"
        metadata = {"name": name, "namespace": "default", "uid": name}
        pod.write_text(json.dumps({"metadata": metadata, "linux": {}, **more}))
        identifier = node.crictl("runp", str(pod)).strip()
        told = (Path(node.config.run) / "pods" / identifier / "resolv.conf").read_text()
        node.crictl("rmp", "-f", identifier)
        return told

    told = resolver("silent")
    assert told == "search pods.test svc.test\nnameserver 10.231.78.1\noptions ndots:3\n"
    assert resolver("outspoken", dns_config={"servers": ["10.0.0.1"]}) == "nameserver 10.0.0.1\n"
