"""Other programs' chains, removed tables and tracked flows: what is recognised, without a kernel."""

from __future__ import annotations

import struct
from typing import Any, cast

import pytest

from minikubelet.linux.nftables import Nftables, NftablesError
from minikubelet.network import conntrack, firewall
from minikubelet.network.rules import TableFacts, replace_table
from minikubelet.network.ruleset import _deletes_a_table

FACTS = TableFacts("abc123", "mk-abc123", "10.1.0.0/22")


def chain(**changes: str) -> dict[str, Any]:
    facts = {"family": "ip", "table": "filter", "name": "FORWARD", "type": "filter", "hook": "forward"}
    return {"chain": {**facts, "policy": "drop", **changes}}


class FakeNftables:
    def __init__(
        self, chains: list[dict[str, Any]], rules: list[dict[str, Any]], refuse: bool = False
    ) -> None:
        self.chains, self.rules, self.refuse = chains, rules, refuse
        self.ran: list[str] = []

    def list(self, what: str) -> list[dict[str, Any]]:
        return self.chains if what == "chains" else self.rules

    def run(self, commands: str) -> str:
        if self.refuse:
            raise NftablesError(1, "Operation not permitted")
        self.ran.append(commands)
        return ""


def dropping(fake: FakeNftables) -> list[firewall.Chain]:
    return firewall.dropping_chains(cast(Nftables, fake), FACTS)


def test_only_foreign_forward_chains_that_drop_matter() -> None:
    chains = [
        chain(),
        chain(policy="accept"),
        chain(hook="input"),
        chain(family="ip6"),
        chain(family="inet", table="minikubelet_abc123", name="forward"),
        chain(family="inet", table="minikubelet_def456", name="forward"),
        {"chain": {"family": "ip", "table": "filter", "name": "DOCKER"}},
        {"table": {"family": "ip", "name": "filter"}},
    ]
    found = [str(one) for one in dropping(FakeNftables(chains, []))]
    assert found == ["ip filter FORWARD", "inet minikubelet_def456 forward"]


def test_rules_are_put_in_once_and_taken_out() -> None:
    fake = FakeNftables([chain()], [])
    firewall.open_chains(cast(Nftables, fake), FACTS, dropping(fake))
    assert fake.ran[0].count("insert rule ip filter FORWARD") == 2
    assert fake.ran[0].count('comment "minikubelet_abc123"') == 2
    fake.rules = [
        {"rule": {"handle": 7, "comment": "minikubelet_abc123"}},
        {"rule": {"handle": 8, "comment": "somebody else's"}},
        {"rule": {"handle": 9}},
    ]
    firewall.open_chains(cast(Nftables, fake), FACTS, dropping(fake))
    firewall.close_chains(cast(Nftables, fake), FACTS)
    assert fake.ran[1:] == ["delete rule ip filter FORWARD handle 7"]


def test_a_chain_that_refuses_is_told(caplog: pytest.LogCaptureFixture) -> None:
    fake = FakeNftables([chain(family="inet", table="firewalld")], [], refuse=True)
    firewall.open_chains(cast(Nftables, fake), FACTS, dropping(fake))
    assert "inet firewalld FORWARD drops" in caplog.text
    assert "mk-abc123" in caplog.text


def test_the_closed_table_keeps_strangers_out() -> None:
    rule = 'add rule inet minikubelet_abc123 forward iifname != "mk-abc123" oifname "mk-abc123" drop\n'
    assert rule in replace_table(FACTS, [], closed=True)
    assert rule not in replace_table(FACTS, [])


def message(kind: int, length: int = 20) -> bytes:
    return struct.pack("=IHHII", length, kind, 0, 0, 0) + bytes(length - 16)


def test_a_removed_table_is_seen_among_other_events() -> None:
    new_table, delete_table, delete_rule = 0x0A00, 0x0A02, 0x0A08
    assert _deletes_a_table(message(new_table, 24) + message(delete_table))
    assert not _deletes_a_table(message(new_table) + message(delete_rule, 40))
    assert not _deletes_a_table(b"\0" * 64)


def attribute(kind: int, data: bytes) -> bytes:
    padded = data + bytes(-len(data) % 4)
    return struct.pack("=HH", len(data) + 4, kind) + padded


def flow(protocol: int, port: int) -> bytes:
    inner = (
        attribute(1, bytes([protocol])) + attribute(2, b"\x12\x34") + attribute(3, struct.pack(">H", port))
    )
    return attribute(1 | 0x8000, attribute(1, bytes(8))) + attribute(2 | 0x8000, inner)


def test_udp_flows_are_told_by_protocol_and_port() -> None:
    wanted = {struct.pack(">H", 53)}
    assert conntrack._is_udp_to(flow(17, 53), wanted)
    assert not conntrack._is_udp_to(flow(6, 53), wanted)
    assert not conntrack._is_udp_to(flow(17, 54), wanted)
    assert not conntrack._is_udp_to(b"", wanted)
    whole = bytes(20) + attribute(1 | 0x8000, flow(17, 53)) + attribute(7, bytes(4))
    assert conntrack._original(whole) == flow(17, 53)
