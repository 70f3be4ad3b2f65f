"""Builds the pause binary into the package and gives the wheel its platform tag (a hatchling build hook)."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

try:
    from hatchling.builders.hooks.plugin.interface import BuildHookInterface
except ImportError:  # run by hand, without the build backend
    BuildHookInterface = object  # type: ignore[assignment,misc]

SOURCE = Path("minikubelet/spawner/pause.c")
BINARY = Path("minikubelet/spawner/pause")
FLAGS = (
    "-std=gnu11 -Os -Wall -Wextra -Werror -static -nostdlib -ffreestanding -fno-stack-protector -fno-pie "
    "-no-pie -fno-asynchronous-unwind-tables -fcf-protection=none -Wl,--build-id=none -Wl,-z,noexecstack -s"
)


def build_pause(root: Path) -> Path:
    """Compile ``pause`` below ``root`` unless it is newer than its source. SystemExit says what to do."""
    source, binary = root / SOURCE, root / BINARY
    if binary.exists() and binary.stat().st_mtime >= source.stat().st_mtime:
        return binary
    compiler = _compiler()
    if compiler is None:
        raise SystemExit(
            f"building {BINARY} needs a C compiler and found none: install one (Debian: apt install gcc), "
            "name one in $CC, or install a ready-made wheel"
        )
    temporary = binary.with_name(f".pause.{os.getpid()}")
    command = [*compiler, *_flags(), "-o", str(temporary), str(source)]
    try:
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        if result.returncode:
            raise SystemExit(f"building {BINARY} failed: {shlex.join(command)}\n{result.stderr}")
        temporary.chmod(0o755)
        temporary.replace(binary)
    finally:
        temporary.unlink(missing_ok=True)
    return binary


def _compiler() -> list[str] | None:
    if chosen := os.environ.get("CC"):
        return shlex.split(chosen)
    for name in ("cc", "gcc", "clang"):
        if found := shutil.which(name):
            return [found]
    return None


def _flags() -> list[str]:
    flags = shlex.split(FLAGS)
    if sysconfig.get_platform() != "linux-x86_64":
        flags.remove("-fcf-protection=none")  # an x86 option
    return flags


class BuildHook(BuildHookInterface):  # type: ignore[misc,type-arg,unused-ignore]
    """Called by hatchling before it collects the files of a wheel (also of an editable one)."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Make the binary, ship it although git ignores it, and say for which platform it is."""
        if self.target_name != "wheel":
            return
        build_pause(Path(self.root))
        build_data["artifacts"].append(f"/{BINARY}")
        build_data["pure_python"] = False
        platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
        build_data["tag"] = f"py3-none-{platform}"


if __name__ == "__main__":
    print(build_pause(Path(__file__).resolve().parents[1]))
    sys.exit(0)
