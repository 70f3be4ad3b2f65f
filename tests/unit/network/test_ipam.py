"""Leases, host ports and the choice of a subnet, without a kernel."""

from __future__ import annotations

import ipaddress
from pathlib import Path

import pytest

from minikubelet.base.database import Database
from minikubelet.base.errors import Code, NodeError
from minikubelet.network.bridge import HostView, choose_subnet
from minikubelet.network.ipam import MIGRATIONS, Leases, check_ipv6, parse_prefix, parse_subnet
from minikubelet.network.port_maps import PortMapping, PortTable, normalise
from minikubelet.network.rules import HostPort, TableFacts, delete_table, replace_ports, replace_table


@pytest.fixture
def db(tmp_path: Path) -> Database:
    database = Database(str(tmp_path / "state.db"))
    database.migrate("network", MIGRATIONS)
    return database


def leases(db: Database, subnet: str = "10.1.0.0/28") -> Leases:
    return Leases(db, parse_subnet(subnet))


def test_addresses_go_round_and_a_freed_one_waits(db: Database) -> None:
    pool = leases(db)
    assert (pool.gateway, pool.capacity) == ("10.1.0.1", 13)
    assert [pool.take(f"s{i}") for i in range(3)] == ["10.1.0.2", "10.1.0.3", "10.1.0.4"]
    assert pool.free("s0") and not pool.free("s0")
    assert pool.take("s3") == "10.1.0.5"
    assert pool.take("s3") == "10.1.0.5"
    for number in range(4, 13):
        pool.take(f"s{number}")
    assert pool.take("last") == "10.1.0.2"


def test_a_full_subnet_names_itself(db: Database) -> None:
    pool = leases(db)
    given = {pool.take(f"s{i}") for i in range(13)}
    assert len(given) == 13 and {"10.1.0.0", "10.1.0.1", "10.1.0.15"}.isdisjoint(given)
    with pytest.raises(NodeError, match=r"10\.1\.0\.0/28") as error:
        pool.take("one more")
    assert error.value.code is Code.RESOURCE_EXHAUSTED
    pool.free("s7")
    assert pool.take("one more") in given


def test_leases_and_the_round_survive_a_restart(db: Database) -> None:
    pool = leases(db)
    pool.take("a")
    pool.take("b")
    pool.free("b")
    again = leases(db)
    assert again.of("a") == "10.1.0.2" and again.of("b") is None
    assert again.take("c") == "10.1.0.4"
    assert set(again.holders()) == {"a", "c"}


def test_a_failed_write_loses_nothing(db: Database) -> None:
    pool = leases(db)
    db.execute("INSERT INTO network_leases VALUES (4, '10.1.0.2', 'written by somebody else')")
    with pytest.raises(Exception, match="UNIQUE"):
        pool.take("a")
    assert pool.of("a") is None
    assert leases(db).take("a") == "10.1.0.3"


@pytest.mark.parametrize("text", ["10.1.0.0/31", "10.1.0.1/24", "nonsense", "fd00::/64"])
def test_bad_subnets(text: str) -> None:
    with pytest.raises(NodeError) as error:
        parse_subnet(text)
    assert error.value.code is Code.INVALID_ARGUMENT
    assert error.value.field == "network.subnet"


def test_the_subnet_avoids_addresses_and_routes() -> None:
    view = HostView()
    assert str(choose_subnet(view, "10.85.0.0/16")) == "10.85.0.0/22"
    view.addresses.append((2, ipaddress.IPv4Interface("10.85.3.9/24")))
    view.routes.append((3, ipaddress.IPv4Network("10.85.4.0/23")))
    assert str(choose_subnet(view, "10.85.0.0/16")) == "10.85.8.0/22"
    assert str(choose_subnet(view, "10.85.0.0/16", but_link=2)) == "10.85.0.0/22"
    view.routes.append((4, ipaddress.IPv4Network("10.0.0.0/8")))
    with pytest.raises(NodeError, match=r"10\.85\.0\.0/16"):
        choose_subnet(view, "10.85.0.0/16")


def test_normalise() -> None:
    given = [PortMapping("TCP", 80, 0), PortMapping("SCTP", 1, 2, "::"), PortMapping("udp", 1, 2, "0.0.0.0")]
    assert normalise(given) == [PortMapping("sctp", 1, 2, ""), PortMapping("udp", 1, 2, "0.0.0.0")]
    assert normalise([PortMapping("tcp", 1, 2, "2001:DB8:0::1")])[0].host_ip == "2001:db8::1"


@pytest.mark.parametrize(
    ("one", "other", "clash"),
    [
        ("", "2001:db8::1", True),
        ("", "0.0.0.0", True),
        ("0.0.0.0", "1.2.3.4", True),
        ("0.0.0.0", "2001:db8::1", False),
        ("1.2.3.4", "2001:db8::1", False),
        ("2001:db8::1", "2001:0db8::1", True),
        ("::", "1.2.3.4", True),
    ],
)
def test_host_ports_clash_within_a_family(db: Database, one: str, other: str, clash: bool) -> None:
    table = PortTable(db)
    for number, (mine, theirs) in enumerate([(one, other), (other, one)]):
        table.claim("a", "10.1.0.2", normalise([PortMapping("tcp", 1, number + 1, mine)]), "fd00::2")
        try:
            table.claim("b", "10.1.0.3", normalise([PortMapping("tcp", 1, number + 1, theirs)]))
            free = True
        except NodeError as error:
            assert error.code is Code.FAILED_PRECONDITION
            free = False
        assert free is not clash
        table.release("a")
        table.release("b")


