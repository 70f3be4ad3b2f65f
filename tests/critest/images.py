"""Substitutes for the images that critest v1.36.0 pulls, from Debian packages, behind registry mirrors.

What the suite asks of them is in cri-tools' pkg/validate and images/. The one image that nothing can stand
in for is `test-image-digest`: the suite names it by its digest.
"""

from __future__ import annotations

import platform
import subprocess
import tempfile
from collections.abc import Collection, Mapping
from functools import cache
from pathlib import Path

from tests.critest.packages import installed, libraries, unpacked
from tests.images import catalog
from tests.images.build import COMPRESSORS, Format, Image, Layer, assemble, build_index
from tests.registry import Registry

HOSTS = ("registry.k8s.io", "k8s.gcr.io", "gcr.io")
"""Registries that the suite names; the mirror stands in for them, so that none is reached."""
SANDBOX_IMAGE = "registry.k8s.io/minikubelet-test/pause:1"
"""For runtimes that want one. Not the suite's `pause:3.9`: it counts that image's tags and removes it."""

PACKAGES = ("busybox", "nginx")
"""What is unpacked for the images."""

E2E = "e2e-test-images"
CRI_TOOLS = "k8s-staging-cri-tools"
ARCHITECTURE = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
FORMAT = Format(docker=True, architecture=ARCHITECTURE)

PASSWD = """root:x:0:0:root:/root:/bin/sh
daemon:x:1:1:daemon:/usr/sbin:/bin/false
www-data:x:33:33:www-data:/var/www:/bin/false
nobody:x:65534:65534:nobody:/:/bin/false
"""
GROUP = """root:x:0:
daemon:x:1:
www-data:x:33:
nogroup:x:65534:
"""
FOLDERS = "dev etc home proc run sys usr/sbin usr/share var/lib/nginx var/log/nginx var/www"

NGINX_CONF = """user www-data;
worker_processes 1;
pid /var/run/nginx.pid;
error_log /dev/stderr notice;
events {{ worker_connections 256; }}
http {{
    access_log /dev/stdout;
    default_type text/html;
    server {{
        listen {port};
        root /usr/share/nginx/html;
    }}
}}
"""
PAGE = b"<!DOCTYPE html><title>critest</title><h1>It answers.</h1>\n"


class Tree:
    """A layer of files from this machine and from packages; each path is added once, after its parents."""

    def __init__(self, below: Collection[str] = ()) -> None:
        """`below`: paths that the layers below have already."""
        self.layer = Layer()
        self.paths = set(below)

    def directory(self, path: str, mode: int = 0o755) -> None:
        if path and path not in self.paths:
            self.directory(path.rpartition("/")[0])
            self.paths.add(path)
            self.layer.directory(path, mode)

    def file(self, path: str, data: bytes, mode: int = 0o644) -> None:
        if path not in self.paths:
            self.directory(path.rpartition("/")[0])
            self.paths.add(path)
            self.layer.file(path, data, mode)

    def program(self, path: str, source: Path) -> None:
        """A program with the libraries that it loads."""
        self.file(path, source.read_bytes(), 0o755)
        for library in libraries(source):
            self.file(str(library).lstrip("/"), library.read_bytes(), 0o755)


Packed = tuple[bytes, bytes]
"""A layer's tar and its blob."""


def pack(layer: Layer) -> Packed:
    tar = layer.tar()
    return tar, COMPRESSORS[FORMAT.compression](tar)


def base_tree() -> Tree:
    """Debian's dynamic busybox: unlike the static one, its shell executes applets, not runs them itself.

    The applets are hard links, as in the busybox image: masking the path of one must leave the others alone.
    pgrep and ipcs, which it is built without, are those of procps and util-linux.
    """
    tree = Tree()
    for path in FOLDERS.split():
        tree.directory(path)
    tree.directory("root", 0o700)
    tree.directory("tmp", 0o1777)
    tree.layer.symlink("var/run", "/run")
    tree.file("etc/passwd", PASSWD.encode())
    tree.file("etc/group", GROUP.encode())
    binary = unpacked("busybox") / "bin" / "busybox"
    tree.program("bin/busybox", binary)
    applets = subprocess.check_output([binary, "--list"], text=True).split()
    for applet in sorted(set(applets) - {"busybox"}):
        tree.layer.hardlink(f"bin/{applet}", "bin/busybox", 0o755)
    tree.program("usr/bin/pgrep", installed("pgrep", "procps"))
    tree.program("usr/bin/ipcs", installed("ipcs", "util-linux"))
    return tree


@cache
def base() -> tuple[Packed, frozenset[str]]:
    """The layer that all images but pause have in common, and its paths."""
    tree = base_tree()
    return pack(tree.layer), frozenset(tree.paths)


def image(config: Mapping[str, object], *layers: Packed) -> Image:
    """An image on the common layer, whose command is a shell unless `config` says otherwise."""
    defaults = {"Env": [catalog.PATH], "Cmd": ["sh"]}
    return assemble([base()[0], *layers], {**defaults, **config}, FORMAT)


