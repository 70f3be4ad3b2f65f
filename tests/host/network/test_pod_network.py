"""The pod network against the real kernel, in namespaces of the tests' own."""

from __future__ import annotations

import asyncio
import os
import socket
import threading

import pytest

from minikubelet.base.errors import Code, NodeError, StepError
from minikubelet.network.pod_network import Attachment, PodNetwork, PortMapping

from .isolated import Namespace, can_connect, exchange, network, own_host, sh


def sandbox(number: int) -> str:
    return f"{number:064x}"[::-1]


async def attach(net: PodNetwork, number: int, *ports: PortMapping) -> tuple[Namespace, Attachment]:
    pod = Namespace()
    attachment = await net.attach(sandbox(number), pod.fd, pod.netlink.fileno(), ports)
    return pod, attachment


def links() -> set[str]:
    return {line.split(":")[1].strip().split("@")[0] for line in sh("ip", "-o", "link").splitlines()}


@own_host
async def test_a_pod_gets_a_configured_interface(path: str) -> None:
    net = network(path)
    await net.start()
    assert net.status() == (True, "", "")
    pod, attachment = await attach(net, 1)
    assert attachment == Attachment(("10.85.0.2",), "10.85.0.1")
    assert net.addresses(sandbox(1)) == attachment
    assert "inet 10.85.0.2/22 brd 10.85.3.255" in pod.run("ip", "addr", "show", "eth0")
    assert "default via 10.85.0.1 dev eth0" in pod.run("ip", "route")
    assert "LOWER_UP" in pod.run("ip", "link", "show", "lo")
    assert "mk-abc123" in sh("ip", "link", "show", "master", "mk-abc123")
    await net.close()


@own_host
async def test_pods_and_host_reach_each_other(path: str) -> None:
    net = network(path)
    await net.start()
    one, first = await attach(net, 1)
    two, second = await attach(net, 2)
    with one.listen(80) as server:
        assert exchange(two.socket(), server, (first.ips[0], 80)) == second.ips[0]
        assert exchange(socket.socket(), server, (first.ips[0], 80)) == "10.85.0.1"
    with socket.socket() as server:
        server.bind(("0.0.0.0", 81))
        server.listen()
        assert exchange(one.socket(), server, ("10.85.0.1", 81)) == first.ips[0]
    await net.close()


def outside() -> Namespace:
    """A machine beside the host, on 198.51.100.0/24, that knows nothing of pods."""
    other = Namespace()
    sh("ip", "link", "add", "wan0", "type", "veth", "peer", "name", "eth0")
    sh("ip", "addr", "add", "198.51.100.1/24", "dev", "wan0")
    sh("ip", "link", "set", "wan0", "up")
    sh("ip", "link", "set", "eth0", "netns", f"/proc/{os.getpid()}/fd/{other.fd}")
    other.run("ip", "addr", "add", "198.51.100.2/24", "dev", "eth0")
    other.run("ip", "link", "set", "eth0", "up")
    return other


@own_host
async def test_masquerade_and_host_ports_from_outside(path: str) -> None:
    net = network(path)
    await net.start()
    other = outside()
    pod, _ = await attach(net, 1, PortMapping("TCP", 80, 8080), PortMapping("tcp", 81, 8081, "198.51.100.1"))
    with other.listen(9000) as server:
        assert exchange(pod.socket(), server, ("198.51.100.2", 9000)) == "198.51.100.1"
    with pod.listen(80) as server:
        assert exchange(other.socket(), server, ("198.51.100.1", 8080)) == "198.51.100.2"
    with pod.listen(81) as server:
        assert exchange(other.socket(), server, ("198.51.100.1", 8081)) == "198.51.100.2"
        assert not can_connect(socket.socket(), ("127.0.0.1", 8081))
    await net.close()


