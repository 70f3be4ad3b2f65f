"""Getting along with a host firewall that drops what is forwarded (Docker's, ufw's iptables policy).

In netfilter a drop in any chain is final, whatever our own table accepts. So each foreign base chain on the
forward hook whose *policy* is drop gets two rules of ours in front, marked by a comment, and our own forward
chain then drops what the host's policy would have dropped: new connections from outside to a pod that do
not go through a host port. The rules are plain interface matches, which iptables-nft can still list and save.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

from minikubelet.linux.nftables import Nftables, NftablesError
from minikubelet.network.rules import TableFacts

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Chain:
    """A chain of somebody else's."""

    family: str
    table: str
    name: str

    def __str__(self) -> str:
        return f"{self.family} {self.table} {self.name}"


def dropping_chains(nft: Nftables, facts: TableFacts) -> list[Chain]:
    """Foreign base chains of pods' families on the forward hook with policy drop. Raises NftablesError."""
    return _dropping(nft, facts, ("ip", "inet", "ip6") if facts.prefix else ("ip", "inet"))


def _dropping(nft: Nftables, facts: TableFacts, families: tuple[str, ...]) -> list[Chain]:
    found = []
    for entry in nft.list("chains"):
        chain = entry.get("chain", {})
        ours = f"{chain.get('family')} {chain.get('table')}" == facts.table
        drops = chain.get("hook") == "forward" and chain.get("policy") == "drop"
        if drops and not ours and chain.get("type") == "filter" and chain.get("family") in families:
            found.append(Chain(chain["family"], chain["table"], chain["name"]))
    return found


def open_chains(nft: Nftables, facts: TableFacts, chains: list[Chain]) -> None:
    """Put our rules in front of ``chains`` that don't have them; a chain that refuses is logged."""
    for chain in chains:
        try:
            if not _handles(nft, facts, chain):
                nft.run(_insert(facts, chain))
                log.info(
                    "host firewall: chain %s drops by default; bridge %s is let through", chain, facts.bridge
                )
        except NftablesError as exc:
            log.warning(
                "host firewall: chain %s drops what is forwarded and can't be changed (%s): "
                "allow forwarding from and to %s there",
                chain,
                exc.strerror,
                facts.bridge,
            )


def close_chains(nft: Nftables, facts: TableFacts) -> None:
    """Take our rules out of every foreign chain again; failures are logged."""
    try:
        for chain in _dropping(nft, facts, ("ip", "inet", "ip6")):  # whatever network.ipv6 was
            for handle in _handles(nft, facts, chain):
                nft.run(f"delete rule {chain} handle {handle}")
    except NftablesError as exc:
        log.warning("host firewall: rules of %s stay in other tables: %s", facts.table, exc.strerror)


def _comment(facts: TableFacts) -> str:
    return facts.table.split()[1]


def _insert(facts: TableFacts, chain: Chain) -> str:
    comment = f'comment "{_comment(facts)}"'
    return (
        f'insert rule {chain} oifname "{facts.bridge}" counter accept {comment}\n'
        f'insert rule {chain} iifname "{facts.bridge}" counter accept {comment}\n'
    )


def _handles(nft: Nftables, facts: TableFacts, chain: Chain) -> list[int]:
    rules: list[dict[str, Any]] = [entry["rule"] for entry in nft.list(f"chain {chain}") if "rule" in entry]
    return [int(rule["handle"]) for rule in rules if rule.get("comment") == _comment(facts)]
