"""The OOM score of processes that run already."""

from __future__ import annotations

import contextlib

from minikubelet.linux.cgroup import core

_GONE = (FileNotFoundError, ProcessLookupError)


def set_scores(folder: str, score: int, proc: str = "/proc") -> bool:
    """Give all processes in and below a cgroup the ``oom_score_adj`` (proc_pid_oom_score_adj(5)).

    The scores of processes that a program starts are its own, so those that are there are enough. Returns
    False where one may not have a score that low, which takes CAP_SYS_RESOURCE. Raises OSError.
    """
    allowed = True
    for part in core.descendants(folder):
        for pid in core.processes(part):
            try:
                with contextlib.suppress(*_GONE), open(f"{proc}/{pid}/oom_score_adj", "w") as file:
                    file.write(str(score))
            except PermissionError:
                allowed = False
    return allowed
