"""Images by command, against a daemon and a registry."""

from __future__ import annotations

import json
import os
import pty
from pathlib import Path

import pytest

from tests.host.cli.conftest import Cli, read_terminal
from tests.host.node import PROGRAM, Node
from tests.images import catalog
from tests.images.build import Layer, build_image
from tests.registry import Fault, Registry


@pytest.fixture
def cli(node: Node) -> Cli:
    return Cli(("--run", str(node.run), "--listen", node.config.listen))


def test_pull_list_save_remove_load(cli: Cli, registry: Registry, tmp_path: Path) -> None:
    reference = registry.add("layered:1", catalog.layered())
    done = cli.run("image", "pull", reference)
    assert done.returncode == 0, done.stderr
    image_id = done.stdout.decode().split()[-1]
    assert image_id.startswith("sha256:")
    assert b": Downloading" in done.stderr and b": Done" in done.stderr and b"\x1b" not in done.stderr
    name, _, tag = reference.rpartition(":")
    row = next(line.split() for line in cli("image", "ls").splitlines() if name in line)
    assert row[:3] == [name, tag, image_id.removeprefix("sha256:")[:13]]
    assert image_id in cli("images", "-q").split()
    assert any(image["id"] == image_id for image in json.loads(cli("image", "ls", "-o", "json"))["images"])
    for form in ("oci", "docker"):
        tar = tmp_path / f"{form}.tar"
        cli("image", "save", reference, "-o", str(tar), "--format", form)
        assert cli("image", "rm", reference) == f"removed {reference}\n"
        assert image_id not in cli("image", "ls", "-q")
        assert reference in cli("image", "load", str(tar))
        assert image_id in cli("image", "ls", "-q")
    piped = cli.run("image", "save", reference)
    assert cli.run("image", "load", stdin=piped.stdout).returncode == 0
    cli("image", "rm", reference)


def test_errors(cli: Cli, registry: Registry, tmp_path: Path) -> None:
    missing = f"{registry.address}/nowhere:1"
    done = cli.run("image", "pull", missing)
    assert done.returncode == 1
    assert len(done.stderr.decode().splitlines()) == 1 and b"404" in done.stderr, done.stderr
    done = cli.run("image", "rm", missing)
    assert (done.returncode, done.stderr.decode()) == (1, f"error: no such image: {missing}\n")
    done = cli.run("image", "save", missing, "-o", str(tmp_path / "x.tar"))
    assert done.returncode == 1 and os.listdir(tmp_path) == []
    assert cli.run("image", "load", stdin=b"not a tar").returncode == 1
    assert cli.run("image", "load", "-i", str(tmp_path / "nope")).returncode == 1


def test_bars_on_a_terminal(cli: Cli, registry: Registry) -> None:
    image = build_image([Layer().file("data", os.urandom(8 << 20))], {})
    reference = registry.add("slow:1", image)
    registry.fail(Fault("/v2/slow/blobs/*", times=None, bytes_per_second=8_000_000))
    pid, terminal = pty.fork()
    if pid == 0:
        os.environ["TERM"] = "xterm"
        os.execv(PROGRAM, [str(PROGRAM), *cli.options, "image", "pull", reference])
    shown = b""
    while data := read_terminal(terminal):
        shown += data
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0, shown
    assert b"Downloading  [" in shown and b"=>" in shown and b"\x1b[2K" in shown
    assert f"{reference} pulled sha256:" in shown.decode().splitlines()[-1]
    cli("image", "rm", reference)
