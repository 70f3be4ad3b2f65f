"""What a Node says of its machine: v1 NodeSystemInfo, as far as files of this machine tell. Blocking."""

from __future__ import annotations

import platform

from minikubelet.linux.sync import boot_id


def system_info() -> dict[str, str]:
    """The fields that have nothing to do with a kubelet; what can't be found out is empty."""
    return {
        "machineID": _line("/etc/machine-id"),
        "systemUUID": _line("/sys/class/dmi/id/product_uuid"),
        "bootID": boot_id(),
        "kernelVersion": platform.release(),
        "osImage": _os_image(),
        "operatingSystem": "linux",
    }


def _line(path: str) -> str:
    """The first line of a file, which not every machine has."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.readline(256).strip()
    except OSError:
        return ""


def _os_image() -> str:
    """The distribution's name for people (os-release(5))."""
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME", "")
    except OSError:
        return ""
