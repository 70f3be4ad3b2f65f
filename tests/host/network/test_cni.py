"""CNI mode: the standard plugins in namespaces of the tests' own, and a plugin that misbehaves on demand."""

from __future__ import annotations

import asyncio
import json
import os
import socket
from pathlib import Path
from typing import Any

import pytest

from minikubelet.base.config import NetworkConfig
from minikubelet.base.errors import Code, NodeError
from minikubelet.network.cni import CniNetwork
from minikubelet.network.cni_config import Pod
from minikubelet.network.pod_network import PortMapping

from .isolated import Namespace, exchange, own_host, sh

BINARIES = "/usr/lib/cni"
POD = Pod("prod", "web", "uid-1", {"kubernetes.io/ingress-bandwidth": "10M"})

FAKE = """#!/bin/sh
# Writes down how it was called; does what the file "do" beside it says.
here=$(dirname "$0")
config=$(cat)
echo "$CNI_COMMAND $(basename "$0") [$CNI_NETNS] $CNI_ARGS" >>"$here/calls"
echo "$config" >"$here/stdin.$(basename "$0").$CNI_COMMAND"
[ ! -e "$here/do.$CNI_COMMAND" ] || . "$here/do.$CNI_COMMAND"
[ "$CNI_COMMAND" != ADD ] || echo '{"cniVersion": "1.1.0",
  "ips": [{"address": "fd00::5/64"}, {"address": "10.1.2.3/24"}]}'
"""


def configure(path: str, name: str, content: dict[str, Any]) -> None:
    os.makedirs(f"{path}/net.d", exist_ok=True)
    Path(f"{path}/net.d/{name}").write_text(json.dumps(content))


def network(path: str) -> CniNetwork:
    config = NetworkConfig(mode="cni", cni_conf_dir=f"{path}/net.d", cni_bin_dirs=[f"{path}/bin", BINARIES])
    return CniNetwork(config, path)


def bridge(path: str) -> dict[str, Any]:
    ipam = {
        "type": "host-local",
        "dataDir": f"{path}/ipam",
        "ranges": [[{"subnet": "10.99.0.0/24"}], [{"subnet": "fd99::/64"}]],
        "routes": [{"dst": "0.0.0.0/0"}],
    }
    return {
        "cniVersion": "1.0.0",
        "name": "test",
        "plugins": [
            {"type": "bridge", "bridge": "cni-test", "isGateway": True, "ipam": ipam},
            {"type": "portmap", "capabilities": {"portMappings": True}, "snat": True},
        ],
    }


def fakes(path: str, *names: str, version: str = "1.1.0") -> None:
    os.makedirs(f"{path}/bin", exist_ok=True)
    for name in names:
        Path(f"{path}/bin/{name}").write_text(FAKE)
        os.chmod(f"{path}/bin/{name}", 0o755)
    configure(
        path,
        "10-fake.conflist",
        {"cniVersion": version, "name": "fake", "plugins": [{"type": name} for name in names]},
    )


def order(path: str) -> list[str]:
    lines = Path(f"{path}/bin/calls").read_text().splitlines()
    return [" ".join(line.split()[:2]) for line in lines]


def do(path: str, command: str, script: str) -> None:
    Path(f"{path}/bin/do.{command}").write_text(script)


@pytest.mark.skipif(not os.path.exists(f"{BINARIES}/bridge"), reason="needs containernetworking-plugins")
def test_standard_plugins_connect_a_pod(tmp_path: object) -> None:
    _standard_plugins(tmp_path)


@own_host
async def _standard_plugins(path: str) -> None:
    configure(path, "10-test.conflist", bridge(path))
    net = network(path)
    await net.start()
    assert net.status() == (True, "", "")
    pod = Namespace()
    attachment = await net.attach("a" * 64, pod.fd, pod.netlink.fileno(), [PortMapping("tcp", 80, 8080)], POD)
    assert attachment.ips == ("10.99.0.2", "fd99::2")
    assert "10.99.0.2/24" in pod.run("ip", "addr", "show", "eth0")
    assert "fd99::2/64" in pod.run("ip", "addr", "show", "eth0")
    with pod.listen(80) as server:
        assert exchange(socket.socket(), server, ("10.99.0.2", 80)) == "10.99.0.1"
    assert "8080" in sh("iptables", "-t", "nat", "-S")
    later = network(path)  # after a restart, with another configuration
    assert later.addresses("a" * 64) == attachment
    os.unlink(f"{path}/net.d/10-test.conflist")
    await later.detach("a" * 64, pod.fd)
    assert "eth0" not in pod.run("ip", "link")
    assert "8080" not in sh("iptables", "-t", "nat", "-S")
    assert not [name for name in os.listdir(f"{path}/ipam/test") if name.startswith(("10.", "fd99"))]
    assert os.listdir(f"{path}/cni") == []
    await later.detach("a" * 64)


@pytest.mark.skipif(not os.path.exists(f"{BINARIES}/bridge"), reason="needs containernetworking-plugins")
def test_portmap_gets_ipv6_host_addresses(tmp_path: object) -> None:
    _ipv6_host_address(tmp_path)


