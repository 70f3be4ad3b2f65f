"""What scripts/test and CI promise: unlisted skips fail, a lane that runs nothing fails, figures add up."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import LANES, REPEATS, known_lacks

ROOT = Path(__file__).resolve().parents[2]


def run_lane(folder: Path, body: str, *, ci: bool, lane: str = "unit") -> subprocess.CompletedProcess[str]:
    """pytest on one file of its own, with the lanes' plugin."""
    (folder / "test_it.py").write_text(f"import pytest\n{body}\n")
    environment = {key: value for key, value in os.environ.items() if key != "CI"}
    environment |= {"PYTHONPATH": str(ROOT)} | ({"CI": "true"} if ci else {})
    command = ["-m", "pytest", "-p", "tests.conftest", "-p", "no:cacheprovider", "--lane", lane, "-q"]
    return subprocess.run(
        [sys.executable, *command, "test_it.py"],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


SKIPS = "def test_runs(): pass\ndef test_skips(): pytest.skip('no such thing here')"


def test_an_unknown_skip_fails_in_ci_and_is_named(tmp_path: Path) -> None:
    done = run_lane(tmp_path, SKIPS, ci=True)
    assert done.returncode == 1, done.stdout
    assert "test_it.py::test_skips: no such thing here" in done.stdout
    assert run_lane(tmp_path, SKIPS, ci=False).returncode == 0


def test_a_whole_file_that_skips_counts(tmp_path: Path) -> None:
    body = "pytest.skip('not this file', allow_module_level=True)"
    runs = tmp_path / "test_runs.py"
    runs.write_text("def test_runs(): pass")
    done = run_lane(tmp_path, body, ci=True)
    assert done.returncode != 0
    assert "not this file" in done.stdout


def test_a_known_skip_passes_in_ci(tmp_path: Path) -> None:
    reason = known_lacks("unit")[0]
    done = run_lane(tmp_path, f"def test_runs(): pass\ndef test_skips(): pytest.skip({reason!r})", ci=True)
    assert done.returncode == 0, done.stdout


FAILS_ONCE = """
runs = []
def fails_once(name):
    runs.append(name)
    assert runs.count(name) > 1, f"{name} is unlucky"
"""


def test_ci_repeats_what_failed_and_says_so(tmp_path: Path) -> None:
    body = FAILS_ONCE + "def test_once(): fails_once('first')"
    done = run_lane(tmp_path, body, ci=True, lane="host")
    assert done.returncode == 0, done.stdout
    assert "first is unlucky" in done.stdout
    assert run_lane(tmp_path, body, ci=False, lane="host").returncode == 1
    assert run_lane(tmp_path, body, ci=True, lane="unit").returncode == 1


def test_what_fails_twice_has_failed(tmp_path: Path) -> None:
    assert run_lane(tmp_path, "def test_never(): assert False", ci=True, lane="upstream").returncode == 1


def test_a_leak_is_not_repeated(tmp_path: Path) -> None:
    body = FAILS_ONCE + "def test_once(): fails_once('a mount left behind')"
    assert run_lane(tmp_path, body, ci=True, lane="host").returncode == 1


def test_ci_repeats_no_more_than_a_few(tmp_path: Path) -> None:
    tests = [f"def test_{number}(): fails_once({number})" for number in range(REPEATS + 1)]
    done = run_lane(tmp_path, "\n".join([FAILS_ONCE, *tests]), ci=True, lane="vm")
    assert done.returncode == 1
    assert f"1 failed, {REPEATS} passed" in done.stdout


@pytest.mark.parametrize("lane", LANES)
def test_every_lane_has_a_list(lane: str) -> None:
    assert all(isinstance(pattern, str) for pattern in known_lacks(lane))


def test_figures_add_up_and_an_empty_lane_is_an_error(tmp_path: Path) -> None:
    script = tmp_path / "scripts/sum-reports"
    script.parent.mkdir()
    script.write_text((ROOT / "scripts/sum-reports").read_text())
    (tmp_path / "reports").mkdir()
    suite = '<testsuites><testsuite tests="{}" failures="{}" errors="{}" skipped="{}"/></testsuites>'
    for name, figures in {"a": (5, 0, 0, 2), "b": (4, 0, 0, 0), "c": (3, 1, 1, 0), "d": (0, 0, 0, 0)}.items():
        (tmp_path / f"reports/{name}.xml").write_text(suite.format(*figures))

    def add(*names: str) -> tuple[int, str]:
        command = [sys.executable, str(script), *(f"{name}.xml" for name in names)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout.strip()

    assert add("a", "b") == (0, "7 passed, 0 failed, 2 skipped")
    assert add("a", "c") == (1, "4 passed, 2 failed, 2 skipped")
    assert add("a", "d") == (1, "3 passed, 0 failed, 2 skipped")
    assert add("a", "missing") == (1, "3 passed, 0 failed, 2 skipped")
