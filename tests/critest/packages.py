"""Programs from Debian packages: installed for the host, unpacked for images.

What goes into images isn't installed, since that would do more than is wanted: Debian's `busybox` replaces
`busybox-static`, its `nginx` starts a service.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

CACHE = Path(os.environ.get("MINIKUBELET_PEERS", "/var/cache/minikubelet-peers")) / "debian"
LIBRARY = re.compile(r"^\s*(?:\S+ => )?(/\S+) \(0x[0-9a-f]+\)$", re.MULTILINE)


class MissingPackage(Exception):
    """A package can't be had; the message says which and why."""


def unpacked(package: str) -> Path:
    """The folder that holds a package's files, downloaded once. Raises MissingPackage."""
    folder = CACHE / package
    if folder.is_dir():
        return folder
    CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE, prefix=f".{package}-") as scratch:
        _download(package, Path(scratch))
        (archive,) = Path(scratch).glob("*.deb")
        contents = Path(scratch) / "contents"
        _run("dpkg-deb", "--extract", str(archive), str(contents), cwd=scratch)
        try:
            contents.rename(folder)
        except OSError:  # another run was faster
            if not folder.is_dir():
                raise
    return folder


def _download(package: str, folder: Path) -> None:
    try:
        _run("apt-get", "download", package, cwd=str(folder))
    except MissingPackage:  # no package lists yet, or old ones
        _run("apt-get", "update", cwd=str(folder))
        _run("apt-get", "download", package, cwd=str(folder))


def _run(*command: str, cwd: str) -> None:
    if _find(command[0]) is None:
        raise MissingPackage(f"{command[0]} is missing: the images are made from Debian packages")
    done = subprocess.run(command, cwd=cwd, check=False, capture_output=True, text=True)
    if done.returncode != 0:
        raise MissingPackage(f"{' '.join(command)} failed:\n{done.stderr.strip()}")


def installed(program: str, package: str) -> Path:
    """Where a program of this machine is. Raises MissingPackage that names its package."""
    found = _find(program)
    if found is None:
        raise MissingPackage(f"{program} is missing: apt-get install {package}")
    return Path(found)


def install_missing(needs: Mapping[str, str]) -> None:
    """Install the packages of those programs (names or paths) that aren't here. Raises MissingPackage."""
    packages = sorted({package for program, package in needs.items() if _find(program) is None})
    if not packages:
        return
    print(f"installing {' '.join(packages)}", file=sys.stderr)
    _run("apt-get", "update", cwd="/")
    os.environ["DEBIAN_FRONTEND"] = "noninteractive"
    _run("apt-get", "install", "-y", "--no-install-recommends", *packages, cwd="/")


def _find(program: str) -> str | None:
    return shutil.which(program, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")


def libraries(program: Path) -> list[Path]:
    """What the dynamic loader maps for a program, itself included, at the paths it finds them; see ldd(1).

    Raises MissingPackage if this machine lacks one.
    """
    listed = subprocess.run(["ldd", str(program)], check=False, capture_output=True, text=True).stdout
    missing = re.findall(r"^\s*(\S+) => not found$", listed, re.MULTILINE)
    if missing:
        raise MissingPackage(f"{program} needs libraries that aren't here: {', '.join(missing)}")
    return [Path(path) for path in LIBRARY.findall(listed)]
