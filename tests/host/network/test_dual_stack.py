"""IPv6 beside IPv4 in the built-in network, against the real kernel, in namespaces of the tests' own."""

from __future__ import annotations

import asyncio
import ipaddress
import os
import socket
from pathlib import Path

import pytest

from minikubelet.base.errors import Code, NodeError, StepError
from minikubelet.network.pod_network import POD_SYSCTLS, Attachment, PodNetwork, PortMapping

from .isolated import Namespace, can_connect, exchange, network, own_host, sh

PREFIX = "2001:db8:7::/64"


def sandbox(number: int) -> str:
    return f"{number:064x}"[::-1]


async def attach(net: PodNetwork, number: int, *ports: PortMapping) -> tuple[Namespace, Attachment]:
    pod = Namespace()
    return pod, await net.attach(sandbox(number), pod.fd, pod.netlink.fileno(), ports)


def six(place: Namespace | None = None, kind: int = socket.SOCK_STREAM) -> socket.socket:
    if place is None:
        return socket.socket(socket.AF_INET6, kind)
    with place.entered():
        return socket.socket(socket.AF_INET6, kind)


def listen(place: Namespace | None, port: int) -> socket.socket:
    server = six(place)
    server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    server.bind(("::", port))
    server.listen()
    return server


def reach(client: socket.socket, server: socket.socket, address: str, port: int) -> str:
    """Talk both ways; whom the server saw."""
    client.settimeout(30)
    server.settimeout(30)
    with client:
        client.connect((address, port))
        peer, (source, *_) = server.accept()
        with peer:
            client.sendall(b"ping")
            assert peer.recv(4) == b"ping"
            peer.sendall(b"pong")
            assert client.recv(4) == b"pong"
    return str(source)


def outside() -> Namespace:
    """A machine beside the host, on 2001:db8:1::/64 and 198.51.100.0/24, that knows nothing of pods."""
    other = Namespace()
    sh("ip", "link", "add", "wan0", "type", "veth", "peer", "name", "eth0")
    sh("ip", "link", "set", "wan0", "up")
    sh("ip", "addr", "add", "198.51.100.1/24", "dev", "wan0")
    sh("ip", "addr", "add", "2001:db8:1::1/64", "dev", "wan0", "nodad")
    sh("ip", "link", "set", "eth0", "netns", f"/proc/{os.getpid()}/fd/{other.fd}")
    other.run("ip", "link", "set", "eth0", "up")
    other.run("ip", "addr", "add", "198.51.100.2/24", "dev", "eth0")
    other.run("ip", "addr", "add", "2001:db8:1::2/64", "dev", "eth0", "nodad")
    return other


def sysctl(name: str) -> str:
    return Path(f"/proc/sys/net/ipv6/conf/{name}").read_text().strip()


@own_host
async def test_a_pod_has_both_families_at_once(path: str) -> None:
    net = network(path, ipv6=PREFIX)
    await net.start()
    assert net.status() == (True, "", "")
    pod, attachment = await attach(net, 1)
    assert attachment == Attachment(("10.85.0.2", "2001:db8:7::2"), "10.85.0.1")
    assert net.addresses(sandbox(1)) == attachment
    shown = pod.run("ip", "-6", "addr", "show", "eth0")
    assert (
        "inet6 2001:db8:7::2/64 scope global nodad" in shown
        and "tentative" not in shown.split("inet6 fe80")[0]
    )
    assert "default via 2001:db8:7::1 dev eth0" in pod.run("ip", "-6", "route")
    assert "2001:db8:7::1/64" in sh("ip", "-6", "addr", "show", "mk-abc123")
    await net.close()


@own_host
async def test_pods_and_host_reach_each_other(path: str) -> None:
    net = network(path, ipv6=PREFIX)
    await net.start()
    one, first = await attach(net, 1)
    two, second = await attach(net, 2)
    with listen(one, 80) as server:
        assert reach(six(two), server, first.ips[1], 80) == second.ips[1]
        assert reach(six(), server, first.ips[1], 80) == "2001:db8:7::1"
    with one.listen(81) as server:
        assert exchange(two.socket(), server, (first.ips[0], 81)) == second.ips[0]
    with listen(None, 82) as server:
        assert reach(six(one), server, "2001:db8:7::1", 82) == first.ips[1]
    await net.close()


