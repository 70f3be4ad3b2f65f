"""What CRIU leaves for the monitor when it has restored a container, or has not."""

from __future__ import annotations

import errno
import os

from minikubelet.base.errors import StepError
from minikubelet.spawner.steps.restore import LOG, PID_FILE
from minikubelet.wire.messages import Restore, StartContainer

STEP = "restore the container"


def check_restorable(request: StartContainer, users: bool) -> None:
    """Raises StepError for what can't be restored."""
    if request.pid_namespace != "container" or users or request.process.tty:
        detail = "only without a terminal, and in a PID namespace of its own that belongs to the host's users"
        raise StepError(STEP, errno.EOPNOTSUPP, detail=detail)


def restored_pid(restore: Restore, wait_status: int) -> int:
    """The restored init's PID. Raises StepError when CRIU has failed."""
    log = f"{restore.work}/{LOG}"
    code = os.waitstatus_to_exitcode(wait_status)
    if code != 0:
        raise StepError(STEP, 0, log, f"CRIU ended with {code}")
    try:
        fd = os.open(f"{restore.work}/{PID_FILE}", os.O_RDONLY | os.O_CLOEXEC)
        try:
            return int(os.read(fd, 32))
        finally:
            os.close(fd)
    except (OSError, ValueError) as exc:
        raise StepError(STEP, 0, log, f"CRIU has not said what it restored: {exc}") from exc
