"""resolv.conf of a pod by its dnsPolicy and dnsConfig (pkg/kubelet/network/dns)."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field

from minikubelet.criapi import api_pb2 as api
from minikubelet.kubelet.config import KubeletConfig
from minikubelet.kubelet.objects import Pod

MAX_NAMESERVERS = 3
MAX_SEARCHES = 32
MAX_SEARCH_CHARS = 2048
MAX_SEARCH = 253
_OWN = "127.0.0.1"
_SYSTEMD_RESOLVED = "/run/systemd/resolve/resolv.conf"
_MAX_BYTES = 1 << 20


@dataclass
class Resolver:
    """What a resolv.conf says."""

    servers: list[str] = field(default_factory=list)
    searches: list[str] = field(default_factory=list)
    options: list[str] = field(default_factory=list)


def read_resolv_conf(path: str) -> Resolver:
    """Parse a resolv.conf(5); a missing file is an empty one. Raises OSError for others."""
    found = Resolver()
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            text = file.read(_MAX_BYTES)
    except FileNotFoundError:
        return found
    for line in text.splitlines():
        words = line.split("#", 1)[0].split(";", 1)[0].split()
        match words:
            case ["nameserver", server, *_]:
                found.servers.append(server)
            case ["search", *domains]:
                found.searches = [domain.removesuffix(".") for domain in domains if domain != "."]
            case ["options", *options]:
                found.options = _merged(found.options, options)
    return found


def host_resolver(path: str) -> Resolver:
    """The node's resolver; systemd-resolved's upstream servers where the stub on loopback is of no use."""
    found = read_resolv_conf(path)
    if found.servers and all(_is_loopback(server) for server in found.servers):
        behind = read_resolv_conf(_SYSTEMD_RESOLVED)
        if behind.servers:
            return behind
    return found


def _is_loopback(server: str) -> bool:
    try:
        return ipaddress.ip_address(server.partition("%")[0]).is_loopback
    except ValueError:
        return False


def pod_dns(pod: Pod, config: KubeletConfig) -> api.DNSConfig:
    """The DNS configuration of a sandbox, within the limits of resolvers. Raises OSError."""
    resolver = _resolver(pod, config)
    return api.DNSConfig(
        servers=resolver.servers[:MAX_NAMESERVERS],
        searches=_fit(resolver.searches),
        options=resolver.options,
    )


def omissions(pod: Pod, config: KubeletConfig) -> list[str]:
    """What :func:`pod_dns` left out, told as upstream's events do. Raises OSError."""
    resolver, applied = _resolver(pod, config), pod_dns(pod, config)
    told = []
    if len(applied.searches) < len(resolver.searches):
        line = " ".join(applied.searches)
        told.append(
            "Search Line limits were exceeded, some search paths have been omitted, "
            f"the applied search line is: {line}"
        )
    if len(applied.servers) < len(resolver.servers):
        line = " ".join(applied.servers)
        told.append(
            "Nameserver limits were exceeded, some nameservers have been omitted, "
            f"the applied nameserver line is: {line}"
        )
    return told


def _resolver(pod: Pod, config: KubeletConfig) -> Resolver:
    """All that is asked for. ClusterFirst without a cluster's DNS is the node's."""
    policy = pod.spec.dns_policy
    cluster = policy == "ClusterFirstWithHostNet" or (policy == "ClusterFirst" and not pod.spec.host_network)
    if policy == "None":
        resolver = Resolver()
    elif cluster and config.cluster_dns:
        resolver = _cluster(pod, config)
    elif not config.resolv_conf:
        # As resolvers do it without a server named: the machine's own, and no domain but the root.
        resolver = Resolver([_OWN], ["."])
    else:
        resolver = host_resolver(config.resolv_conf)
    if pod.spec.dns_config is not None:
        extra = pod.spec.dns_config
        resolver.servers = _unique([*resolver.servers, *extra.nameservers])
        resolver.searches = _unique([*resolver.searches, *extra.searches])
        given = [f"{o.name}:{o.value}" if o.value else o.name for o in extra.options]
        resolver.options = _merged(resolver.options, given)
    return resolver


def _merged(options: list[str], more: list[str]) -> list[str]:
    """Options without those that later ones set again."""
    named: dict[str, str] = {}
    for option in [*options, *more]:
        name = option.partition(":")[0]
        named.pop(name, None)
        named[name] = option
    return list(named.values())


def _cluster(pod: Pod, config: KubeletConfig) -> Resolver:
    domain = config.cluster_domain
    host = host_resolver(config.resolv_conf)
    ours = [f"{pod.metadata.namespace}.svc.{domain}", f"svc.{domain}", domain] if domain else []
    return Resolver(list(config.cluster_dns), _unique([*ours, *host.searches]), ["ndots:5"])


def _unique(items: list[str]) -> list[str]:
    return list(dict.fromkeys(items))


def _fit(searches: list[str]) -> list[str]:
    # Some resolvers abort the program over a domain that is too long.
    kept = [search for search in searches[:MAX_SEARCHES] if len(search) <= MAX_SEARCH]
    while len(" ".join(kept)) > MAX_SEARCH_CHARS:
        kept.pop()
    return kept
