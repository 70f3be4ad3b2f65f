"""The images that tests and benchmarks use."""

from __future__ import annotations

import random
import struct
import subprocess
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

from tests.images.build import COMPRESSORS, OCI_GZIP, Format, Image, Layer, assemble, build_image
from tests.images.layout import read_layout, write_layout

PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
PASSWD = """root:x:0:0:root:/root:/bin/sh
daemon:x:1:1:daemon:/usr/sbin:/bin/false
web:x:1000:1000:web:/srv:/bin/sh
nobody:x:65534:65534:nobody:/:/bin/false
"""
GROUP = """root:x:0:
daemon:x:1:
web:x:1000:
audio:x:29:web
video:x:44:daemon,web
nogroup:x:65534:
"""


class MissingTool(Exception):
    """Something that images are made from isn't installed; the message says what to install."""


def busybox_binary() -> Path:
    """A statically linked busybox. Raises MissingTool."""
    for path in map(Path, ("/bin/busybox", "/usr/bin/busybox", "/sbin/busybox")):
        if path.exists() and is_static(path):
            return path
    raise MissingTool("no statically linked busybox: install busybox-static (Debian, Ubuntu)")


def is_static(path: Path) -> bool:
    """Whether an ELF64 file asks for no dynamic loader (has no PT_INTERP; see elf(5))."""
    data = path.read_bytes()
    if data[:5] != b"\x7fELF\x02":
        return False
    (table,) = struct.unpack_from("<Q", data, 32)
    entry_size, count = struct.unpack_from("<HH", data, 54)
    types = (struct.unpack_from("<I", data, table + index * entry_size)[0] for index in range(count))
    pt_interp = 3
    return pt_interp not in types


def base_layer() -> Layer:
    """A root filesystem of busybox, its applets as symlinks, and a few users."""
    binary = busybox_binary()
    layer = Layer()
    for path in (
        "bin",
        "dev",
        "etc",
        "home",
        "lib",
        "proc",
        "run",
        "sbin",
        "sys",
        "usr",
        "usr/bin",
        "usr/sbin",
        "var",
    ):
        layer.directory(path)
    layer.directory("root", 0o700).directory("tmp", 0o1777).directory("srv", owner=1000)
    layer.file("etc/passwd", PASSWD.encode()).file("etc/group", GROUP.encode())
    layer.file("bin/busybox", binary.read_bytes(), 0o755)
    for applet in subprocess.check_output([binary, "--list"], text=True).split():
        if applet != "busybox":
            layer.symlink(f"bin/{applet}", "busybox")
    return layer


@cache
def busybox(form: Format = OCI_GZIP) -> Image:
    """A shell and its tools; runs `sh`."""
    return build_image([base_layer()], {"Env": [PATH], "Cmd": ["sh"]}, form)


@cache
def configured() -> Image:
    """An image whose config sets everything that a container inherits; its program prints what it got."""
    script = (
        b'#!/bin/sh\necho "uid=$(id -u) gid=$(id -g) groups=$(id -G) pwd=$PWD greeting=$GREETING args=$*"\n'
    )
    layer = base_layer().directory("app", owner=1000).file("app/show", script, 0o755)
    config = {
        "User": "web:web",
        "WorkingDir": "/app",
        "Env": [PATH, "GREETING=hello", "EMPTY="],
        "Entrypoint": ["/app/show"],
        "Cmd": ["from", "image"],
        "ExposedPorts": {"8080/tcp": {}},
        "Volumes": {"/srv": {}},
        "Labels": {"org.example.kind": "configured"},
        "StopSignal": "SIGUSR1",
    }
    return build_image([layer], config)


# security.capability, revision 2: cap_net_bind_service, permitted and effective (capabilities(7)).
NET_BIND = struct.pack("<IIIII", 0x02000001, 1 << 10, 0, 0, 0).decode("ascii")


