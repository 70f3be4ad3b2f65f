"""The command line of scripts/bench."""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from functools import cache
from pathlib import Path

from tests.bench.containerd import BRIDGE, Containerd
from tests.bench.contenders import ROOT, BenchError, Contender, Minikubelet
from tests.bench.groups import GROUPS
from tests.bench.measures import Bench, warm_up
from tests.bench.report import machine, rows, table
from tests.images import catalog
from tests.images.build import Image
from tests.registry import Registry


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="scripts/bench",
        description="Measure minikubelet beside containerd and runc, in one run (as root).",
    )
    parser.add_argument(
        "--only", action="append", choices=GROUPS, help="measure this group only; may be repeated"
    )
    parser.add_argument("--iterations", type=int, default=30, help="pods in the lifecycle group (default 30)")
    parser.add_argument("--clients", type=int, default=10, help="clients at once (default 10)")
    parser.add_argument("--pods", type=int, default=50, help="pods at once (default 50)")
    parser.add_argument("--no-peer", action="store_true", help="measure minikubelet alone")
    parser.add_argument("--peer-only", action="store_true", help="measure containerd alone")
    parser.add_argument(
        "--program", type=Path, default=ROOT / ".venv/bin/minikubelet", help="the daemon to measure"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write every sample to FILE")
    parser.add_argument("--keep-logs", type=Path, metavar="DIR", help="copy the daemons' logs there")
    return parser.parse_args(arguments)


def peers_bin() -> Path:
    """Where scripts/peers puts its programs, once they are built. Raises BenchError."""
    script = str(ROOT / "scripts" / "peers")
    if subprocess.run([sys.executable, script, "containerd", "runc"], check=False).returncode != 0:
        raise BenchError("could not build containerd and runc; --no-peer measures without them")
    return Path(subprocess.check_output([sys.executable, script, "--bin-dir"], text=True).strip())


def write_hosts(certs_dir: Path, registry: Registry) -> None:
    """The hosts.toml that both runtimes read: the registry speaks plain HTTP."""
    folder = certs_dir / registry.address
    folder.mkdir(parents=True)
    (folder / "hosts.toml").write_text(
        f'server = "{registry.url}"\n\n[host."{registry.url}"]\n  capabilities = ["pull", "resolve"]\n'
    )


def contenders(options: argparse.Namespace, home: Path, registry: Registry) -> list[Contender]:
    certs = home / "certs.d"
    write_hosts(certs, registry)
    chosen: list[Contender] = []
    if not options.peer_only:
        if not options.program.exists():
            raise BenchError(f"{options.program} is missing: run scripts/run --setup-only")
        chosen.append(Minikubelet(home / "m", options.program, certs))
    if not options.no_peer:
        binary = ROOT / "minikubelet" / "spawner" / "pause"
        pause = registry.add("bench/pause:1", catalog.pause(binary if binary.exists() else None))
        chosen.append(Containerd(home / "c", peers_bin(), certs, pause))
    return chosen


@cache
def big_image() -> Image:
    print("bench: preparing the 400 MB image", file=sys.stderr)
    return catalog.big(Path(os.environ.get("MINIKUBELET_PEERS", "/var/cache/minikubelet-peers")) / "images")


def leftovers(home: Path, bridges: Sequence[str] = (BRIDGE,)) -> list[str]:
    """What the run should not have left on the machine."""
    with open("/proc/self/mountinfo") as mounts:
        found = [f"mount: {line.split()[4]}" for line in mounts if f" {home}/" in line]
    links = subprocess.check_output(["ip", "-o", "link"], text=True)
    found += [f"link: {bridge}" for bridge in bridges if f"{bridge}:" in links]
    found += [f"cgroup: {path}" for path in Path("/sys/fs/cgroup").glob(f"*/minikubelet-bench-{os.getpid()}")]
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = process.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if f"{home}/" in command:
            found.append(f"process: {process.parent.name} {command}")
    return found


def measure(options: argparse.Namespace, home: Path, stack: ExitStack) -> Bench:
    registry = stack.enter_context(Registry())
    workload = registry.add("bench/busybox:1", catalog.busybox())
    chosen = contenders(options, home, registry)
    bench = Bench(chosen, registry, workload, big_image, options.iterations, options.clients, options.pods)
    for contender in chosen:
        stack.callback(contender.stop)
        contender.start(tmpfs=True)
        with contender.client() as client:
            print(f"bench: {client.version()} is ready", file=sys.stderr)
    if options.keep_logs:
        stack.callback(keep_logs, chosen, options.keep_logs)
    warm_up(bench)
    for name in options.only or GROUPS:
        print(f"bench: {name}", file=sys.stderr)
        GROUPS[name](bench)
    return bench


def keep_logs(chosen: Sequence[Contender], directory: Path) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    for contender in chosen:
        (directory / f"{contender.name}.log").write_bytes((contender.home / "daemon.log").read_bytes())


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(sys.argv[1:] if arguments is None else arguments)
    if os.geteuid() != 0:
        print("bench: needs root", file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # clean up, as for Ctrl-C
    about = machine()
    with tempfile.TemporaryDirectory(prefix="mkbench-") as scratch:
        try:
            with ExitStack() as stack:
                bench = measure(options, Path(scratch), stack)
        except BenchError as error:
            print(f"bench: {error}", file=sys.stderr)
            return 1
        left = leftovers(Path(scratch))
    print(", ".join(f"{key} {value}" for key, value in about.items()))
    print(table(bench))
    if options.json:
        options.json.write_text(json.dumps({"machine": about, "rows": rows(bench)}, indent=1) + "\n")
    for each in left:
        print(f"bench: left behind: {each}", file=sys.stderr)
    return 1 if left else 0
