"""Go templates with what kubectl makes of them: ``go_templates.json`` beside this file.

``python -m tests.unit.cli.go_templates`` asks kubectl (``scripts/peers kubectl``) anew for all in it. To add
one, write it there with null for the answer.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
from pathlib import Path
from typing import Any

FILE = Path(__file__).with_suffix(".json")
_KUBECTL = "/var/cache/minikubelet-peers/bin/kubectl"


def load() -> dict[str, Any]:
    """``object``, and answers by template: ``[what is printed]``, or what is said where it fails."""
    with FILE.open() as file:
        return dict(json.load(file))


def ask(manifest: str, template: str, *, strict: bool) -> Any:
    """kubectl's answer."""
    words = [_KUBECTL, "annotate", "--local", "--overwrite", "-f", manifest, "note=a b"]
    words += [f"--allow-missing-template-keys={str(not strict).lower()}", f"--output=go-template={template}"]
    done = subprocess.run(words, capture_output=True, check=False)
    if done.returncode == 0:
        return [done.stdout.decode("utf-8", "surrogateescape")]
    return done.stderr.decode().removeprefix("error: ").removesuffix("\n")


def record() -> None:
    """Write kubectl's answers."""
    known = load()
    with tempfile.NamedTemporaryFile("w", suffix=".json") as manifest:
        json.dump(known["object"], manifest)
        manifest.flush()
        for group in ("lenient", "strict"):
            for template in known[group]:
                known[group][template] = ask(manifest.name, template, strict=group == "strict")
    lines = [f'"object": {json.dumps(known["object"])}']
    for group in ("lenient", "strict"):
        each = ",\n".join(f"{json.dumps(key)}:\n  {json.dumps(known[group][key])}" for key in known[group])
        lines.append(f'"{group}": {{\n{each}\n}}')
    FILE.write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    record()
