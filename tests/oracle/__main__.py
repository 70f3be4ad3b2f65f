"""``python -m tests.oracle [KIND…]``: ask upstream's code again, and write ``recorded/KIND.json``.

Needs ``go`` and Kubernetes' modules; building takes a few minutes the first time. KIND: of ``inputs.ALL``.
"""

from __future__ import annotations

import hashlib
import importlib.machinery
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.oracle.inputs import ALL, ROOT

HERE = Path(__file__).parent
RECORDED = HERE / "recorded"


def text_of(value: Any) -> str:
    """An input as one line."""
    return json.dumps(value, sort_keys=True)


def key_of(value: Any) -> str:
    """By what an answer is found: an input that changes has none until it is recorded."""
    return hashlib.sha256(text_of(value).encode()).hexdigest()[:12]


def recorded(kind: str) -> dict[str, Any]:
    """Upstream's answers by :func:`key_of`."""
    found: dict[str, Any] = json.loads((RECORDED / f"{kind}.json").read_text())
    return found


def build() -> Path:
    """The program that is asked, made beside the peers. Raises CalledProcessError."""
    loader = importlib.machinery.SourceFileLoader("peers", str(ROOT / "scripts" / "peers"))
    spec = importlib.util.spec_from_loader("peers", loader)
    assert spec is not None
    peers = importlib.util.module_from_spec(spec)
    sys.modules["peers"] = peers
    loader.exec_module(peers)
    work: Path = peers.CACHE / "build" / "oracle"
    work.mkdir(parents=True, exist_ok=True)
    (work / "go.mod").write_text(peers.PEERS["kubelet"].go_mod())
    shutil.copy(HERE / "main.go", work)
    env = {**os.environ, "GOFLAGS": "-mod=mod -buildvcs=false", "CGO_ENABLED": "0"}
    for command in (["go", "mod", "tidy"], ["go", "build", "-o", "oracle", "."]):
        subprocess.run(["nice", *command], cwd=work, env=env, check=True)
    return work / "oracle"


def main(kinds: list[str]) -> None:
    program = build()
    RECORDED.mkdir(exist_ok=True)
    for kind in kinds or ALL:
        asked = {key_of(each): text_of(each) for each in ALL[kind]()}
        done = subprocess.run(
            [program, kind], input="\n".join(asked.values()), stdout=subprocess.PIPE, text=True, check=True
        )
        answers = dict(zip(asked, map(json.loads, done.stdout.splitlines()), strict=True))
        lines = [f"{json.dumps(key)}: {json.dumps(each)}" for key, each in sorted(answers.items())]
        (RECORDED / f"{kind}.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")
        print(f"{kind}: {len(answers)}")


if __name__ == "__main__":
    main(sys.argv[1:])
