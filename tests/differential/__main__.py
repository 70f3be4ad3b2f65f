"""``python -m tests.differential``: run cases by hand, record upstream's results, show differences.

record [CASE…]    run them on the upstream kubelet over our runtime, write recorded/GROUP.json
diff [CASE…]      run them on our kubelet over our runtime, compare with what is recorded
live [CASE…]      both, compared, nothing recorded
fuzz              as live, with pods put together at random; the same --seed makes the same pods

--vm              the cases of the vm lane, in its machine
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any

from tests.differential import case as cases
from tests.differential import cgroups, drivers, fuzz
from tests.differential.compare import Known, unexplained
from tests.differential.probed import Probed
from tests.differential.runner import Result, Runner
from tests.host.kubelet import runtimes
from tests.upstream_kubelet import PEERS

ROOT = Path(__file__).resolve().parents[2]
RECORDED = Path(__file__).with_name("recorded")
AT_MOST_AGAIN = 3
Kubelet = Callable[..., AbstractContextManager[drivers.Driver]]


def run(kubelet: Kubelet, chosen: list[cases.Case], endpoint: str, home: Path) -> dict[str, Result]:
    """The results of cases on kubelets, one after the other, that are configured as each group needs it."""
    home.mkdir(exist_ok=True)
    found: dict[str, Result] = {}
    by_settings: dict[str, list[cases.Case]] = {}
    for case in chosen:
        by_settings.setdefault(json.dumps(cases.settings(case.group)), []).append(case)
    for text, group in by_settings.items():
        settings = json.loads(text)
        with ExitStack() as stack:
            tree = None
            if settings.get("cgroupsPerQOS"):
                tree = stack.enter_context(cgroups.prepared(settings))
                settings["cgroupRoot"] = cgroups.ROOT
            own = Path(tempfile.mkdtemp(dir=home))
            own.chmod(0o711)
            probed = stack.enter_context(Probed())
            driver = stack.enter_context(kubelet(own, endpoint, **settings))
            found |= Runner(driver, probed, own, tree).run(group)
    return found


def run_twice(
    attempt: Callable[[list[cases.Case]], dict[str, Result]], chosen: list[cases.Case], known: Known
) -> tuple[dict[str, Result], dict[str, list[str]]]:
    """The results of ``attempt``, and of a second one for the few cases that differed in the first.

    Twenty pods at a time on a small machine can delay a container's own output by seconds. A second look,
    alone, tells that from a difference. More than AT_MOST_AGAIN get none. Also returned: what differed at
    first, by case.
    """
    results, theirs = attempt(chosen), recorded()
    differed = {
        case.name: lines
        for case in chosen
        if (lines := unexplained(case, theirs.get(case.name, {}), results[case.name], known))
    }
    if not 0 < len(differed) <= AT_MOST_AGAIN:
        return results, {}
    return results | attempt([case for case in chosen if case.name in differed]), differed


def recorded() -> dict[str, Result]:
    """What the upstream kubelet ended up with."""
    found: dict[str, Result] = {}
    for path in sorted(RECORDED.glob("*.json")):
        found |= json.loads(path.read_text())
    return found


def record(results: dict[str, Result], folder: Path = RECORDED) -> None:
    """Write results, one file a group; those of other cases in it stay."""
    folder.mkdir(exist_ok=True)
    whole = {name: result for name, result in recorded().items() if (cases.CASES / f"{name}.yaml").exists()}
    whole |= results
    for group in sorted({name.partition("/")[0] for name in results}):
        mine = {name: result for name, result in sorted(whole.items()) if name.startswith(f"{group}/")}
        (folder / f"{group}.json").write_text(json.dumps(mine, indent=1, sort_keys=True) + "\n")


def show(chosen: list[cases.Case], theirs: dict[str, Result], ours: dict[str, Any], known: Known) -> int:
    """Print what differs; the number of cases that do."""
    count = 0
    for case in chosen:
        lines = unexplained(case, theirs.get(case.name, {}), ours.get(case.name, {}), known)
        count += bool(lines)
        print(f"{'DIFFERS' if lines else 'same   '} {case.name}")
        for line in lines:
            print(f"  {line}")
    print(f"{count} of {len(chosen)} cases differ")
    return count


def runtime(name: str, home: Path) -> AbstractContextManager[str]:
    """One of the runtimes, started; its endpoint."""
    if name == "containerd":
        return runtimes.containerd(home, PEERS)
    return runtimes.minikubelet(home)


def in_vm(arguments: list[str]) -> int:
    """This command in the machine of the vm lane, which sees these files but can't write them."""
    inner = [sys.executable, "-m", "tests.differential", *arguments, "--lane", "vm", "--to", "/run/out"]
    environment = {"MINIKUBELET_PATIENCE": "6", **os.environ}
    with tempfile.TemporaryDirectory() as out:
        command = [sys.executable, str(ROOT / "scripts" / "vm"), "--out", out, "--", *inner]
        code = subprocess.run(command, env=environment, check=False).returncode
        for path in Path(out).glob("*.json"):
            (RECORDED / path.name).write_bytes(path.read_bytes())
    return code


def main() -> int:
    parser = argparse.ArgumentParser(prog="tests.differential", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("verb", choices=("record", "diff", "live", "fuzz"))
    parser.add_argument("case", nargs="*", help="parts of names of cases")
    parser.add_argument("--runtime", choices=("minikubelet", "containerd"), default="minikubelet")
    parser.add_argument("--keep", action="store_true", help="keep the folders of the run")
    parser.add_argument("--vm", action="store_true", help="in the machine of the vm lane")
    parser.add_argument("--lane", choices=cases.LANES, default=cases.LANES[0], help="whose cases")
    parser.add_argument("--seed", type=int, default=0, help="of the first pod (fuzz)")
    parser.add_argument("--count", type=int, default=20, help="how many pods (fuzz)")
    parser.add_argument("--to", type=Path, default=RECORDED, help="where results are recorded")
    args = parser.parse_intermixed_args()
    if args.vm:
        return in_vm([each for each in sys.argv[1:] if each != "--vm"])
    # In an emulated machine a case takes half a minute: who waits sees that it goes on.
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stderr)
    if args.verb == "fuzz":
        chosen = list(fuzz.cases(args.seed, args.count))
    else:
        chosen = cases.load(*args.case, lane=args.lane)
    home = Path(tempfile.mkdtemp(prefix="mkd-", dir="/tmp"))
    try:
        with runtime(args.runtime, home / "m") as endpoint:
            theirs = recorded()
            if args.verb != "diff":
                theirs = run(drivers.upstream, chosen, endpoint, home / "u")
            if args.verb == "record":
                record(theirs, args.to)
                print(f"recorded {len(theirs)} cases")
                return 0
            ours = run(drivers.ours, chosen, endpoint, home / "o")
            return min(1, show(chosen, theirs, ours, Known.over(args.runtime, args.lane)))
    finally:
        if args.keep:
            print(f"kept {home}", file=sys.stderr)
        else:
            shutil.rmtree(home, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
