"""CNI configuration files and what plugins are given of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from minikubelet.base.errors import NodeError
from minikubelet.network import cni_config, cni_exec
from minikubelet.network.cni_config import NetworkList, Pod, Resolver
from minikubelet.network.port_maps import PortMapping


def write(folder: Path, file: str, **content: Any) -> None:
    (folder / file).write_text(json.dumps({"cniVersion": "1.0.0", "name": file, **content}))


def test_the_first_file_by_name_wins(tmp_path: Path) -> None:
    write(tmp_path, "20-b.conf", type="bridge")
    write(tmp_path, "10-a.conflist", plugins=[{"type": "ptp"}, {"type": "portmap"}])
    write(tmp_path, "00-c.disabled", type="vlan")
    network = cni_config.load(str(tmp_path))
    assert network.name == "10-a.conflist"
    assert [plugin["type"] for plugin in network.plugins] == ["ptp", "portmap"]
    (tmp_path / "10-a.conflist").unlink()
    assert [plugin["type"] for plugin in cni_config.load(str(tmp_path)).plugins] == ["bridge"]


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ("{", "no CNI configuration"),
        ("[]", "JSON object"),
        ('{"name": "a", "plugins": []}', "plugins"),
        ('{"name": "a", "plugins": [{"type": "../sh"}]}', "plugins[0].type"),
        ('{"name": "a", "plugins": [7]}', "plugins[0].type"),
        ('{"plugins": [{"type": "a"}]}', "name"),
        ('{"name": "a", "cniVersion": "9.0.0", "type": "b"}', "cniVersion"),
        ('{"name": "a", "plugins": [{"type": "b", "capabilities": 1}]}', "capabilities"),
        ("[" * 100000, "no CNI configuration"),
    ],
)
def test_a_bad_file_is_named(tmp_path: Path, content: str, named: str) -> None:
    (tmp_path / "1.conf").write_text(content)
    with pytest.raises(NodeError) as caught:
        cni_config.load(str(tmp_path))
    assert str(tmp_path / "1.conf") in str(caught.value)
    assert named in str(caught.value)


def test_no_file_says_what_clients_look_for(tmp_path: Path) -> None:
    with pytest.raises(NodeError, match="cni plugin not initialized"):
        cni_config.load(str(tmp_path / "missing"))


def test_the_latest_common_version_is_taken() -> None:
    content = {"name": "a", "cniVersion": "0.4.0", "cniVersions": ["0.3.1", "1.1.0", "2.0.0"], "type": "b"}
    assert cni_config.parse(content, "x").version == "1.1.0"


def test_plugins_get_what_their_capabilities_ask_for() -> None:
    pod = Pod("ns", "a", "u", {"kubernetes.io/egress-bandwidth": "1Mi"}, {"servers": ["1.1.1.1"]})
    runtime = cni_config.runtime_config(pod, [PortMapping("tcp", 80, 8080)])
    plugin = {"type": "x", "capabilities": {"portMappings": True, "bandwidth": True, "dns": False}}
    network = NetworkList("net", "1.0.0", [plugin])
    assert cni_config.plugin_config(network, plugin, runtime, {"ips": []}) == {
        "type": "x",
        "name": "net",
        "cniVersion": "1.0.0",
        "runtimeConfig": {
            "portMappings": [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp", "hostIP": ""}],
            "bandwidth": {"egressRate": 1 << 20, "egressBurst": 2**31 - 1},
        },
        "prevResult": {"ips": []},
    }


@pytest.mark.parametrize("text", ["", "10X", "-1M", "1", "2P", "²k", "9" * 400])
def test_bandwidths_out_of_range(text: str) -> None:
    with pytest.raises(NodeError, match="ingress-bandwidth"):
        cni_config.bandwidth({"kubernetes.io/ingress-bandwidth": text})


def test_addresses_of_other_interfaces_are_not_the_pods() -> None:
    result = {
        "interfaces": [{"name": "br"}, {"name": "eth0", "sandbox": "/x"}, {"name": "eth1", "sandbox": "/x"}],
        "ips": [
            {"address": "10.0.0.1/24", "interface": 0},
            {"address": "fd00::2/64", "interface": 1},
            {"address": "10.0.0.2/24", "interface": 1},
            {"address": "10.9.0.2/24", "interface": 2},
        ],
    }
    assert cni_config.pod_ips(result, "eth0") == ("10.0.0.2", "fd00::2")
    with pytest.raises(NodeError, match="no address for eth0"):
        cni_config.pod_ips({"ips": []}, "eth0")


def test_a_missing_plugin_and_its_folders_are_named(tmp_path: Path) -> None:
    with pytest.raises(NodeError, match=f"failed to find plugin 'bridge' in {tmp_path}"):
        cni_exec.find("bridge", [str(tmp_path)])


async def _slow(tmp_path: Path) -> None:
    (tmp_path / "slow").write_text("#!/bin/sh\nsleep 1000 & wait\n")
    (tmp_path / "slow").chmod(0o755)
    await cni_exec.execute([str(tmp_path)], {"type": "slow"}, cni_exec.Call("STATUS", timeout=0.2))


def test_a_plugin_that_hangs_is_ended(tmp_path: Path) -> None:
    import asyncio

    with pytest.raises(NodeError, match=r'plugin type="slow" failed \(status\): no answer within 0.2 s'):
        asyncio.run(_slow(tmp_path))


def test_plugins_in_the_folder_of_the_network_follow_its_own(tmp_path: Path) -> None:
    """CNI 1.1.0: other programs add a plugin without editing the network's file."""
    (tmp_path / "net").mkdir()
    write(tmp_path / "net", "20-tuning.conf", type="tuning")
    write(tmp_path / "net", "10-firewall.conf", type="firewall")
    write(tmp_path / "net", "30-other.json", type="not-a-conf-file")
    write(tmp_path, "10-a.conflist", name="net", plugins=[{"type": "ptp"}])
    kinds = [plugin["type"] for plugin in cni_config.load(str(tmp_path)).plugins]
    assert kinds == ["ptp", "firewall", "tuning"]
    write(tmp_path, "10-a.conflist", name="net", plugins=[{"type": "ptp"}], loadOnlyInlinedPlugins=True)
    assert len(cni_config.load(str(tmp_path)).plugins) == 1
    write(tmp_path, "10-a.conflist", name="..", plugins=[{"type": "ptp"}])
    with pytest.raises(NodeError, match="name"):
        cni_config.load(str(tmp_path))


def test_name_servers_of_a_result() -> None:
    dns = {
        "nameservers": ["10.0.0.10", "fd00::a", "ns.test", "10.0.0.11\nnameserver 6.6.6.6"],
        "domain": "pods.test",
        "search": ["svc.test", "pods.test", "two words", 7],
        "options": ["ndots:3"],
    }
    found = cni_config.resolver({"dns": dns})
    assert found == Resolver(("10.0.0.10", "fd00::a"), ("pods.test", "svc.test"), ("ndots:3",))
    assert cni_config.resolver({"dns": {}}) is None
    assert cni_config.resolver({"dns": {"nameservers": None}}) is None
    assert cni_config.resolver({}) is None