def test_addresses_of_both_families_have_the_same_number(db: Database) -> None:
    pool = Leases(db, parse_subnet("10.1.0.0/28"), parse_prefix("fd01::/64"))
    assert (pool.take("a"), pool.six_of("a")) == ("10.1.0.2", "fd01::2")
    again = Leases(db, parse_subnet("10.1.0.0/28"), parse_prefix("fd01::/64"))
    assert again.six_of("a") == "fd01::2"
    assert again.free("a") and again.six_of("a") == ""
    assert db.execute("SELECT count(*) FROM network_leases").fetchone()[0] == 0


@pytest.mark.parametrize(
    "text", ["10.0.0.0/8", "fd00::/120", "fe80::/64", "ff02::/64", "fd00::1/64", "on", "::/0"]
)
def test_bad_prefixes(text: str) -> None:
    with pytest.raises(NodeError) as error:
        check_ipv6(text)
    assert error.value.code is Code.INVALID_ARGUMENT and error.value.field == "network.ipv6"


@pytest.mark.parametrize(
    ("mapping", "field"),
    [
        (PortMapping("icmp", 1, 1), "protocol"),
        (PortMapping("tcp", 0, 1), "container_port"),
        (PortMapping("tcp", 1, 65536), "host_port"),
        (PortMapping("tcp", 1, 1, "host"), "host_ip"),
        (PortMapping("tcp", 1, 1, "1.2.3.4 } ; flush ruleset"), "host_ip"),
    ],
)
def test_bad_mappings_name_their_field(mapping: PortMapping, field: str) -> None:
    with pytest.raises(NodeError) as error:
        normalise([PortMapping("tcp", 5, 5), mapping])
    assert error.value.code is Code.INVALID_ARGUMENT
    assert error.value.field == f"config.port_mappings[1].{field}"


def test_one_port_twice_in_a_request() -> None:
    with pytest.raises(NodeError, match="twice"):
        normalise([PortMapping("tcp", 1, 80, "1.2.3.4"), PortMapping("tcp", 2, 80)])
    assert len(normalise([PortMapping("tcp", 1, 80, "1.2.3.4"), PortMapping("tcp", 2, 80, "1.2.3.5")])) == 2


def test_the_port_table(db: Database) -> None:
    table = PortTable(db)
    table.claim("a" * 64, "10.1.0.2", [PortMapping("tcp", 80, 8080), PortMapping("udp", 53, 53)])
    with pytest.raises(NodeError, match=r"host port tcp 1\.2\.3\.4:8080 is in use by pod sandbox a{13} \(10"):
        table.claim("b" * 64, "10.1.0.3", [PortMapping("tcp", 1, 1), PortMapping("tcp", 80, 8080, "1.2.3.4")])
    again = PortTable(db)
    assert again.holders() == ["a" * 64]
    assert sorted(port.host_port for port in again.all()) == [53, 8080]
    assert len(again.release("a" * 64)) == 2 and again.release("a" * 64) == []
    assert PortTable(db).all() == []


FACTS = TableFacts("abc123", "mk-abc123", "10.1.0.0/22")


def test_the_table_is_replaced_in_one_transaction() -> None:
    text = replace_table(FACTS, [HostPort("tcp", "", 8080, "10.1.0.2", 80)])
    assert text.startswith(
        "add table inet minikubelet_abc123\ndelete table inet minikubelet_abc123\ntable inet"
    )
    assert "add element inet minikubelet_abc123 ports { tcp . 8080 : 10.1.0.2 . 80 }\n" in text
    assert "ports_of_address {\n" in text and "element inet minikubelet_abc123 ports_of_address" not in text
    assert delete_table(FACTS) in text


def test_ports_are_flushed_and_set() -> None:
    ports = [
        HostPort("tcp", "", 80, "10.1.0.2", 8080),
        HostPort("udp", "1.2.3.4", 53, "10.1.0.3", 53),
        HostPort("sctp", "", 9, "10.1.0.4", 9),
    ]
    assert replace_ports(FACTS, ports).splitlines() == [
        "flush map inet minikubelet_abc123 ports",
        "flush map inet minikubelet_abc123 ports_of_address",
        "add element inet minikubelet_abc123 ports { tcp . 80 : 10.1.0.2 . 8080, sctp . 9 : 10.1.0.4 . 9 }",
        "add element inet minikubelet_abc123 ports_of_address { 1.2.3.4 . udp . 53 : 10.1.0.3 . 53 }",
    ]


def test_ipv6_ports_have_maps_of_their_own() -> None:
    facts = TableFacts("abc123", "mk-abc123", "10.1.0.0/22", "fd01::/64")
    ports = [
        HostPort("tcp", "", 80, "10.1.0.2", 8080, "fd01::2"),
        HostPort("tcp", "0.0.0.0", 81, "10.1.0.2", 81, "fd01::2"),
        HostPort("udp", "2001:db8::1", 53, "10.1.0.3", 53, "fd01::3"),
        HostPort("tcp", "", 82, "10.1.0.4", 82),
    ]
    name = "add element inet minikubelet_abc123"
    assert replace_ports(facts, ports).splitlines()[4:] == [
        f"{name} ports {{ tcp . 80 : 10.1.0.2 . 8080, tcp . 81 : 10.1.0.2 . 81, tcp . 82 : 10.1.0.4 . 82 }}",
        f"{name} ports6 {{ tcp . 80 : fd01::2 . 8080 }}",
        f"{name} ports6_of_address {{ 2001:db8::1 . udp . 53 : fd01::3 . 53 }}",
    ]
    assert "ip6" not in replace_table(FACTS, ports)
