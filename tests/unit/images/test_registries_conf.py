"""registries.conf: what it says, how its files add up, and what is wrong with it."""

from __future__ import annotations

from pathlib import Path

import pytest

from minikubelet.base.errors import Code, NodeError
from minikubelet.images import registries_conf
from minikubelet.images.endpoints import hosts_for
from minikubelet.images.reference import parse_reference
from minikubelet.images.registries_conf import RegistriesConf, parse

PATH = "/etc/containers/registries.conf"
DIGEST = "sha256:" + "0" * 64


def urls(conf: RegistriesConf, reference: str, certs: Path | None = None) -> list[str]:
    """Server and repository for each host, in order."""
    parsed = parse_reference(reference)
    hosts = hosts_for(parsed, [str(certs)] if certs else [], conf)
    return [f"{host.base}/{host.repository or parsed.path}" for host in hosts]


def test_a_location_stands_for_a_prefix() -> None:
    conf = parse(
        """
        [[registry]]
        prefix = "example.com/foo"
        location = "internal.example:5000/bar"
        [[registry]]
        prefix = "example.com/foo/special"
        location = "other.example"
        """,
        PATH,
    )
    assert urls(conf, "example.com/foo/app:1") == ["https://internal.example:5000/v2/bar/app"]
    assert urls(conf, "example.com/foo:1") == ["https://internal.example:5000/v2/bar"]
    assert urls(conf, "example.com/foo/special/app") == ["https://other.example/v2/app"]
    for other in ("example.com/foobar/app", "example.com/app", "sub.example.com/foo/app"):
        domain, _, path = other.partition("/")
        assert urls(conf, other) == [f"https://{domain}/v2/{path}"]


def test_mirrors_come_before_the_location() -> None:
    conf = parse(
        """
        [[registry]]
        location = "docker.io"
        [[registry.mirror]]
        location = "m1.example/hub"
        [[registry.mirror]]
        location = "m2.example"
        pull-from-mirror = "digest-only"
        [[registry.mirror]]
        location = "m3.example"
        pull-from-mirror = "tag-only"
        """,
        PATH,
    )
    hub = "https://registry-1.docker.io/v2/library/busybox"
    first = "https://m1.example/v2/hub/library/busybox"
    assert urls(conf, "busybox:1") == [first, "https://m3.example/v2/library/busybox", hub]
    assert urls(conf, f"busybox@{DIGEST}") == [first, "https://m2.example/v2/library/busybox", hub]


def test_mirrors_by_digest_only() -> None:
    conf = parse(
        '[[registry]]\nlocation = "a.example"\nmirror-by-digest-only = true\n'
        '[[registry.mirror]]\nlocation = "m.example"',
        PATH,
    )
    assert urls(conf, "a.example/x:1") == ["https://a.example/v2/x"]
    assert urls(conf, f"a.example/x@{DIGEST}") == ["https://m.example/v2/x", "https://a.example/v2/x"]


def test_only_the_registry_itself_is_its_own() -> None:
    conf = parse(
        '[[registry]]\nlocation = "a.example"\n[[registry.mirror]]\nlocation = "m.example"\n'
        '[[registry]]\nprefix = "b.example"\nlocation = "c.example"',
        PATH,
    )
    own = [host.own for host in hosts_for(parse_reference("a.example/x"), [], conf)]
    assert own == [False, True]
    assert [host.own for host in hosts_for(parse_reference("b.example/x"), [], conf)] == [False]


def test_insecure_means_any_certificate_or_none() -> None:
    conf = parse('[[registry]]\nlocation = "a.example:5000"\ninsecure = true', PATH)
    hosts = hosts_for(parse_reference("a.example:5000/x"), [], conf)
    assert [(host.scheme, host.tls.skip_verify) for host in hosts] == [("https", True), ("http", False)]
    conf = parse('[[registry]]\nlocation = "127.0.0.1:5000"\ninsecure = true', PATH)
    schemes = [host.scheme for host in hosts_for(parse_reference("127.0.0.1:5000/x"), [], conf)]
    assert schemes == ["http", "https"]


def test_wildcards() -> None:
    conf = parse(
        '[[registry]]\nprefix = "*.example.com"\nlocation = "cache.test/all"\n'
        '[[registry]]\nprefix = "own.example.com"\nlocation = "own.test"\n'
        '[[registry]]\nprefix = "*.blocked.test"\nblocked = true',
        PATH,
    )
    assert urls(conf, "a.b.example.com/x/y") == ["https://cache.test/v2/all/x/y"]
    assert urls(conf, "own.example.com/x") == ["https://own.test/v2/x"]
    assert urls(conf, "example.com/x") == ["https://example.com/v2/x"]
    with pytest.raises(NodeError, match="blocked"):
        urls(conf, "a.blocked.test/x")


def test_what_is_blocked_says_where() -> None:
    conf = parse(
        '[[registry]]\nlocation = "x.example"\n[[registry]]\nlocation = "docker.io/evil"\nblocked = true',
        PATH,
    )
    with pytest.raises(NodeError) as caught:
        urls(conf, "evil/app")
    assert caught.value.code is Code.PERMISSION_DENIED
    assert f"{PATH}: registry[1].blocked" in caught.value.message and "docker.io/evil" in caught.value.message
    assert urls(conf, "good/app") == ["https://registry-1.docker.io/v2/good/app"]


