"""hosts.toml in containerd's format."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from minikubelet.base.errors import Code, NodeError
from minikubelet.images.hosts import Host, load_hosts, parse_hosts, registry_host


def hosts(text: str, domain: str = "docker.io") -> list[Host]:
    return parse_hosts(text, domain, "/certs/docker.io/hosts.toml")


def test_defaults() -> None:
    assert registry_host("docker.io").base == "https://registry-1.docker.io/v2"
    assert registry_host("quay.io").base == "https://quay.io/v2"
    for local in ("localhost:5000", "127.0.0.1:5000", "localhost", "[::1]:5000"):
        assert registry_host(local).scheme == "http"
    for remote in ("127.evil.test", "localhost.evil.test"):
        assert registry_host(remote).scheme == "https"


def test_mirrors_come_in_the_order_of_the_file_and_the_server_last() -> None:
    found = hosts(
        """
        server = "https://registry-1.docker.io"
        [host."https://z.example"]
        capabilities = ["pull"]
        [host."http://a.example:5000/prefix"]
        [host."https://m.example/v2/proxy"]
        override_path = true
        """
    )
    assert [host.base for host in found] == [
        "https://z.example/v2",
        "http://a.example:5000/prefix/v2",
        "https://m.example/v2/proxy",
        "https://registry-1.docker.io/v2",
    ]
    assert [host.own for host in found] == [False, False, False, True]
    assert [host.namespace for host in found] == ["docker.io", "docker.io", "docker.io", ""]
    assert found[0].capabilities == {"pull"}
    assert found[1].capabilities == {"pull", "resolve"}


def test_without_server_the_registry_itself_is_last() -> None:
    found = hosts('[host."https://mirror.example"]')
    assert [host.authority for host in found] == ["mirror.example", "registry-1.docker.io"]


def test_tls_settings_and_headers() -> None:
    host = hosts(
        """
        server = "https://r.example"
        ca = "ca.pem"
        client = [["c.cert", "c.key"], ["both.pem", ""]]
        skip_verify = true
        [header]
        X-One = "1"
        X-Two = ["2", "3"]
        """
    )[0]
    assert host.tls.ca == ("/certs/docker.io/ca.pem",)
    assert host.tls.client == (
        ("/certs/docker.io/c.cert", "/certs/docker.io/c.key"),
        ("/certs/docker.io/both.pem", ""),
    )
    assert host.tls.skip_verify
    assert host.headers == {"X-One": ("1",), "X-Two": ("2", "3")}


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("server = 3", "server must be a str"),
        ("[host]\nx = 1", "must be a table"),
        ("host = 1", "must be a table"),
        ('[host."ftp://x"]', "http"),
        ('[host."https://u:p@x"]', "http"),
        ('[host."https://x"]\nskip_verify = "yes"', "skip_verify"),
        ('[host."https://x"]\nca = 1', "ca must be"),
        ('[host."https://x"]\nclient = [1]', "client must be"),
        ('[host."https://x".header]\n"X" = "a\\nb"', "line break"),
        ("server = ", "Invalid"),
        ("a = " + "[" * 5000, ""),
    ],
)
def test_mistakes_are_errors_with_the_file(text: str, part: str) -> None:
    with pytest.raises(NodeError) as caught:
        hosts(text)
    assert caught.value.code is Code.FAILED_PRECONDITION
    assert "/certs/docker.io/hosts.toml" in caught.value.message
    assert part in caught.value.message


def write(folder: Path, server: str) -> None:
    folder.mkdir(parents=True)
    (folder / "hosts.toml").write_text(f'server = "https://{server}"')


def test_folders_in_their_order(tmp_path: Path) -> None:
    first, second = tmp_path / "1", tmp_path / "2"
    first.mkdir()
    dirs = [str(first), str(second), str(tmp_path / "missing")]
    assert load_hosts("r.example:5000", dirs) == [Host("https", "r.example:5000")]
    write(second / "_default", "default2")
    assert load_hosts("r.example:5000", dirs)[0].authority == "default2"
    write(first / "_default", "default1")
    assert load_hosts("r.example:5000", dirs)[0].authority == "default1"
    write(second / "r.example:5000", "exact2")
    assert load_hosts("r.example:5000", dirs)[0].authority == "exact2"
    write(first / "r.example_5000_", "exact1")
    assert load_hosts("r.example:5000", dirs)[0].authority == "exact1"


def test_docker_style_certificates(tmp_path: Path) -> None:
    folder = tmp_path / "localhost:5000"
    folder.mkdir()
    for name in ("ca.crt", "client.cert", "client.key", "lonely.cert"):
        (folder / name).write_text("")
    host = load_hosts("localhost:5000", [str(tmp_path)])[0]
    assert host.scheme == "https"
    assert host.tls.ca == (f"{folder}/ca.crt",)
    assert host.tls.client == ((f"{folder}/client.cert", f"{folder}/client.key"),)


@pytest.mark.parametrize("kind", ["fifo", "directory", "device", "huge", "binary"])
def test_files_that_are_no_files(tmp_path: Path, kind: str) -> None:
    folder = tmp_path / "r.example"
    folder.mkdir()
    path = folder / "hosts.toml"
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "directory":
        path.mkdir()
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "huge":
        path.write_bytes(b"#" * (1 << 21))
    else:
        path.write_bytes(b"\xff\xfe")
    with pytest.raises(NodeError, match=r"hosts\.toml"):
        load_hosts("r.example", [str(tmp_path)])
