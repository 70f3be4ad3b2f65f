"""The import rules of docs/architecture.md, read from the syntax tree."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[2] / "minikubelet"
LOW = {"base", "linux", "wire"}
MAY_IMPORT: dict[str, set[str]] = {
    "base": set(),
    "linux": {"base"},
    "wire": {"base"},
    "criapi": set(),
    "spawner": LOW,
    "images": {"base", "linux"},
    "network": {"base", "linux"},
    "runtime": LOW | {"images", "network"},
    "streaming": {"base", "wire", "runtime"},
    "cri": LOW | {"images", "network", "runtime", "streaming", "criapi"},
    "nri": LOW | {"runtime", "criapi"},
    "kubelet": {"base", "linux", "criapi"},
    "cli": LOW | {"spawner", "images", "network", "runtime", "streaming", "cri", "criapi", "kubelet", "nri"},
}
ONLY_IN = {"ctypes": {"linux"}, "pyroute2": {"network"}, "grpc": {"cri", "kubelet", "cli"}}
STDLIB_ONLY = {"base", "linux"}


def _imports(path: Path) -> list[tuple[int, str]]:
    found: list[tuple[int, str]] = []
    for node in ast.walk(ast.parse(path.read_text(), str(path))):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import"
            module = node.module or ""
            found.append((node.lineno, module))
            if module == "minikubelet":
                found += [(node.lineno, f"minikubelet.{alias.name}") for alias in node.names]
    return found


def _problems(path: Path, room: str) -> list[str]:
    import sys

    problems = []
    for line, module in _imports(path):
        top, _, rest = module.partition(".")
        where = f"{path.relative_to(PACKAGE.parent)}:{line}"
        if top == "minikubelet":
            other = rest.partition(".")[0]
            if other and other in MAY_IMPORT and other != room and other not in MAY_IMPORT[room]:
                problems.append(f"{where}: {room} may not import {module}")
        elif top in ONLY_IN and room not in ONLY_IN[top]:
            problems.append(f"{where}: only {sorted(ONLY_IN[top])} may import {top}")
        elif room in STDLIB_ONLY and top not in sys.stdlib_module_names:
            problems.append(f"{where}: {room} uses the standard library only, not {top}")
    return problems


@pytest.mark.parametrize("room", sorted(MAY_IMPORT))
def test_room_imports_only_what_it_may(room: str) -> None:
    files = [p for p in (PACKAGE / room).rglob("*.py") if "_pb2" not in p.name]
    assert files, f"no modules in {room}"
    problems = [problem for path in files for problem in _problems(path, room)]
    assert not problems, "\n".join(problems)


def test_every_folder_is_a_known_room() -> None:
    rooms = {p.name for p in PACKAGE.iterdir() if p.is_dir() and (p / "__init__.py").exists()}
    assert rooms == set(MAY_IMPORT)