def test_hosts_toml_of_the_registry_wins_but_for_blocks(tmp_path: Path) -> None:
    text = '[[registry]]\nprefix = "a.example"\nlocation = "b.example"\n'
    for name, mirror in (("_default", "default.example"), ("a.example", "toml.example")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "hosts.toml").write_text(f'server = "https://{mirror}"')
    assert urls(parse(text, PATH), "a.example/x", tmp_path) == ["https://toml.example/v2/x"]
    assert urls(parse(text, PATH), "c.example/x", tmp_path) == ["https://default.example/v2/x"]
    with pytest.raises(NodeError, match="blocked"):
        urls(parse(f"{text}blocked = true", PATH), "a.example/x", tmp_path)
    (tmp_path / "a.example" / "hosts.toml").unlink()
    assert urls(parse(text, PATH), "a.example/x", tmp_path) == ["https://b.example/v2/x"]


def test_certificates_are_those_of_the_server(tmp_path: Path) -> None:
    (tmp_path / "b.example").mkdir()
    (tmp_path / "b.example" / "ca.crt").write_text("PEM")
    conf = parse('[[registry]]\nprefix = "a.example"\nlocation = "b.example"', PATH)
    (host,) = hosts_for(parse_reference("a.example/x"), [str(tmp_path)], conf)
    assert host.tls.ca == (str(tmp_path / "b.example" / "ca.crt"),)


def test_short_names() -> None:
    conf = parse(
        'unqualified-search-registries = ["quay.io", "docker.io"]\nshort-name-mode = "enforcing"\n'
        '[aliases]\n"fedora" = "registry.example/fedora"\n"team/tool" = "registry.example/tool"',
        PATH,
    )
    assert conf.candidates("busybox:1") == ["quay.io/busybox:1", "docker.io/busybox:1"]
    assert conf.candidates("fedora:40") == ["registry.example/fedora:40"]
    assert conf.candidates(f"team/tool@{DIGEST}") == [f"registry.example/tool@{DIGEST}"]
    assert conf.candidates("localhost/x") == ["localhost/x"]
    assert RegistriesConf().candidates("busybox") == ["busybox"]


def test_files_add_up(tmp_path: Path) -> None:
    main = tmp_path / "registries.conf"
    assert registries_conf.load(str(main)) == RegistriesConf()
    main.write_text(
        'unqualified-search-registries = ["a.example"]\n[aliases]\nx = "a.example/x"\ny = "a.example/y"\n'
        '[[registry]]\nlocation = "r.example"\nblocked = true\n[[registry]]\nlocation = "s.example"'
    )
    folder = tmp_path / "registries.conf.d"
    folder.mkdir()
    (folder / "10.conf").write_text('unqualified-search-registries = ["b.example"]\n[aliases]\nx = ""')
    (folder / "20.conf").write_text('[[registry]]\nlocation = "r.example"')
    (folder / "ignored.txt").write_text("nonsense")
    conf = registries_conf.load(str(main))
    assert conf.candidates("x") == ["b.example/x"] and conf.candidates("y") == ["a.example/y"]
    assert [(entry.prefix, entry.blocked) for entry in conf.registries] == [
        ("r.example", False), ("s.example", False),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[[registry]", "line 1"),
        ("[registries.search]\nregistries = []", "registries: this is version 1"),
        ("bloked = true", "bloked: unknown key"),
        ('unqualified-search-registries = "a.example"', "unqualified-search-registries: must be a list"),
        ('unqualified-search-registries = ["a.example/x"]', "unqualified-search-registries: 'a.example/x'"),
        ('credential-helpers = ["secretservice"]', "credential-helpers: "),
        ('[aliases]\nx = "busybox"', "aliases.'x': "),
        ("[[registry]]\nblocked = true", "registry[0]: has neither"),
        ('[[registry]]\nlocation = "https://a.example"', "registry[0].prefix: 'https://a.example'"),
        ('[[registry]]\nprefix = "a.*.example"', "registry[0].prefix: 'a.*.example': a wildcard"),
        ('[[registry]]\nprefix = "*.a.example/x"', "registry[0].prefix: '*.a.example/x': a wildcard"),
        ('[[registry]]\nprefix = "a.example/x:tag"', "registry[0].prefix: "),
        ('[[registry]]\nlocation = "a.example"\nblokked = true', "registry[0]: blokked: unknown key"),
        ('[[registry]]\nlocation = "a.example"\nblocked = "yes"', "registry[0]: blocked: must be a bool"),
        ('[[registry]]\nlocation = "a.example"\n[[registry.mirror]]', "registry[0].mirror[0].location: ''"),
        (
            '[[registry]]\nlocation = "a"\n[[registry.mirror]]\nlocation = "b"\npull-from-mirror = "x"',
            "registry[0].mirror[0]: pull-from-mirror: 'x' is not one of",
        ),
        (
            '[[registry]]\nlocation = "a.example"\nmirror-by-digest-only = true\n'
            '[[registry.mirror]]\nlocation = "b"\npull-from-mirror = "all"',
            "exclude each other",
        ),
    ],
)
def test_mistakes_are_named(text: str, said: str) -> None:
    with pytest.raises(NodeError) as caught:
        parse(text, PATH)
    assert caught.value.code is Code.FAILED_PRECONDITION
    assert caught.value.message.startswith(f"{PATH}: ") and said in caught.value.message


def test_a_location_without_a_repository_is_named() -> None:
    conf = parse('[[registry]]\nprefix = "a.example/x"\nlocation = "b.example"', PATH)
    with pytest.raises(NodeError, match=r"registry\[0\]: location 'b.example' has no repository"):
        urls(conf, "a.example/x:1")