@own_host
async def test_masquerade_and_host_ports_from_outside(path: str) -> None:
    net = network(path, ipv6=PREFIX)
    await net.start()
    other = outside()
    ports = (PortMapping("tcp", 80, 8080), PortMapping("tcp", 81, 8081, "2001:db8:1::1"))
    pod, _ = await attach(net, 1, *ports, PortMapping("tcp", 82, 8082, "0.0.0.0"))
    with listen(other, 9000) as server:
        assert reach(six(pod), server, "2001:db8:1::2", 9000) == "2001:db8:1::1"
    with listen(pod, 80) as server:
        assert reach(six(other), server, "2001:db8:1::1", 8080) == "2001:db8:1::2"
    with pod.listen(80) as server:
        assert exchange(other.socket(), server, ("198.51.100.1", 8080)) == "198.51.100.2"
    with listen(pod, 81) as server, pod.listen(81) as other_family:
        del other_family
        assert reach(six(other), server, "2001:db8:1::1", 8081) == "2001:db8:1::2"
        assert not can_connect(other.socket(), ("198.51.100.1", 8081)), "asked for on an IPv6 address only"
    with listen(pod, 82), pod.listen(82) as server:
        assert exchange(other.socket(), server, ("198.51.100.1", 8082)) == "198.51.100.2"
        assert not can_connect(six(other), ("2001:db8:1::1", 8082)), "asked for on IPv4 only"
    await net.close()


@own_host
async def test_host_ports_from_host_pod_and_itself(path: str) -> None:
    net = network(path, ipv6=PREFIX)
    await net.start()
    pod, _ = await attach(net, 1, PortMapping("tcp", 80, 8080))
    neighbour, _ = await attach(net, 2)
    with listen(pod, 80) as server:
        for place in (None, neighbour, pod):
            reach(six(place), server, "2001:db8:7::1", 8080)
        with six() as client, pytest.raises(ConnectionRefusedError):
            client.connect(("::1", 8080))  # at once, so that "localhost" goes on to 127.0.0.1
        await net.detach(sandbox(1))
        assert not can_connect(six(neighbour), ("2001:db8:7::1", 8080))
    await net.close()


@own_host
async def test_udp_flows_are_forgotten(path: str) -> None:
    net = network(path, ipv6=PREFIX)
    await net.start()
    other = outside()
    with six(other, socket.SOCK_DGRAM) as client:
        client.settimeout(30)
        for number in (1, 2):
            pod, _ = await attach(net, number, PortMapping("udp", 53, 5353))
            with six(pod, socket.SOCK_DGRAM) as server:
                server.settimeout(30)
                server.bind(("::", 53))
                client.sendto(b"ping", ("2001:db8:1::1", 5353))
                _data, source = server.recvfrom(16)
                server.sendto(b"pong", source)
                assert client.recvfrom(16)[1][:2] == ("2001:db8:1::1", 5353)
            await net.detach(sandbox(number))
    await net.close()


@own_host
async def test_addresses_and_ports_survive_a_restart(path: str) -> None:
    net = network(path, ipv6="auto")
    await net.start()
    pod, attachment = await attach(net, 1, PortMapping("tcp", 80, 8080))
    prefix = ipaddress.IPv6Network(f"{attachment.ips[1]}/64", strict=False)
    assert prefix.subnet_of(ipaddress.IPv6Network("fd00::/8")) and attachment.ips[1] == str(prefix[2])
    await net.close()
    sh("nft", "flush", "ruleset")
    net = network(path, ipv6="auto")
    await net.start()
    assert net.addresses(sandbox(1)) == attachment
    with listen(pod, 80) as server:
        reach(six(), server, str(prefix[1]), 8080)
    _, second = await attach(net, 2)
    assert second.ips[1] == str(prefix[3])
    await net.collect([sandbox(2)])
    assert net.addresses(sandbox(1)) is None
    await net.close()
    for wish in ("off", PREFIX):
        net = network(path, ipv6=wish)
        await net.start()
        ready, _, why = net.status()
        assert not ready and f"1 pods have addresses of {prefix}" in why
        await net.close()


@own_host
async def test_pods_from_before_stay_ipv4_only(path: str) -> None:
    net = network(path)
    await net.start()
    await attach(net, 1, PortMapping("tcp", 80, 8080))
    await net.close()
    net = network(path, ipv6=PREFIX)
    await net.start()
    assert net.addresses(sandbox(1)) == Attachment(("10.85.0.2",), "10.85.0.1")
    _, second = await attach(net, 2)
    assert second.ips == ("10.85.0.3", "2001:db8:7::3")
    await net.close()


@own_host
async def test_forwarding_keeps_router_advertisements_of_the_hosts_links(path: str) -> None:
    sh("ip", "link", "add", "wan0", "type", "bridge")
    sh("ip", "link", "add", "wan1", "type", "bridge")
    Path("/proc/sys/net/ipv6/conf/wan0/accept_ra").write_text("1")
    Path("/proc/sys/net/ipv6/conf/wan1/accept_ra").write_text("0")
    Path("/proc/sys/net/ipv6/conf/all/forwarding").write_text("0")
    net = network(path)
    await net.start()
    assert sysctl("all/forwarding") == "0", "off leaves the host's IPv6 alone"
    await net.close()
    net = network(path, ipv6="auto")
    await net.start()
    assert sysctl("all/forwarding") == "1"
    assert (sysctl("wan0/accept_ra"), sysctl("wan1/accept_ra")) == ("2", "0")
    assert sysctl("mk-abc123/accept_ra") == "0"
    await net.close()


