"""Processes named so that a PID's next owner is never hit: pidfd and start time."""

from __future__ import annotations

import contextlib
import os
import signal


def start_ticks(pid: int) -> int:
    """Field 22 of /proc/PID/stat, clock ticks since boot; 0 when there is no such process."""
    try:
        fd = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
    except (FileNotFoundError, ProcessLookupError):
        return 0
    try:
        text = os.read(fd, 4096)
    except ProcessLookupError:
        return 0
    finally:
        os.close(fd)
    return int(text.rpartition(b")")[2].split()[19])


def open_exact(pid: int, ticks: int) -> int:
    """A pidfd of the process that has ``pid`` and started at ``ticks``. Raises ProcessLookupError."""
    fd = os.pidfd_open(pid)
    if start_ticks(pid) != ticks:
        os.close(fd)
        raise ProcessLookupError(f"process {pid} has another start time")
    return fd


def open_if_alive(pid: int) -> int:
    """A pidfd of a child; -1 when it has been reaped already. Raises OSError."""
    try:
        return os.pidfd_open(pid)
    except ProcessLookupError:
        return -1


def send(pidfd: int, number: int) -> bool:
    """Send a signal; False when the process has ended. Raises OSError for anything else."""
    try:
        signal.pidfd_send_signal(pidfd, number)
    except ProcessLookupError:
        return False
    return True


def kill(pidfd: int) -> None:
    """SIGKILL, whatever state the process is in."""
    with contextlib.suppress(ProcessLookupError):
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
