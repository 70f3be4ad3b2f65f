"""``python -m tests.differential.api``: ask kubelets by hand, record upstream's answers, show differences.

record [GROUP…]    ask the upstream kubelet over our runtime, write recorded/GROUP.json
diff [GROUP…]      ask our kubelet over our runtime, compare with what is recorded
live [GROUP…]      both, compared, nothing recorded
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from pathlib import Path

from tests.differential import drivers
from tests.differential.__main__ import runtime
from tests.differential.api import battery, stage
from tests.differential.api.accepted import Accepted, unexplained
from tests.differential.api.shapes import Result

RECORDED = Path(__file__).with_name("recorded")


def recorded() -> dict[str, dict[str, Result]]:
    """What the upstream kubelet answered, by group and request."""
    return {path.stem: json.loads(path.read_text()) for path in sorted(RECORDED.glob("*.json"))}


def record(results: dict[str, dict[str, Result]]) -> None:
    """Write results, one file a group."""
    for name, answers in results.items():
        (RECORDED / f"{name}.json").write_text(json.dumps(answers, indent=1) + "\n")


def show(theirs: dict[str, dict[str, Result]], ours: dict[str, dict[str, Result]], known: Accepted) -> int:
    """Print what differs; the number of requests that do."""
    count = total = 0
    for group, answers in ours.items():
        for name, answer in answers.items():
            lines = unexplained(group, name, theirs.get(group, {}).get(name, {}), answer, known)
            total += 1
            count += bool(lines)
            if lines:
                print(f"DIFFERS {group}: {name}", *lines, sep="\n  ")
    print(f"{count} of {total} requests differ")
    return count


def main() -> int:
    parser = argparse.ArgumentParser(prog="tests.differential.api", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("verb", choices=("record", "diff", "live"))
    parser.add_argument("group", nargs="*", help="parts of names of groups")
    parser.add_argument("--runtime", choices=("minikubelet", "containerd"), default="minikubelet")
    parser.add_argument("--answers", type=Path, help="write the answers of our kubelet there as well")
    args = parser.parse_args()
    groups = battery.load(*args.group)
    home = Path(tempfile.mkdtemp(prefix="mka-", dir="/tmp"))
    home.chmod(0o711)
    try:
        with runtime(args.runtime, home / "m") as endpoint:
            theirs = recorded()
            if args.verb != "diff":
                theirs = stage.run(drivers.upstream, groups, endpoint, home / "u")
            if args.verb == "record":
                record(theirs)
                print(f"recorded {sum(map(len, theirs.values()))} answers")
                return 0
            ours = stage.run(drivers.ours, groups, endpoint, home / "o")
            if args.answers:
                args.answers.write_text(json.dumps(ours, indent=1) + "\n")
            return min(1, show(theirs, ours, Accepted(args.runtime)))
    finally:
        shutil.rmtree(home, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