@own_host
async def test_host_ports_from_host_pod_and_itself(path: str) -> None:
    net = network(path)
    await net.start()
    pod, attachment = await attach(net, 1, PortMapping("tcp", 80, 8080), PortMapping("tcp", 82, 0))
    neighbour, _ = await attach(net, 2)
    with pod.listen(80) as server:
        exchange(socket.socket(), server, ("127.0.0.1", 8080))
        exchange(socket.socket(), server, ("10.85.0.1", 8080))
        exchange(neighbour.socket(), server, ("10.85.0.1", 8080))
        exchange(pod.socket(), server, ("10.85.0.1", 8080))
        await net.detach(sandbox(1))
        assert not can_connect(socket.socket(), ("127.0.0.1", 8080))
    assert attachment.ips == ("10.85.0.2",)
    await net.close()


@own_host
async def test_udp_host_port(path: str) -> None:
    net = network(path)
    await net.start()
    pod, _ = await attach(net, 1, PortMapping("udp", 53, 5353))
    with pod.socket(socket.SOCK_DGRAM) as server, socket.socket(type=socket.SOCK_DGRAM) as client:
        server.bind(("0.0.0.0", 53))
        server.settimeout(30)
        client.settimeout(30)
        client.sendto(b"who", ("127.0.0.1", 5353))
        question, source = server.recvfrom(100)
        server.sendto(b"me", source)
        assert (question, client.recv(100)) == (b"who", b"me")
    await net.close()


@own_host
async def test_a_neighbour_never_reaches_the_hosts_loopback(path: str) -> None:
    net = network(path)
    await net.start()
    pod, _ = await attach(net, 1)
    with socket.socket() as server:
        server.bind(("127.0.0.1", 7000))
        server.listen()
        assert can_connect(socket.socket(), ("127.0.0.1", 7000), 30)
        pod.run("sysctl", "-qw", "net.ipv4.conf.all.route_localnet=1", "net.ipv4.conf.eth0.route_localnet=1")
        pod.run("ip", "addr", "del", "127.0.0.1/8", "dev", "lo")
        pod.run("ip", "route", "add", "127.0.0.0/8", "via", "10.85.0.1")
        assert "10.85.0.1" in pod.run("ip", "route", "get", "127.0.0.1")
        assert not can_connect(pod.socket(), ("127.0.0.1", 7000))
        sh("nft", "flush", "chain", "inet", "minikubelet_abc123", "guard")
        assert can_connect(pod.socket(), ("127.0.0.1", 7000), 30), "something else than the guard stops it"
    await net.close()


@own_host
async def test_a_host_port_in_use_names_its_holder(path: str) -> None:
    net = network(path)
    await net.start()
    await attach(net, 1, PortMapping("tcp", 80, 8080))
    for host_ip in ("", "127.0.0.1"):
        with pytest.raises(NodeError, match=r"tcp .*:8080 is in use by pod sandbox 1000") as error:
            await attach(net, 2, PortMapping("tcp", 80, 8080, host_ip))
        assert error.value.code is Code.FAILED_PRECONDITION
    await attach(net, 2, PortMapping("udp", 80, 8080))
    assert net.addresses(sandbox(2)) is not None
    await net.close()


@own_host
async def test_failures_at_every_step_leave_nothing(path: str) -> None:
    net = network(path, subnet="10.99.0.0/28")
    await net.start()
    await attach(net, 1, PortMapping("tcp", 1, 1000))
    before, table = links(), sh("nft", "list", "ruleset")
    pod = Namespace()
    ports = [PortMapping("tcp", 80, 8080)]
    real_sync = net._live.rules.sync  # type: ignore[union-attr]

    async def refuse() -> None:
        raise StepError("set host ports", 12, "injected")

    for round_ in range(300):
        kind = round_ % 4
        net._live.rules.sync = refuse if kind == 3 else real_sync  # type: ignore[method-assign,union-attr]
        netns, netlink = pod.fd, pod.netlink.fileno()
        if kind == 0:
            netns = 9999
        elif kind == 1:
            netlink = 9999
        wanted = [PortMapping("tcp", 80, 1000)] if kind == 2 else ports
        with pytest.raises(NodeError):
            await net.attach(sandbox(round_ + 2), netns, netlink, wanted)
    net._live.rules.sync = real_sync  # type: ignore[method-assign,union-attr]
    assert links() == before
    assert sh("nft", "list", "ruleset") == table
    pods = [await attach(net, 1000 + number) for number in range(12)]
    assert len({attachment.ips for _, attachment in pods}) == 12
    with pytest.raises(NodeError, match=r"10\.99\.0\.0/28") as error:
        await attach(net, 2000)
    assert error.value.code is Code.RESOURCE_EXHAUSTED
    await net.close()


