"""Templates of netlink messages; nothing is sent."""

from __future__ import annotations

import ipaddress
import struct
import subprocess
import sys

import pytest

from minikubelet.network.links import (
    BridgeFacts,
    _veth_template,
    host_link_name,
    pod_mac,
)
from minikubelet.network.messages import ifinfmsg
from minikubelet.network.netlink import Slot, Template, _failure

BRIDGE = BridgeFacts("mk-abc123", 7, ipaddress.IPv4Network("10.1.0.0/22"), "10.1.0.1", 1400)


def test_a_template_refuses_ambiguous_markers_and_wrong_lengths() -> None:
    with pytest.raises(ValueError, match="2 times"):
        Template(b"abab", [Slot("x", b"ab")])
    template = Template(b"..ab..", [Slot("x", b"ab")])
    assert template.fill(x=b"cd") == b"..cd.."
    with pytest.raises(ValueError, match="takes 2 bytes"):
        template.fill(x=b"c")


def test_the_filled_veth_request_is_what_pyroute2_would_send() -> None:
    name = host_link_name("0123456789abcdef")
    filled = _veth_template(BRIDGE).fill(
        name=name.encode(), mac=pod_mac("10.1.0.2"), netns=struct.pack("=I", 42)
    )
    message = ifinfmsg(bytes(filled))
    message.decode()
    assert message.get_attr("IFLA_IFNAME") == "mk0123456789ab"
    assert message.get_attr("IFLA_MASTER") == 7
    info = message.get_attr("IFLA_LINKINFO")
    assert info.get_attr("IFLA_INFO_KIND") == "veth"
    peer = info.get_attr("IFLA_INFO_DATA").get_attr("VETH_INFO_PEER")
    assert peer.get_attr("IFLA_IFNAME") == "eth0"
    assert peer.get_attr("IFLA_ADDRESS") == "02:6d:0a:01:00:02"
    assert peer.get_attr("IFLA_NET_NS_FD") == 42
    assert peer.get_attr("IFLA_MTU") == 1400


def test_names_of_odd_identifiers_keep_their_length() -> None:
    assert len(host_link_name("x/..")) == 14
    assert host_link_name("x/..") != host_link_name("y/..")


def test_the_kernels_words_are_in_the_error() -> None:
    text = b"Something specific\0"
    original = struct.pack("=IHHII", 16, 16, 5, 1, 0)
    attribute = struct.pack("=HH", 4 + len(text), 1) + text
    body = struct.pack("=i", -22) + original + attribute
    message = struct.pack("=IHHII", 16 + len(body), 2, 0x200, 1, 0) + body
    failure = _failure(message, -22, 0x200)
    assert failure.errno == 22
    assert failure.strerror == "Invalid argument: Something specific"


def test_only_the_messages_of_pyroute2_are_loaded() -> None:
    script = """
import sys
from minikubelet.network import messages
assert not [name for name in sys.modules if name.startswith("pyroute2")]
import pyroute2
assert pyroute2.IPRoute and pyroute2.netlink.rtnl.ifinfmsg.ifinfmsg is not messages.ifinfmsg
sys.modules.pop("minikubelet.network.messages")
from minikubelet.network import messages as again
"""
    subprocess.run([sys.executable, "-c", script], check=True)
