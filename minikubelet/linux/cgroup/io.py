"""The io controller: what a cgroup has read and written, by block device."""

from __future__ import annotations

from dataclasses import dataclass

from minikubelet.linux.cgroup.files import nested, read


@dataclass(frozen=True)
class DeviceIo:
    """One line of io.stat."""

    device: str
    """``major:minor``."""
    read_bytes: int
    write_bytes: int
    read_operations: int
    write_operations: int


def stats(folder: str) -> list[DeviceIo] | None:
    """One entry a device; None without the controller. Raises OSError."""
    text = read(folder, "io.stat")
    if text is None:
        return None
    return [
        DeviceIo(
            device,
            int(values.get("rbytes", 0)),
            int(values.get("wbytes", 0)),
            int(values.get("rios", 0)),
            int(values.get("wios", 0)),
        )
        for device, values in nested(text).items()
    ]