@own_host
async def test_a_cancelled_attach_leaves_nothing(path: str) -> None:
    net = network(path)
    await net.start()
    before = links()
    add = net._live.links.add  # type: ignore[union-attr]
    entered, go_on = threading.Event(), threading.Event()

    def slow(pod: object) -> None:
        add(pod)  # type: ignore[arg-type]
        entered.set()
        go_on.wait(60)

    net._live.links.add = slow  # type: ignore[method-assign,union-attr]
    task = asyncio.create_task(attach(net, 1, PortMapping("tcp", 80, 8080)))
    await asyncio.to_thread(entered.wait, 60)
    assert links() > before
    task.cancel()
    await asyncio.sleep(0)
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert links() == before
    assert net.addresses(sandbox(1)) is None
    assert net._ports.all() == []
    await net.close()


@own_host
async def test_leases_and_host_ports_survive_a_restart(path: str) -> None:
    net = network(path)
    await net.start()
    pod, first = await attach(net, 1, PortMapping("tcp", 80, 8080))
    await net.close()
    sh("nft", "flush", "ruleset")
    net = network(path)
    await net.start()
    assert net.addresses(sandbox(1)) == first
    with pod.listen(80) as server:
        exchange(socket.socket(), server, ("127.0.0.1", 8080))
    _, second = await attach(net, 2)
    assert second.ips == ("10.85.0.3",)
    await net.collect({sandbox(2)})
    assert net.addresses(sandbox(1)) is None
    assert net._ports.all() == []
    with pytest.raises(NodeError, match="1 pods are still attached"):
        await net.teardown()
    await net.detach(sandbox(2))
    await net.detach(sandbox(2))
    await net.teardown()
    assert "mk-abc123" not in links()
    assert sh("nft", "list", "ruleset") == ""


@own_host
async def test_two_daemons_choose_different_subnets(path: str) -> None:
    sh("ip", "link", "add", "office", "type", "bridge")
    sh("ip", "link", "set", "office", "up")
    sh("ip", "route", "add", "10.85.2.0/24", "dev", "office")
    one, two = network(f"{path}/one"), network(f"{path}/two", instance="def456")
    await asyncio.gather(one.start(), two.start())
    assert one.status()[0] and two.status()[0]
    first, a = await attach(one, 1, PortMapping("tcp", 80, 8080))
    second, b = await attach(two, 2, PortMapping("tcp", 80, 8081))
    assert {a.gateway, b.gateway} == {"10.85.4.1", "10.85.8.1"}
    with first.listen(80) as server:
        exchange(second.socket(), server, (a.ips[0], 80))
        exchange(second.socket(), server, (b.gateway, 8080))
    await one.close()
    await two.close()


@own_host
async def test_the_pods_namespace_takes_the_link_with_it(path: str) -> None:
    net = network(path)
    await net.start()
    before = links()
    pod, _ = await attach(net, 1)
    assert links() > before
    await net.detach(sandbox(1))
    pod.close()
    for _ in range(300):
        if links() == before:
            break
        await asyncio.sleep(0.1)
    assert links() == before
    await net.close()


@own_host
async def test_an_occupied_name_is_told_and_tried_again(path: str) -> None:
    sh("ip", "link", "add", "mk-abc123", "type", "veth")
    net = network(path)
    await net.start()
    ready, reason, message = net.status()
    assert (ready, reason) == (False, "NetworkNotReady")
    assert "is no bridge" in message
    with pytest.raises(NodeError, match="is no bridge"):
        await attach(net, 1)
    sh("ip", "link", "del", "mk-abc123")
    assert (await attach(net, 1))[1].ips == ("10.85.0.2",)
    await net.close()


