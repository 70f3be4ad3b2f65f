"""``lint``."""

from __future__ import annotations

import argparse
import json
import sys

from minikubelet.cli import manifest_files, node_folder, options
from minikubelet.cli.manifest_check import Finding, check_manifest, objects_in
from minikubelet.cli.text import escape

_EXAMPLES = """
# What is wrong with these manifests, or has no effect on this node
minikubelet lint web.yaml manifests/

# For an editor or a pipeline; warnings fail too
minikubelet lint --strict -o json web.yaml
"""


def parser() -> options.Parser:
    """See :mod:`minikubelet.cli.commands`."""
    description = (
        "Say what in manifests is wrong, or is not supported by this node, with file, line and column.\n"
        "ConfigMaps, Secrets, claims and RuntimeClasses that pods refer to should be in one of the files.\n"
        "Exit code 1 if there are errors. No daemon is needed."
    )
    made = options.Parser("lint", description, "FILE... [options]", _EXAMPLES)
    made.add_argument("files", metavar="FILE", nargs="+", help="a manifest, a folder of them, or -")
    made.add_argument("-o", "--output", choices=("text", "json"), default="text", help="format of the output")
    made.add_argument("--strict", action="store_true", help="exit code 1 for warnings too")
    options.add_sockets(made)
    return made


def run(args: argparse.Namespace) -> int:
    """See :mod:`minikubelet.cli.commands`."""
    texts = {path: node_folder.read(path) for path in manifest_files.gather(args.files)}
    objects = [each for text in texts.values() for each in objects_in(text)]
    findings: list[Finding] = []
    for path, text in texts.items():
        findings += check_manifest(text, "<stdin>" if path == "-" else path, objects)
    if args.output == "json":
        print(json.dumps([each.as_json() for each in findings], indent=4))
    else:
        for each in findings:
            print(escape(_line(each)))
        errors = sum(each.level == "error" for each in findings)
        counts = (_count(errors, "error"), _count(len(findings) - errors, "warning"))
        print(", ".join(counts), file=sys.stderr)
    failing = findings if args.strict else [each for each in findings if each.level == "error"]
    return 1 if failing else 0


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _line(finding: Finding) -> str:
    place = f"{finding.file}:{finding.line}:{finding.column}" if finding.line else finding.file
    return ": ".join(part for part in (place, finding.level, finding.field, finding.message) if part)
