"""The wheel is complete: installed on a machine without a compiler, it runs."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def run(*command: str | Path, env: dict[str, str] | None = None, cwd: Path | None = None) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=env, cwd=cwd)
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel built from a copy without anything that git ignores."""
    copy = tmp_path_factory.mktemp("copy")
    ignored = shutil.ignore_patterns("__pycache__", "pause")
    shutil.copytree(ROOT / "minikubelet", copy / "minikubelet", ignore=ignored)
    (copy / "scripts").mkdir()
    for name in ("pyproject.toml", "README.md", "scripts/build_hook.py"):
        shutil.copy(ROOT / name, copy / name)
    out = tmp_path_factory.mktemp("wheel")
    pip = (sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index")
    run(*pip, "--wheel-dir", out, copy)
    (built,) = out.glob("*.whl")
    return built


def test_the_wheel_holds_what_runs(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        pause = archive.getinfo("minikubelet/spawner/pause")
        data = archive.read(pause)
    assert {"minikubelet/py.typed", "minikubelet/data/minikubelet.service"} <= names
    assert data.startswith(b"\x7fELF")
    assert pause.external_attr >> 16 & 0o111 == 0o111
    modules = {str(path.relative_to(ROOT)) for path in ROOT.glob("minikubelet/**/*.py")}
    assert modules <= names
    assert not any(name.startswith(("tests/", "scripts/")) for name in names)
    assert "any" not in wheel.stem.split("-")[-1]


def test_it_runs_without_a_compiler_and_without_the_sources(wheel: Path, tmp_path: Path) -> None:
    environment = tmp_path / "venv"
    run(sys.executable, "-m", "venv", "--without-pip", environment)
    (site_packages,) = environment.glob("lib/python*/site-packages")
    pip = (sys.executable, "-m", "pip", "--python", environment / "bin/python", "install", "--quiet")
    run(*pip, "--no-index", "--no-deps", wheel)
    # The requirements are those of this environment; the project itself isn't taken from it.
    for entry in (Path(sys.prefix) / "lib" / site_packages.parent.name / "site-packages").iterdir():
        if "minikubelet" not in entry.name and not (site_packages / entry.name).exists():
            (site_packages / entry.name).symlink_to(entry)
    empty = {"PATH": str(tmp_path / "nothing"), "HOME": str(tmp_path)}
    printed = run(environment / "bin/minikubelet", "version", "--client", env=empty, cwd=tmp_path)
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert version in printed
    code = "import minikubelet, os; print(os.path.dirname(minikubelet.__file__))"
    package = Path(run(environment / "bin/python", "-I", "-c", code, env=empty, cwd=tmp_path).strip())
    assert package.is_relative_to(environment)
    assert os.access(package / "spawner/pause", os.X_OK)


def test_the_locks_hold_what_is_required() -> None:
    """Every requirement is locked at one version with hashes, and no lock names where to fetch from."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    locks = {
        "requirements.lock": project["dependencies"] + extras["build"],
        "requirements-dev.lock": project["dependencies"] + extras["build"] + extras["dev"],
    }
    for name, requirements in locks.items():
        text = (ROOT / name).read_text()
        locked = dict(re.findall(r"^([A-Za-z0-9._-]+)==([^ ;\\]+)", text, re.MULTILINE))
        wanted = {re.split(r"[<>=!~ ;\[]", each)[0].lower().replace("_", "-") for each in requirements}
        assert wanted <= {each.lower() for each in locked}
        assert len(re.findall(r"^\S+==", text, re.MULTILINE)) == len(re.findall(r"==.*\\\n +--hash=", text))
        assert "://" not in text


def test_the_two_locks_agree() -> None:
    pinned = [
        set(re.findall(r"^(\S+==\S+)", (ROOT / name).read_text(), re.MULTILINE))
        for name in ("requirements.lock", "requirements-dev.lock")
    ]
    assert pinned[0] <= pinned[1]


def test_the_systemd_unit_leaves_pods_alone() -> None:
    unit = (ROOT / "minikubelet/data/minikubelet.service").read_text()
    settings = dict(line.split("=", 1) for line in unit.splitlines() if "=" in line and line[0] != "#")
    assert settings["Type"] == "notify"
    assert settings["KillMode"] == "process"
    assert settings["Delegate"] == "yes"
    assert settings["Restart"] == "always"
    assert settings["TasksMax"] == "infinity"
    assert settings["StartLimitIntervalSec"] == "0"


def test_systemd_finds_nothing_wrong_with_the_unit(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("no systemd-analyze")
    unit = (ROOT / "minikubelet/data/minikubelet.service").read_text()
    program = "/usr/local/bin/minikubelet daemon"
    assert f"ExecStart={program}\n" in unit
    copy = tmp_path / "minikubelet.service"
    copy.write_text(unit.replace(program, shutil.which("true") or "/bin/true"))
    done = subprocess.run(["systemd-analyze", "verify", copy], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
