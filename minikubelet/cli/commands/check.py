"""``check``: what this machine has and lacks."""

from __future__ import annotations

import argparse
import json
import sys

from minikubelet.base.config import DaemonConfig
from minikubelet.cli import options

_EXAMPLES = """
# Before the first start
sudo minikubelet check

# For another program
sudo minikubelet check -o json
"""


def parser() -> options.Parser:
    """See :mod:`minikubelet.cli.commands`."""
    text = (
        "Check what this machine has and lacks for pods, and say what follows. Nothing is changed.\n"
        "The exit code is 1 if pods can't run here."
    )
    made = options.Parser("check", text, "[options]", _EXAMPLES)
    made.add_argument("--root", metavar="DIR", default=DaemonConfig().root, help="default %(default)s")
    made.add_argument("-o", "--output", choices=("json",), help="format of the output")
    made.add_argument("--run", help=argparse.SUPPRESS)
    made.add_argument("--listen", help=argparse.SUPPRESS)
    return made


def run(args: argparse.Namespace) -> int:
    """See :mod:`minikubelet.cli.commands`."""
    from minikubelet.cli import checks

    findings = checks.all_findings(options.absolute(args.root))
    failed = any(finding.level == "fail" for finding in findings)
    if args.output == "json":
        rows = [{"level": f.level, "what": f.what, "consequence": f.consequence} for f in findings]
        print(json.dumps({"ok": not failed, "findings": rows}, indent=2))
        return int(failed)
    colors = {"ok": "32", "warn": "33", "fail": "31"}
    for finding in findings:
        word = f"{finding.level:<4}"
        if sys.stdout.isatty():
            word = f"\x1b[{colors[finding.level]}m{word}\x1b[0m"
        print(f"{word}  {finding.what}" + (f": {finding.consequence}" if finding.consequence else ""))
    counts = {level: sum(f.level == level for f in findings) for level in colors}
    verdict = "pods can't run here" if failed else "pods can run here"
    print(f"\n{counts['ok']} ok, {counts['warn']} warnings, {counts['fail']} failures: {verdict}")
    return int(failed)