@own_host
async def _ipv6_host_address(path: str) -> None:
    configure(path, "10-test.conflist", bridge(path))
    net = network(path)
    await net.start()
    pod = Namespace()
    ports = [PortMapping("tcp", 80, 8080, "2001:db8::1"), PortMapping("tcp", 81, 8081, "0.0.0.0")]
    await net.attach("a" * 64, pod.fd, pod.netlink.fileno(), ports, POD)
    six, four = sh("ip6tables", "-t", "nat", "-S"), sh("iptables", "-t", "nat", "-S")
    assert "-d 2001:db8::1/128 -p tcp -m tcp --dport 8080 -j DNAT" in six and "[fd99::2]:80" in six
    assert "--dport 8080 -j DNAT" not in four and "10.99.0.2:81" in four
    await net.detach("a" * 64, pod.fd)
    assert "8080" not in sh("ip6tables", "-t", "nat", "-S")


@pytest.mark.skipif(not os.path.exists(f"{BINARIES}/bridge"), reason="needs containernetworking-plugins")
def test_addresses_come_back_without_a_namespace(tmp_path: object) -> None:
    _without_namespace(tmp_path)


@own_host
async def _without_namespace(path: str) -> None:
    configure(path, "10-test.conflist", bridge(path))
    net = network(path)
    await net.start()
    pod = Namespace()
    await net.attach("b" * 64, pod.fd, pod.netlink.fileno(), [], POD)
    pod.close()
    await network(path).collect([])
    assert not [name for name in os.listdir(f"{path}/ipam/test") if name.startswith(("10.", "fd99"))]
    assert os.listdir(f"{path}/cni") == []


@own_host
async def test_ready_while_there_is_a_configuration(path: str) -> None:
    net = network(path)
    await net.start()
    text = "Network plugin returns error: cni plugin not initialized"
    assert net.status() == (False, "NetworkPluginNotReady", text)
    fakes(path, "one", version="1.0.0")
    assert net.status() == (True, "", "")
    os.unlink(f"{path}/net.d/10-fake.conflist")
    assert net.status() == (False, "NetworkPluginNotReady", text)


@own_host
async def test_plugins_are_called_in_order_and_back(path: str) -> None:
    fakes(path, "one", "two")
    net = network(path)
    await net.start()
    pod = Namespace()
    attachment = await net.attach("c" * 64, pod.fd, pod.netlink.fileno(), [], POD)
    assert attachment.ips == ("10.1.2.3", "fd00::5")
    await net.detach("c" * 64)
    wanted = ["STATUS one", "STATUS two", "ADD one", "ADD two", "DEL two", "DEL one"]
    assert order(path) == wanted
    add = json.loads(Path(f"{path}/bin/stdin.two.ADD").read_text())
    assert add["prevResult"]["ips"][1]["address"] == "10.1.2.3/24"
    assert (add["name"], add["cniVersion"]) == ("fake", "1.1.0")
    assert "prevResult" in json.loads(Path(f"{path}/bin/stdin.one.DEL").read_text())
    calls = Path(f"{path}/bin/calls").read_text().splitlines()
    assert f"[/proc/{os.getpid()}/fd/{pod.fd}]" in calls[2]
    assert calls[2].endswith(
        "IgnoreUnknown=1;K8S_POD_NAMESPACE=prod;K8S_POD_NAME=web;"
        f"K8S_POD_INFRA_CONTAINER_ID={'c' * 64};K8S_POD_UID=uid-1"
    )
    assert "[]" in calls[4]


@own_host
async def test_a_failed_add_is_told_and_undone(path: str) -> None:
    fakes(path, "one", "two")
    do(
        path,
        "ADD",
        """case $0 in */two) echo '{"code": 11, "msg": "try later", "details": "busy"}'; exit 1;; esac\n""",
    )
    net = network(path)
    await net.start()
    pod = Namespace()
    with pytest.raises(NodeError) as caught:
        await net.attach("d" * 64, pod.fd, pod.netlink.fileno(), [], POD)
    assert str(caught.value) == 'plugin type="two" failed (add): try later; busy (code 11)'
    assert order(path)[-2:] == ["DEL two", "DEL one"]
    assert os.listdir(f"{path}/cni") == []


@own_host
async def test_a_cancelled_add_ends_the_plugin_and_is_undone(path: str) -> None:
    fakes(path, "one")
    do(path, "ADD", f"echo $$ >{path}/pid; exec sleep 1000\n")
    net = network(path)
    await net.start()
    pod = Namespace()
    task = asyncio.ensure_future(net.attach("e" * 64, pod.fd, pod.netlink.fileno(), [], POD))
    while not (os.path.exists(f"{path}/pid") and Path(f"{path}/pid").read_text().strip()):  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not os.path.exists(f"/proc/{Path(f'{path}/pid').read_text().strip()}")
    assert order(path)[-1] == "DEL one"
    assert os.listdir(f"{path}/cni") == []