@cache
def layered(form: Format = OCI_GZIP) -> Image:
    """Layers that delete, hide, replace, link and label; LAYERED says what is left."""
    lower = base_layer()
    lower.directory("data").file("data/kept", b"kept\n").file("data/removed", b"removed\n")
    lower.file("data/replaced", b"old\n", 0o600).file("data/turns-into-dir", b"file\n")
    lower.directory("data/hidden").file("data/hidden/below", b"below\n")
    lower.directory("data/removed-dir").file("data/removed-dir/file", b"gone\n")
    middle = Layer().whiteout("data/removed").whiteout("data/removed-dir")
    middle.directory("data/hidden").opaque("data/hidden").file("data/hidden/above", b"above\n")
    middle.file("data/replaced", b"new\n", 0o640, owner=1000)
    middle.whiteout("data/turns-into-dir").directory("data/turns-into-dir")
    top = Layer().file("data/one", b"linked\n").hardlink("data/two", "data/one")
    top.file("data/labelled", b"x\n", xattrs={"user.colour": "green", "security.capability": NET_BIND})
    top.directory("data/labelled-dir", xattrs={"user.colour": "blue"})
    top.file("data/setuid", b"", 0o4755).fifo("data/pipe").symlink("data/link", "/data/kept")
    top.file("data/" + "long-" * 30 + "name", b"long\n").file("data/bjørn", b"utf-8\n")
    return build_image([lower, middle, top], {"Env": [PATH], "Cmd": ["sh"]}, form)


LAYERED = {
    "data/kept": b"kept\n",
    "data/replaced": b"new\n",
    "data/hidden/above": b"above\n",
    "data/one": b"linked\n",
    "data/two": b"linked\n",
    "data/labelled": b"x\n",
    "data/setuid": b"",
    "data/" + "long-" * 30 + "name": b"long\n",
    "data/bjørn": b"utf-8\n",
}
"""Every regular file below data/ in `layered`, once all its layers are applied."""


@cache
def pause(binary: Path | None = None) -> Image:
    """A sandbox image: the given static program as /pause, or busybox' sleep."""
    if binary is None:
        return build_image([base_layer()], {"Env": [PATH], "Entrypoint": ["/bin/sleep", "2147483647"]})
    return build_image([Layer().file("pause", binary.read_bytes(), 0o755)], {"Entrypoint": ["/pause"]})


def agnhost(binary: Path) -> Image:
    """A shell and agnhost, the many servers in one program that Kubernetes' own tests use; static."""
    layers = [base_layer(), Layer().file("agnhost", binary.read_bytes(), 0o755)]
    return build_image(layers, {"Env": [PATH], "Entrypoint": ["/agnhost"], "Cmd": ["pause"]})


BIG_FILES = 24_000
BIG_BYTES = 400_000_000
BIG_LAYERS = 6


def big(cache_dir: Path) -> Image:
    """24,000 files, 400 MB, in six gzip layers; made once and kept as an OCI layout in `cache_dir`."""
    directory = cache_dir / "big-v1"
    if not (directory / "index.json").exists():
        with ThreadPoolExecutor() as pool:  # zlib lets go of the GIL
            layers = list(pool.map(_big_layer, range(BIG_LAYERS)))
        write_layout(directory, {"big": assemble(layers, {"Env": [PATH]}, OCI_GZIP)})
    return read_layout(directory)["big"]


def _big_layer(number: int) -> tuple[bytes, bytes]:
    """One layer's tar and blob. Sizes are spread as in a language runtime's tree: many small, a few large."""
    source = random.Random(number)
    count = BIG_FILES // BIG_LAYERS
    weights = [source.lognormvariate(0, 1.5) for _ in range(count)]
    scale = BIG_BYTES / BIG_LAYERS / sum(weights)
    text = _words(source, 1 << 20)
    layer = Layer().directory(f"layer{number}")
    for index, weight in enumerate(weights):
        if index % 20 == 0:
            layer.directory(f"layer{number}/d{index // 20:04}")
        layer.file(
            f"layer{number}/d{index // 20:04}/f{index:05}", _contents(source, text, int(weight * scale))
        )
    tar = layer.tar()
    return tar, COMPRESSORS["gzip"](tar)


def _words(source: random.Random, size: int) -> bytes:
    """Text of a made-up vocabulary; compresses about as well as source code does."""
    vocabulary = [source.randbytes(source.randint(1, 5)).hex().encode() for _ in range(3000)]
    words = b" ".join(source.choices(vocabulary, k=size // 5))
    return words[:size]


def _contents(source: random.Random, text: bytes, size: int) -> bytes:
    """`size` bytes: text in one file of four, else text with every sixth block of 4 KiB incompressible."""
    start = source.randrange(len(text))
    repeats = -(-(start + size) // len(text))
    data = bytearray((text * repeats)[start : start + size])
    if source.random() < 0.75:
        for offset in range(0, size, 6 * 4096):
            length = min(4096, size - offset)
            data[offset : offset + length] = source.randbytes(length)
    return bytes(data)
