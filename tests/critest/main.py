"""The command line of scripts/critest."""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.bench.contenders import ROOT, BenchError
from tests.bench.main import leftovers
from tests.critest import images, runtimes
from tests.critest.expectations import apparmor_is_on
from tests.critest.packages import MissingPackage, install_missing, unpacked
from tests.critest.suite import Report, Suite, SuiteError
from tests.registry import Registry


@dataclass(frozen=True)
class Options:
    """What to run and where to keep what."""

    runtime: str = "minikubelet"
    focus: Sequence[str] = ()
    parallel: int = 1
    websocket: bool = False
    junit: Path | None = None
    logs: Path | None = None
    setup_only: bool = False


def parse(arguments: Sequence[str]) -> Options:
    parser = argparse.ArgumentParser(
        prog="scripts/critest",
        description="Run the CRI conformance suite (critest v1.36.0) offline, as root.",
    )
    parser.add_argument("--runtime", choices=runtimes.NAMES, default="minikubelet")
    parser.add_argument("--focus", action="append", default=[], metavar="RE", help="specs that match")
    parser.add_argument("--parallel", type=int, default=1, metavar="N", help="specs at once (default 1)")
    parser.add_argument("--websocket", action="store_true", help="stream over WebSocket instead of SPDY")
    parser.add_argument("--junit", type=Path, metavar="FILE", help="keep the JUnit report there")
    parser.add_argument(
        "--logs", type=Path, metavar="DIR", help="keep critest's and the daemon's output there"
    )
    parser.add_argument(
        "--setup-only", action="store_true", help="install and build what a run needs, also one in a VM"
    )
    chosen = parser.parse_args(arguments)
    return Options(**vars(chosen))


def peers_bin(*names: str) -> Path:
    """Where scripts/peers puts its programs, once they are built. Raises SuiteError."""
    script = str(ROOT / "scripts" / "peers")
    if subprocess.run([sys.executable, script, *names], check=False).returncode != 0:
        raise SuiteError(f"could not build {', '.join(names)}")
    return Path(subprocess.check_output([sys.executable, script, "--bin-dir"], text=True).strip())


PEERS: dict[str, list[str]] = {"minikubelet": [], "containerd": ["containerd", "runc"]}
"""Programs of scripts/peers that a runtime consists of."""


def needs(runtime: str, apparmor: bool) -> dict[str, str]:
    """Programs of the host that a run uses, and their Debian packages."""
    wanted = {
        "cc": "gcc",
        "ip": "iproute2",
        "ipcmk": "util-linux",
        "ipcrm": "util-linux",
        "ldd": "libc-bin",
        "pgrep": "procps",
    }
    if apparmor:
        wanted |= {"sudo": "sudo", "apparmor_parser": "apparmor"}
    if runtime == "containerd":
        wanted |= {
            "iptables": "iptables",
            "nft": "nftables",
            "/usr/lib/cni/portmap": "containernetworking-plugins",
        }
    return wanted


def shared_memory() -> set[int]:
    """IDs of the host's System V shared memory segments; see proc_sysvipc(5)."""
    with open("/proc/sysvipc/shm") as table:
        return {int(line.split()[1]) for line in list(table)[1:]}


@contextmanager
def no_new_shared_memory() -> Iterator[None]:
    """Remove the segments that the suite makes on the host and forgets."""
    before = shared_memory()
    try:
        yield
    finally:
        for segment in shared_memory() - before:
            subprocess.run(["ipcrm", "-m", str(segment)], check=False)


def run(options: Options, home: Path) -> Report:
    """Start registry and runtime, run the suite, and stop them.

    Raises SuiteError, BenchError, MissingPackage.
    """
    install_missing(needs(options.runtime, apparmor_is_on()))
    wanted = ["critest"]
    wanted += ["ginkgo"] if options.parallel > 1 else []
    wanted += PEERS[options.runtime]
    bin_dir = peers_bin(*wanted)
    with ExitStack() as stack:
        stack.enter_context(no_new_shared_memory())
        registry = stack.enter_context(Registry())
        images.fill(registry, runtimes.PAUSE)
        images.write_mirrors(home / "certs.d", registry)
        runtime = runtimes.runtime(options.runtime, home / "r", bin_dir, home / "certs.d")
        stack.callback(runtime.stop)
        if options.logs is not None:
            options.logs.mkdir(parents=True, exist_ok=True)
            stack.callback(keep, runtime.home / "daemon.log", options.logs / f"{options.runtime}.log")
            stack.callback(keep, home / "critest.log", options.logs / "critest.log")
        runtime.start()
        suite = Suite(
            bin_dir / "critest",
            runtime.socket,
            home,
            options.focus,
            options.parallel,
            bin_dir / "ginkgo" if options.parallel > 1 else None,
            options.websocket,
        )
        return suite.run(home / "critest.log", options.junit or home / "junit.xml")


def set_up(runtime: str) -> None:
    """Everything that any run would install, build or download. Raises SuiteError, MissingPackage."""
    install_missing(needs(runtime, apparmor=True))
    peers_bin("critest", "ginkgo", *PEERS[runtime])
    for package in images.PACKAGES:
        unpacked(package)


def keep(source: Path, target: Path) -> None:
    if source.exists():
        shutil.copyfile(source, target)


def run_and_clean(options: Options) -> tuple[Report, list[str]]:
    """`run` in a folder of its own; also says what it left behind."""
    with tempfile.TemporaryDirectory(prefix="mkcritest-") as scratch:
        os.chmod(scratch, 0o711)  # the users of a user namespace pass through to their root filesystem
        report = run(options, Path(scratch))
        left = leftovers(Path(scratch), [runtimes.bridge(options.runtime, Path(scratch) / "r")])
    return report, left


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(sys.argv[1:] if arguments is None else arguments)
    if os.geteuid() != 0:
        print("critest: needs root", file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # clean up, as for Ctrl-C
    try:
        if options.setup_only:
            set_up(options.runtime)
            return 0
        report, left = run_and_clean(options)
    except (SuiteError, BenchError, MissingPackage) as error:
        print(f"critest: {error}", file=sys.stderr)
        return 2
    print(report.summary())
    for each in left:
        print(f"critest: left behind: {each}", file=sys.stderr)
    return 1 if left or report.with_status("failed") else 0
