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

With an IPv6 prefix there is the same for IPv6, in two maps of its own. ::1 is left out, since the kernel
takes no packet to or from it on another link than lo: a client that tries ::1 first is refused and goes on
to 127.0.0.1.
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
    prefix: str = ""
    """The pods' IPv6 network; empty: IPv4 only."""

    @property
    def table(self) -> str:
        """Family and name, as nft(8) wants them."""
        return f"inet minikubelet_{self.instance}"


@dataclass(frozen=True)
class HostPort:
    """One host port that leads to a pod.

    ``host_ip`` empty: every address of the host, 0.0.0.0: every IPv4 address.
    """

    protocol: str
    host_ip: str
    host_port: int
    address: str
    container_port: int
    address6: str = ""


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
    names = ("ports", "ports_of_address", *(("ports6", "ports6_of_address") if facts.prefix else ()))
    return "".join(f"flush map {facts.table} {name}\n" for name in names) + _elements(facts, ports)


def delete_table(facts: TableFacts) -> str:
    """Remove the table; adding it first makes that succeed when it is not there."""
    return f"add table {facts.table}\ndelete table {facts.table}\n"


def _elements(facts: TableFacts, ports: Iterable[HostPort]) -> str:
    maps: dict[str, list[str]] = {name: [] for name in ("ports", "ports_of_address")}
    if facts.prefix:
        maps |= {"ports6": [], "ports6_of_address": []}
    for port in ports:
        key = f"{port.protocol} . {port.host_port}"
        if ":" not in port.host_ip:
            _add(maps, "ports", port.host_ip, f"{key} : {port.address} . {port.container_port}")
        if facts.prefix and port.address6 and (not port.host_ip or ":" in port.host_ip):
            _add(maps, "ports6", port.host_ip, f"{key} : {port.address6} . {port.container_port}")
    return "".join(
        f"add element {facts.table} {name} {{ {', '.join(elements)} }}\n"
        for name, elements in maps.items()
        if elements
    )


def _add(maps: dict[str, list[str]], name: str, host_ip: str, element: str) -> None:
    if host_ip in ("", "0.0.0.0"):
        maps[name].append(element)
    else:
        maps[f"{name}_of_address"].append(f"{host_ip} . {element}")


@dataclass(frozen=True)
class _Six:
    """What the table has more with an IPv6 prefix: lines of each chain, ended by a newline; or nothing."""

    maps: str = ""
    guard: str = ""
    host_ports: str = ""
    postrouting: str = ""

    @staticmethod
    def of(facts: TableFacts) -> _Six:
        if not facts.prefix:
            return _Six()
        pods = facts.prefix
        return _Six(
            maps="""  map ports6 {
    type inet_proto . inet_service : ipv6_addr . inet_service
  }
  map ports6_of_address {
    type ipv6_addr . inet_proto . inet_service : ipv6_addr . inet_service
  }
""",
            guard=f"""    iifname "{facts.bridge}" icmpv6 type {{ nd-router-advert, nd-redirect }} drop
""",
            host_ports="""    ip6 daddr ::1 return
    dnat ip6 to ip6 daddr . meta l4proto . th dport map @ports6_of_address
    dnat ip6 to meta l4proto . th dport map @ports6
""",
            postrouting=f"""    ip6 saddr {pods} ip6 daddr {pods} ct status dnat masquerade
    ip6 saddr {pods} ip6 daddr != {{ {pods}, fe80::/10, ff00::/8 }} masquerade
""",
        )


def _table(facts: TableFacts) -> str:
    bridge, subnet = f'"{facts.bridge}"', facts.subnet
    six = _Six.of(facts)
    return f"""table {facts.table} {{
  map ports {{
    type inet_proto . inet_service : ipv4_addr . inet_service
  }}
  map ports_of_address {{
    type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service
  }}
{six.maps}  chain guard {{
    type filter hook prerouting priority raw; policy accept;
    iifname {bridge} ip daddr 127.0.0.0/8 drop
    iifname {bridge} ip saddr 127.0.0.0/8 drop
{six.guard}  }}
  chain host_ports {{
    dnat ip to ip daddr . meta l4proto . th dport map @ports_of_address
    dnat ip to meta l4proto . th dport map @ports
{six.host_ports}  }}
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
{six.postrouting}  }}
  chain forward {{
    type filter hook forward priority filter; policy accept;
    iifname {bridge} accept
    oifname {bridge} ct state established,related accept
    oifname {bridge} ct status dnat accept
  }}
}}
"""