def web_server(port: int) -> Image:
    """Debian's nginx on `port`, in the foreground."""
    tree = Tree(below=base()[1])
    tree.program("usr/sbin/nginx", unpacked("nginx") / "usr" / "sbin" / "nginx")
    tree.file("etc/nginx/nginx.conf", NGINX_CONF.format(port=port).encode())
    tree.file("usr/share/nginx/html/index.html", PAGE)
    return image({"Cmd": ["nginx", "-g", "daemon off;"]}, pack(tree.layer))


def httpd() -> Image:
    """busybox' httpd on port 80. The suite looks for its name in the log before it sends a request."""
    script = "echo 'httpd: serving /var/www on port 80'; exec httpd -f -vv -p 80 -h /var/www"
    pages = Tree(below=base()[1])
    pages.file("var/www/index.html", PAGE)
    return image({"Cmd": ["sh", "-c", script]}, pack(pages.layer))


def no_new_privs() -> Image:
    """A set-user-ID program that says whom it runs as. Raises MissingPackage."""
    compiler = installed("cc", "gcc libc6-dev")
    with tempfile.TemporaryDirectory() as scratch:
        program = Path(scratch) / "nonewprivs"
        source = Path(__file__).with_name("nonewprivs.c")
        subprocess.run([compiler, "-Os", "-s", "-static", "-o", program, source], check=True)
        layer = Layer().file("nonewprivs", program.read_bytes(), 0o4755)
    return image({"Entrypoint": ["/nonewprivs"], "Cmd": None}, pack(layer))


def predefined_group() -> Image:
    """A user whom the image's /etc/group puts into one more group."""
    users = Tree()
    users.file("etc/passwd", f"{PASSWD}default-user:x:1000:1000::/home/default-user:/bin/sh\n".encode())
    groups = f"{GROUP}default-user:x:1000:\ngroup-defined-in-image:x:50000:default-user\n"
    users.file("etc/group", groups.encode())
    return image({"User": "1000"}, pack(users.layer))


def with_file(name: str) -> Image:
    """An image that differs from the others by a file."""
    tree = Tree(below=base()[1])
    tree.file(name, f"{name}\n".encode())
    return image({}, pack(tree.layer))


def pause(binary: Path, *, purpose: str) -> Image:
    """An infra container's program; `purpose` makes the image one of its own."""
    return assemble(
        [pack(Layer().file("pause", binary.read_bytes(), 0o755))],
        {"Entrypoint": ["/pause"], "Labels": {"purpose": purpose}},
        FORMAT,
    )


def listed(pause_binary: Path) -> dict[str, Image]:
    """The images that the suite pulls as manifest lists, and `SANDBOX_IMAGE`, by name."""
    images = {
        f"{E2E}/busybox:1.29-2": image({}),
        f"{E2E}/nginx:1.14-2": web_server(80),
        f"{E2E}/httpd:2.4.39-4": httpd(),
        f"{E2E}/nonewprivs:1.3": no_new_privs(),
        f"{CRI_TOOLS}/test-image-user-uid": image({"User": "1002"}),
        f"{CRI_TOOLS}/test-image-user-username": image({"User": "www-data"}),
        f"{CRI_TOOLS}/test-image-user-uid-group": image({"User": "1003:daemon"}),
        f"{CRI_TOOLS}/test-image-user-username-group": image({"User": "www-data:daemon"}),
        f"{CRI_TOOLS}/test-image-predefined-group": predefined_group(),
        f"{CRI_TOOLS}/test-image-latest": with_file("latest"),
        f"{CRI_TOOLS}/test-image-tag:test": with_file("test"),
        f"{CRI_TOOLS}/test-image-tag:all": with_file("all"),
        "pause:3.9": pause(pause_binary, purpose="critest"),
        SANDBOX_IMAGE.partition("/")[2]: pause(pause_binary, purpose="sandboxes"),
    }
    for number in "123":
        images[f"{CRI_TOOLS}/test-image-{number}"] = with_file(number)
        images[f"{CRI_TOOLS}/test-image-tags:{number}"] = with_file("tags")
    return images


def fill(registry: Registry, pause_binary: Path) -> None:
    """Everything that the suite pulls. Raises MissingPackage."""
    for name, each in listed(pause_binary).items():
        registry.add(name, build_index([(each, FORMAT)]))
    registry.add(f"{CRI_TOOLS}/hostnet-nginx-{ARCHITECTURE}", web_server(12003))


def write_mirrors(certs_dir: Path, registry: Registry) -> None:
    """The hosts.toml files that send pulls from `HOSTS` to the registry, and nowhere else."""
    for host in HOSTS:
        folder = certs_dir / host
        folder.mkdir(parents=True)
        (folder / "hosts.toml").write_text(
            f'server = "{registry.url}"\n\n[host."{registry.url}"]\n  capabilities = ["pull", "resolve"]\n'
        )
