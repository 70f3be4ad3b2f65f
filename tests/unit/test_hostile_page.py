"""docs/hostile.md names tests that exist."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
NAMED = re.compile(r"`([a-z_/]+\.py)::(test_\w+)`")


def test_every_test_of_the_page_exists() -> None:
    page = (ROOT / "docs" / "hostile.md").read_text()
    named = NAMED.findall(page)
    assert len(named) == page.count("::test_"), "each is written as `file::test`"
    missing = [
        f"{file}::{name}"
        for file, name in named
        if not re.search(rf"^(async )?def {name}\(", _text(file), re.MULTILINE)
    ]
    assert not missing


def test_every_row_names_one() -> None:
    rows = [line for line in (ROOT / "docs" / "hostile.md").read_text().splitlines() if line.startswith("| ")]
    assert [row for row in rows if "::test_" not in row] == ["| class | test |", "| property | test |"]


def _text(file: str) -> str:
    path = ROOT / "tests" / file
    return path.read_text() if path.exists() else ""
