"""The linters and the house rules on size, as tests."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
GENERATED = ("_pb2.py", "_pb2.pyi")
MAX_FILE_LINES = 500
MAX_FUNCTION_LINES = 70


def scripts() -> list[str]:
    """Python programs without a suffix, which the linters don't find by themselves."""
    return sorted(
        str(path.relative_to(ROOT))
        for path in (ROOT / "scripts").iterdir()
        if path.is_file() and b"python" in path.read_bytes().partition(b"\n")[0]
    )


def sources() -> list[Path]:
    found = [*ROOT.glob("minikubelet/**/*.py"), *ROOT.glob("tests/**/*.py"), *ROOT.glob("scripts/*.py")]
    return sorted(path for path in found if not path.name.endswith(GENERATED))


def check(*arguments: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{' '.join(arguments)}\n{done.stdout}{done.stderr}"


def test_ruff_check() -> None:
    check("ruff", "check", "--quiet", ".", *scripts())


def test_ruff_format() -> None:
    check("ruff", "format", "--check", "--quiet", ".", *scripts())


def test_mypy_strict() -> None:
    check("mypy", "minikubelet", "tests")


@pytest.mark.parametrize("script", scripts())
def test_mypy_strict_on_scripts(script: str) -> None:
    check("mypy", "--scripts-are-modules", script)


def test_files_have_one_job() -> None:
    lengths = {str(path.relative_to(ROOT)): path.read_text().count("\n") for path in sources()}
    assert len(lengths) > 50
    assert {path: length for path, length in lengths.items() if length > MAX_FILE_LINES} == {}


def test_functions_fit_a_screen() -> None:
    long: dict[str, int] = {}
    for path in sources():
        for node in ast.walk(ast.parse(path.read_text(), str(path))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = (node.end_lineno or node.lineno) - node.lineno + 1
                if length > MAX_FUNCTION_LINES:
                    long[f"{path.relative_to(ROOT)}:{node.lineno} {node.name}"] = length
    assert long == {}


def test_shell_scripts_parse() -> None:
    shell = [
        path for path in (ROOT / "scripts").iterdir() if b"bash" in path.read_bytes().partition(b"\n")[0]
    ]
    shell += [ROOT / "scripts/setup.sh", ROOT / ".ci/run"]
    assert len(shell) > 4
    for path in shell:
        done = subprocess.run(["bash", "-n", path], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
