"""What pods' resolv.conf say."""

from __future__ import annotations

from pathlib import Path

from minikubelet.kubelet.config import KubeletConfig
from minikubelet.kubelet.dns import omissions, pod_dns
from tests.unit.kubelet.plain import pod_of


def test_dns_policies(tmp_path: Path) -> None:
    conf = tmp_path / "resolv.conf"
    conf.write_text(
        "# c\nnameserver 192.0.2.1\nnameserver 192.0.2.2 ; x\n"
        "search a.example b.example.\noptions ndots:1 edns0\n"
    )
    config = KubeletConfig(resolv_conf=str(conf))
    host = pod_dns(pod_of({}), config)
    assert list(host.servers) == ["192.0.2.1", "192.0.2.2"] and list(host.searches) == [
        "a.example",
        "b.example",
    ]
    config.cluster_dns = ["10.96.0.10"]
    cluster = pod_dns(pod_of({}), config)
    assert list(cluster.servers) == ["10.96.0.10"] and list(cluster.options) == ["ndots:5"]
    assert list(cluster.searches)[:3] == ["ns.svc.cluster.local", "svc.cluster.local", "cluster.local"]
    assert pod_dns(pod_of({"hostNetwork": True}), config).servers == host.servers
    assert pod_dns(pod_of({"hostNetwork": True, "dnsPolicy": "ClusterFirstWithHostNet"}), config) == cluster
    extra = {
        "nameservers": ["192.0.2.9"],
        "searches": ["c.example"],
        "options": [{"name": "ndots", "value": "3"}],
    }
    own = pod_dns(pod_of({"dnsPolicy": "None", "dnsConfig": extra}), config)
    assert (list(own.servers), list(own.searches), list(own.options)) == (
        ["192.0.2.9"],
        ["c.example"],
        ["ndots:3"],
    )
    both = pod_dns(pod_of({"dnsPolicy": "Default", "dnsConfig": extra}), config)
    assert list(both.servers) == ["192.0.2.1", "192.0.2.2", "192.0.2.9"] and list(both.options) == [
        "edns0",
        "ndots:3",
    ]


def test_options_and_domains_of_resolvers(tmp_path: Path) -> None:
    conf = tmp_path / "resolv.conf"
    long = ".".join(["x" * 60] * 5)
    conf.write_text(f"search . a.example. {long}\noptions ndots:1 edns0\noptions ndots:2 rotate\n")
    config = KubeletConfig(resolv_conf=str(conf))
    made = pod_dns(pod_of({}), config)
    assert list(made.searches) == ["a.example"]
    assert list(made.options) == ["edns0", "ndots:2", "rotate"]
    assert len(omissions(pod_of({}), config)) == 1
    options = [{"name": "ndots", "value": "3"}, {"name": "edns0", "value": ""}, {"name": "ndots"}]
    own = pod_dns(pod_of({"dnsConfig": {"options": options}}), config)
    assert list(own.options) == ["rotate", "edns0", "ndots"]


def test_without_a_resolv_conf_pods_ask_the_machine_itself() -> None:
    config = KubeletConfig(resolv_conf="")
    made = pod_dns(pod_of({"dnsPolicy": "Default"}), config)
    assert (list(made.servers), list(made.searches)) == (["127.0.0.1"], ["."])
    config.cluster_dns = ["10.96.0.10"]
    assert list(pod_dns(pod_of({}), config).servers) == ["10.96.0.10"]


def test_what_resolvers_have_no_room_for_is_told(tmp_path: Path) -> None:
    config = KubeletConfig(resolv_conf=str(tmp_path / "none"))
    servers = [f"192.0.2.{number}" for number in range(1, 5)]
    searches = [f"{number}.{'x' * 60}.example" for number in range(33)]
    fits = {"dnsPolicy": "None", "dnsConfig": {"nameservers": servers[:3], "searches": searches[:5]}}
    assert omissions(pod_of(fits), config) == []
    pod = pod_of({"dnsPolicy": "None", "dnsConfig": {"nameservers": servers, "searches": searches}})
    search, nameserver = omissions(pod, config)
    assert search.endswith("the applied search line is: " + " ".join(pod_dns(pod, config).searches))
    assert nameserver.endswith("the applied nameserver line is: 192.0.2.1 192.0.2.2 192.0.2.3")
