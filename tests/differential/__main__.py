"""``python -m tests.differential``: run cases by hand, record upstream's results, show differences.

record [CASE…]    run them on the upstream kubelet over our runtime, write recorded/GROUP.json
diff [CASE…]      run them on our kubelet over our runtime, compare with what is recorded
live [CASE…]      both, compared, nothing recorded
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from tests.differential import case as cases
from tests.differential import drivers
from tests.differential.compare import Known, unexplained
from tests.differential.probed import Probed
from tests.differential.runner import Result, Runner
from tests.host.kubelet import runtimes
from tests.upstream_kubelet import PEERS

RECORDED = Path(__file__).with_name("recorded")
AT_MOST_AGAIN = 3
Kubelet = Callable[..., AbstractContextManager[drivers.Driver]]


def run(kubelet: Kubelet, chosen: list[cases.Case], endpoint: str, home: Path) -> dict[str, Result]:
    """The results of cases on one kubelet."""
    with Probed() as probed, kubelet(home, endpoint) as driver:
        return Runner(driver, probed, home).run(chosen)


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


def record(results: dict[str, Result]) -> None:
    """Write results, one file a group; those of other cases in it stay."""
    RECORDED.mkdir(exist_ok=True)
    whole = {name: result for name, result in recorded().items() if (cases.CASES / f"{name}.yaml").exists()}
    whole |= results
    for group in sorted({name.partition("/")[0] for name in results}):
        mine = {name: result for name, result in sorted(whole.items()) if name.startswith(f"{group}/")}
        (RECORDED / f"{group}.json").write_text(json.dumps(mine, indent=1, sort_keys=True) + "\n")


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


def main() -> int:
    parser = argparse.ArgumentParser(prog="tests.differential", description=__doc__)
    parser.add_argument("verb", choices=("record", "diff", "live"))
    parser.add_argument("case", nargs="*", help="parts of names of cases")
    parser.add_argument("--runtime", choices=("minikubelet", "containerd"), default="minikubelet")
    parser.add_argument("--keep", action="store_true", help="keep the folders of the run")
    args = parser.parse_intermixed_args()
    chosen = cases.load(*args.case)
    home = Path(tempfile.mkdtemp(prefix="mkd-", dir="/tmp"))
    try:
        with runtime(args.runtime, home / "m") as endpoint:
            theirs = recorded()
            if args.verb != "diff":
                theirs = run(drivers.upstream, chosen, endpoint, home / "u")
            if args.verb == "record":
                record(theirs)
                print(f"recorded {len(theirs)} cases")
                return 0
            ours = run(drivers.ours, chosen, endpoint, home / "o")
            return min(1, show(chosen, theirs, ours, Known(args.runtime)))
    finally:
        if args.keep:
            print(f"kept {home}", file=sys.stderr)
        else:
            shutil.rmtree(home, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
