"""The text of our one nftables table. Pure: facts in, nft(8) commands out.

``inet minikubelet_<instance>`` holds two maps, which are all that changes while pods come and go, and
chains that never change:

* ``guard`` (raw): pods never reach the host's 127/8. ``route_localnet`` on the bridge, which lets
  ``127.0.0.1:hostPort`` reach a pod, would otherwise open it (CVE-2020-8558).
* ``prerouting``/``output`` (dstnat): host ports, for packets to any address of this host.
* ``postrouting`` (srcnat): masquerade of what leaves the pod subnet, of host-port connections between
  pods (the answer must come back through the host) and of 127.0.0.1 → pod.
* ``forward``: accepts what the bridge sends and what answers it. In nftables an accept here does not
  overrule a drop in another table's chain: see docs/networking.md for hosts with a firewall.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

PROTOCOLS = ("tcp", "udp", "sctp")


@dataclass(frozen=True)
class TableFacts:
    """What the table is made of."""

    instance: str
    bridge: str
    subnet: str

    @property
    def table(self) -> str:
        """Family and name, as nft(8) wants them."""
        return f"inet minikubelet_{self.instance}"


@dataclass(frozen=True)
class HostPort:
    """One host port that leads to a pod; ``host_ip`` empty: every address of the host."""

    protocol: str
    host_ip: str
    host_port: int
    address: str
    container_port: int


def replace_table(facts: TableFacts, ports: Iterable[HostPort], *, closed: bool = False) -> str:
    """Make the table anew with ``ports`` in it, in one transaction, whether or not it was there.

    With ``closed``, what comes from outside reaches a pod through host ports only.
    """
    text = _table(facts)
    if closed:
        text += f'add rule {facts.table} forward iifname != "{facts.bridge}" oifname "{facts.bridge}" drop\n'
    return f"add table {facts.table}\ndelete table {facts.table}\n{text}{_elements(facts, ports)}"


def replace_ports(facts: TableFacts, ports: Iterable[HostPort]) -> str:
    """Make the maps hold exactly ``ports``, in one transaction: no connection sees them empty."""
    flush = f"flush map {facts.table} ports\nflush map {facts.table} ports_of_address\n"
    return flush + _elements(facts, ports)


def delete_table(facts: TableFacts) -> str:
    """Remove the table; adding it first makes that succeed when it is not there."""
    return f"add table {facts.table}\ndelete table {facts.table}\n"


def _elements(facts: TableFacts, ports: Iterable[HostPort]) -> str:
    any_address, one_address = [], []
    for port in ports:
        target = f"{port.address} . {port.container_port}"
        if port.host_ip:
            one_address.append(f"{port.host_ip} . {port.protocol} . {port.host_port} : {target}")
        else:
            any_address.append(f"{port.protocol} . {port.host_port} : {target}")
    text = ""
    for name, elements in (("ports", any_address), ("ports_of_address", one_address)):
        if elements:
            text += f"add element {facts.table} {name} {{ {', '.join(elements)} }}\n"
    return text


def _table(facts: TableFacts) -> str:
    bridge, subnet = f'"{facts.bridge}"', facts.subnet
    return f"""table {facts.table} {{
  map ports {{
    type inet_proto . inet_service : ipv4_addr . inet_service
  }}
  map ports_of_address {{
    type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service
  }}
  chain guard {{
    type filter hook prerouting priority raw; policy accept;
    iifname {bridge} ip daddr 127.0.0.0/8 drop
    iifname {bridge} ip saddr 127.0.0.0/8 drop
  }}
  chain host_ports {{
    dnat ip to ip daddr . meta l4proto . th dport map @ports_of_address
    dnat ip to meta l4proto . th dport map @ports
  }}
  chain prerouting {{
    type nat hook prerouting priority dstnat; policy accept;
    fib daddr type local jump host_ports
  }}
  chain output {{
    type nat hook output priority -100; policy accept;
    fib daddr type local jump host_ports
  }}
  chain postrouting {{
    type nat hook postrouting priority srcnat; policy accept;
    oifname {bridge} ip saddr 127.0.0.0/8 masquerade
    ip saddr {subnet} ip daddr {subnet} ct status dnat masquerade
    ip saddr {subnet} ip daddr != {subnet} ip daddr != 224.0.0.0/4 masquerade
  }}
  chain forward {{
    type filter hook forward priority filter; policy accept;
    iifname {bridge} accept
    oifname {bridge} ct state established,related accept
    oifname {bridge} ct status dnat accept
  }}
}}
"""