@own_host
async def test_a_prefix_of_the_host_and_a_host_without_ipv6(path: str) -> None:
    sh("ip", "link", "add", "wan0", "type", "bridge")
    sh("ip", "link", "set", "wan0", "up")
    sh("ip", "addr", "add", "2001:db8:7::9/64", "dev", "wan0", "nodad")
    net = network(path, ipv6=PREFIX)
    await net.start()
    assert "overlaps address 2001:db8:7::9/64" in net.status()[2]
    await net.close()
    Path("/proc/sys/net/ipv6/conf/all/disable_ipv6").write_text("1")
    net = network(path, ipv6=PREFIX)
    await net.start()
    assert "has no IPv6" in net.status()[2]
    await net.close()
    net = network(path, ipv6="auto")
    await net.start()
    _, attachment = await attach(net, 1)
    assert attachment.ips == ("10.85.0.2",)
    await net.close()


@own_host
async def test_host_addresses_that_lead_nowhere_are_refused(path: str) -> None:
    for wish, host_ip in (("off", "2001:db8:1::1"), ("auto", "::1")):
        net = network(path, ipv6=wish)
        await net.start()
        with pytest.raises(NodeError, match=host_ip) as error:
            await attach(net, 1, PortMapping("tcp", 80, 8080, host_ip))
        assert error.value.code is Code.UNIMPLEMENTED and net.addresses(sandbox(1)) is None
        await net.close()


@own_host
async def test_a_firewall_that_drops_ipv6_forwarding_lets_pods_through(path: str) -> None:
    other = outside()
    other.run("ip", "route", "add", PREFIX, "via", "2001:db8:1::1")
    sh("ip6tables", "-P", "FORWARD", "DROP")
    net = network(path, ipv6=PREFIX)
    await net.start()
    pod, attachment = await attach(net, 1, PortMapping("tcp", 80, 8080))
    with listen(other, 9000) as server:
        reach(six(pod), server, "2001:db8:1::2", 9000)
    with listen(pod, 80) as server:
        reach(six(other), server, "2001:db8:1::1", 8080)
        assert not can_connect(six(other), (attachment.ips[1], 80)), "the host's policy no longer holds"
    await net.detach(sandbox(1))
    await net.close()
    net = network(path)  # off by now: what was put there goes all the same
    await net.start()
    await net.teardown()
    assert sh("ip6tables", "-S", "FORWARD").split() == ["-P", "FORWARD", "DROP"]


@own_host
async def test_a_pod_that_switches_ipv6_off_is_refused(path: str) -> None:
    net = network(path, ipv6=PREFIX)
    await net.start()
    pod = Namespace()
    with pod.entered():
        Path("/proc/sys/net/ipv6/conf/default/disable_ipv6").write_text("1")
    with pytest.raises(StepError, match=r"configure eth0.*IPv6 is disabled"):
        await net.attach(sandbox(1), pod.fd, pod.netlink.fileno(), [PortMapping("tcp", 80, 8080)])
    assert net.addresses(sandbox(1)) is None
    assert "mk100000" not in sh("ip", "link")
    await net.close()


def advertise(place: Namespace) -> None:
    """Send a router advertisement with a prefix to every node of the pod's link (RFC 4861, section 4.2)."""
    header = bytes((134, 0, 0, 0, 64, 0)) + (1800).to_bytes(2, "big") + bytes(8)
    prefix = bytes((3, 4, 64, 0xC0)) + (3600).to_bytes(4, "big") * 2 + bytes(4)
    with place.entered():
        index = socket.if_nametoindex("eth0")
        sender = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
    with sender:
        sender.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
        sender.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, index)
        sender.sendto(header + prefix + socket.inet_pton(socket.AF_INET6, "2001:db8:bad::"), ("ff02::1", 0))


@own_host
async def test_a_pods_router_advertisements_are_ignored(path: str) -> None:
    net = network(path, ipv6=PREFIX)
    await net.start()
    pods = []
    for number in range(3):
        pod = Namespace()
        settings = {**POD_SYSCTLS, **({"net.ipv6.conf.default.accept_ra": "1"} if number == 2 else {})}
        with pod.entered():
            for name, value in settings.items():
                Path("/proc/sys", *name.split(".")).write_text(value)
        await net.attach(sandbox(number), pod.fd, pod.netlink.fileno(), ())
        pods.append(pod)
    rogue, pod, believer = pods
    sh("nft", "flush", "chain", "inet", "minikubelet_abc123", "guard")  # with br_netfilter it drops them, too
    for _ in range(100):
        advertise(rogue)
        if "2001:db8:bad:" in believer.run("ip", "-6", "addr"):
            break
        await asyncio.sleep(0.1)
    else:
        pytest.fail("nobody got the advertisement: the test proves nothing")
    for run in (pod.run, sh):
        assert "2001:db8:bad:" not in run("ip", "-6", "addr") + run("ip", "-6", "route")
        assert "proto ra" not in run("ip", "-6", "route")
    await net.close()
