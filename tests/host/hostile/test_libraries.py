"""CVE-2019-14271: code of the image that a helper would load once it sees the image's root."""

from __future__ import annotations

import platform
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc.aio
import pytest

from minikubelet.criapi import api_pb2 as api
from tests.host.runtime.client import Client
from tests.images.build import Layer

LIBRARY = Path(__file__).with_name("library.c")
NSSWITCH = b"".join(
    b"%s: evil\n" % name for name in (b"passwd", b"group", b"initgroups", b"hosts", b"shadow")
)
FOLDERS = ("lib", "lib64", "usr/lib", "usr/lib64", "lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu")
MODULE = b"import os\nos.close(os.open('/loaded', os.O_CREAT | os.O_WRONLY))\n"

pytestmark = pytest.mark.skipif(platform.machine() != "x86_64", reason="the attack is written for x86-64")


@pytest.fixture
def library(tmp_path: Path) -> bytes:
    flags = ("-Os", "-shared", "-fPIC", "-nostdlib", "-fno-stack-protector")
    subprocess.run(["cc", *flags, "-o", tmp_path / "library.so", LIBRARY], check=True)
    return (tmp_path / "library.so").read_bytes()


def files(library: bytes) -> Iterator[tuple[str, bytes]]:
    """What the C library and Python look for by path: name services, character sets, modules."""
    yield "etc/nsswitch.conf", NSSWITCH
    yield "etc/passwd", b"root:x:0:0::/root:/bin/sh\nweb:x:1000:1000::/home/web:/bin/sh\n"
    yield "etc/group", b"root:x:0:\nweb:x:1000:\n"
    for folder in FOLDERS:
        for name in ("libnss_evil.so.2", "libnss_files.so.2", "libnss_dns.so.2", "libnss_compat.so.2"):
            yield f"{folder}/{name}", library
        yield f"{folder}/gconv/UTF-16.so", library
        yield f"{folder}/gconv/gconv-modules", b"module INTERNAL evil// UTF-16 1\n"
        for name in ("libseccomp.so.2", "libc.so.6.evil", "libselinux.so.1", "libz.so.1"):
            yield f"{folder}/{name}", library
    stdlib = sysconfig.get_path("stdlib").lstrip("/")
    for name in sorted(sys.stdlib_module_names):
        yield f"{stdlib}/{name}.py", MODULE
    for name in ("idna", "punycode", "utf_16", "latin_1", "cp1252", "unicode_escape"):
        yield f"{stdlib}/encodings/{name}.py", MODULE


def loads(root: Path, action: str) -> bool:
    """Whether a program that sees ``root`` as its root runs code from there by ``action``."""
    script = f"import ctypes, os, pwd; os.chroot({str(root)!r}); os.chdir('/')\n{action}"
    subprocess.run([sys.executable, "-I", "-S", "-c", script], capture_output=True, check=False)
    found = (root / "loaded").exists()
    (root / "loaded").unlink(missing_ok=True)
    return found


def test_the_attack_works(library: bytes, tmp_path: Path) -> None:
    """On a process that looks a user up, loads a library or imports after it has changed its root."""
    root = tmp_path / "root"
    for path, content in files(library):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(content)
    assert loads(root, "ctypes.CDLL('libnss_evil.so.2')")
    assert loads(root, "pwd.getpwnam('web')")
    assert loads(root, "import wave")
    assert not loads(root, "os.stat('/')")


async def test_a_helper_loads_nothing_of_an_image(
    client: Client, serve: Callable[..., str], library: bytes
) -> None:
    """Neither to start a container nor to join one, with names to look up, terminals and failures."""
    layer = Layer()
    for path, content in files(library):
        layer.file(path, content, 0o755)
    image = serve(layer, User="web", WorkingDir="/made/here")
    pod = await client.run_pod()
    for number, name in enumerate(("", "web", "root")):
        context = api.LinuxContainerSecurityContext(
            namespace_options=api.NamespaceOption(pid=api.CONTAINER),
            run_as_username=name,
            seccomp=api.SecurityProfile(profile_type=api.SecurityProfile.RuntimeDefault),
        )
        config = client.container_config(
            *("sleep", "1000"),
            name=f"c{number}",
            tty=bool(number % 2),
            linux=api.LinuxContainerConfig(security_context=context),
        )
        config.image.image = image
        app = await client.run(pod, config)
        with pytest.raises(grpc.aio.AioRpcError):
            await client.exec(app, "no-such-program")
        assert await client.output(app, "ls -d /loaded 2>/dev/null || echo none") == "none"
        assert await client.output(app, "pwd; id -un") == f"/made/here\n{name or 'web'}"
        assert await client.output(app, "ls -d /loaded 2>/dev/null || echo none") == "none"