@own_host
async def test_a_failed_del_keeps_the_attachment_for_another_try(path: str) -> None:
    fakes(path, "one")
    net = network(path)
    await net.start()
    pod = Namespace()
    await net.attach("f" * 64, pod.fd, pod.netlink.fileno(), [], POD)
    do(path, "DEL", "echo oops >&2; exit 3\n")
    with pytest.raises(NodeError, match=r'plugin type="one" failed \(del\): exit status 3: oops'):
        await net.detach("f" * 64)
    assert os.listdir(f"{path}/cni") == [f"{'f' * 64}.json"]
    os.unlink(f"{path}/bin/do.DEL")
    await net.detach("f" * 64)
    assert os.listdir(f"{path}/cni") == []


@own_host
async def test_status_of_plugins_and_gc(path: str) -> None:
    fakes(path, "one")
    do(path, "STATUS", """echo '{"code": 50, "msg": "no agent"}'; exit 1\n""")
    net = network(path)
    await net.start()
    ready, reason, message = net.status()
    assert (ready, reason) == (False, "NetworkPluginNotReady")
    assert 'plugin type="one" failed (status): no agent (code 50)' in message
    pod = Namespace()
    for name in "12":
        await net.attach(name * 64, pod.fd, pod.netlink.fileno(), [], POD)
    await net.collect(["1" * 64])
    assert order(path)[-2:] == ["DEL one", "GC one"]
    told = json.loads(Path(f"{path}/bin/stdin.one.GC").read_text())
    assert told["cni.dev/valid-attachments"] == [{"containerID": "1" * 64, "ifname": "eth0"}]


@own_host
async def test_no_gc_where_others_have_the_network_too(path: str) -> None:
    fakes(path, "one")
    configuration = json.loads(Path(f"{path}/net.d/10-fake.conflist").read_text())
    configure(path, "10-fake.conflist", {**configuration, "disableGC": True})
    net = network(path)
    await net.start()
    await net.collect([])
    assert order(path) == ["STATUS one"]


@own_host
async def test_a_damaged_record_is_undone_with_todays_configuration(path: str) -> None:
    """Half a file, or an empty one, must keep neither the daemon from starting nor a pod from going."""
    fakes(path, "one", version="1.0.0")
    net = network(path)
    await net.start()
    pod = Namespace()
    for name, content in (("1", b""), ("2", b'{"network": {"na'), ("3", b"[]"), ("4", b'{"network": 7}')):
        await net.attach(name * 64, pod.fd, pod.netlink.fileno(), [], POD)
        Path(f"{path}/cni/{name * 64}.json").write_bytes(content)
        assert net.addresses(name * 64) is None
    await net.detach("1" * 64)
    await network(path).collect([])
    assert order(path)[-4:] == ["DEL one"] * 4
    assert os.listdir(f"{path}/cni") == []


@own_host
async def test_a_damaged_record_without_a_configuration_is_set_aside(path: str) -> None:
    fakes(path, "one", version="1.0.0")
    net = network(path)
    await net.start()
    pod = Namespace()
    await net.attach("5" * 64, pod.fd, pod.netlink.fileno(), [], POD)
    Path(f"{path}/cni/{'5' * 64}.json").write_bytes(b"\0" * 100)
    os.unlink(f"{path}/net.d/10-fake.conflist")
    await network(path).collect([])
    await net.detach("5" * 64)
    assert os.listdir(f"{path}/cni") == [f"{'5' * 64}.json.damaged"]


@pytest.mark.skipif(not os.path.exists(f"{BINARIES}/bandwidth"), reason="needs containernetworking-plugins")
def test_the_standard_plugin_limits_bandwidth(tmp_path: object) -> None:
    before = set(os.listdir("/sys/class/net"))
    try:
        _bandwidth(tmp_path)
    finally:  # the first to use the kernel's ifb module makes two links of the host that nobody asked for
        for link in set(os.listdir("/sys/class/net")) - before:
            if link.startswith("ifb"):
                sh("ip", "link", "delete", link)


@own_host
async def _bandwidth(path: str) -> None:
    content = bridge(path)
    content["plugins"].append({"type": "bandwidth", "capabilities": {"bandwidth": True}})
    configure(path, "10-test.conflist", content)
    net = network(path)
    await net.start()
    pod = Namespace()
    await net.attach("a" * 64, pod.fd, pod.netlink.fileno(), [], POD)
    assert "tbf" in (shaped := sh("tc", "qdisc", "show")) and "rate 10Mbit" in shaped
    await net.detach("a" * 64, pod.fd)
    assert "tbf" not in sh("tc", "qdisc", "show")


@own_host
async def test_a_name_cannot_smuggle_arguments(path: str) -> None:
    fakes(path, "one")
    net = network(path)
    pod = Namespace()
    with pytest.raises(NodeError) as caught:
        bad = Pod("prod", "web;K8S_POD_NAMESPACE=kube-system", "uid")
        await net.attach("9" * 64, pod.fd, pod.netlink.fileno(), [], bad)
    assert caught.value.code is Code.INVALID_ARGUMENT