def _ask(client: socket.socket, server: socket.socket, port: int) -> bytes:
    client.sendto(b"who", ("198.51.100.1", port))
    question, source = server.recvfrom(100)
    assert question == b"who"
    server.sendto(b"me", source)
    return client.recv(100)


@own_host
async def test_udp_flows_follow_the_port_to_its_next_pod(path: str) -> None:
    net = network(path)
    await net.start()
    other = outside()
    client = other.socket(socket.SOCK_DGRAM)
    client.settimeout(30)
    assert not can_connect(other.socket(), ("198.51.100.1", 1), 5), "only to have the neighbour resolved"
    client.sendto(b"too early", ("198.51.100.1", 5353))
    for number in (1, 2):
        pod, _ = await attach(net, number, PortMapping("udp", 53, 5353))
        server = pod.socket(socket.SOCK_DGRAM)
        server.bind(("0.0.0.0", 53))
        server.settimeout(30)
        assert _ask(client, server, 5353) == b"me"
        await net.detach(sandbox(number))
    await net.close()


@own_host
async def test_sctp_host_ports_are_taken(path: str) -> None:
    net = network(path)
    await net.start()
    await attach(net, 1, PortMapping("SCTP", 5000, 5000, "127.0.0.1"))
    assert "127.0.0.1 . sctp . 5000 : 10.85.0.2 . 5000" in sh(
        "nft", "list", "map", "inet", "minikubelet_abc123", "ports_of_address"
    )
    await net.close()


@own_host
async def test_a_firewall_that_drops_forwarding_lets_pods_through(path: str) -> None:
    other = outside()
    other.run("ip", "route", "add", "10.85.0.0/22", "via", "198.51.100.1")
    sh("iptables", "-P", "FORWARD", "DROP")
    net = network(path)
    await net.start()
    pod, attachment = await attach(net, 1, PortMapping("tcp", 80, 8080))
    with other.listen(9000) as server:
        exchange(pod.socket(), server, ("198.51.100.2", 9000))
    with pod.listen(80) as server:
        exchange(other.socket(), server, ("198.51.100.1", 8080))
        exchange(socket.socket(), server, (attachment.ips[0], 80))
        assert not can_connect(other.socket(), (attachment.ips[0], 80)), "the host's policy no longer holds"
    assert sh("iptables", "-S", "FORWARD").count("mk-abc123") == 2
    await net.close()
    net = network(path)
    await net.start()
    assert sh("iptables", "-S", "FORWARD").count("mk-abc123") == 2
    await net.detach(sandbox(1))
    await net.teardown()
    assert sh("iptables", "-S", "FORWARD").split() == ["-P", "FORWARD", "DROP"]


@own_host
async def test_a_flushed_ruleset_comes_back(path: str) -> None:
    net = network(path)
    await net.start()
    pod, _ = await attach(net, 1, PortMapping("tcp", 80, 8080))
    sh("nft", "flush", "ruleset")
    for _ in range(300):
        if "minikubelet_abc123" in sh("nft", "list", "tables"):
            break
        await asyncio.sleep(0.1)
    with pod.listen(80) as server:
        exchange(socket.socket(), server, ("127.0.0.1", 8080))
    await net.close()


@own_host
async def test_a_removed_bridge_comes_back_with_its_pods(path: str) -> None:
    net = network(path)
    await net.start()
    one, first = await attach(net, 1)
    sh("ip", "link", "del", "mk-abc123")
    assert net.status()[:2] == (False, "BridgeMissing")
    two, _ = await attach(net, 2)
    assert net.status()[0]
    with one.listen(80) as server:
        exchange(two.socket(), server, (first.ips[0], 80))
        exchange(socket.socket(), server, (first.ips[0], 80))
    await net.close()
