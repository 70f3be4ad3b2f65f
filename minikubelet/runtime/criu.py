"""The program criu: where it is, and what it says when it fails."""

from __future__ import annotations

import shutil

from minikubelet.base.errors import Code, NodeError

FOLDERS = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_REASON = 3000
"""Characters of CRIU's log that an error shows."""


def find() -> str:
    """Its path. Raises UNIMPLEMENTED when it is not installed."""
    program = shutil.which("criu", path=FOLDERS)
    if program is None:
        raise NodeError(Code.UNIMPLEMENTED, "checkpoints need CRIU, and no program criu is installed")
    return program


def errors(log_path: str) -> str:
    """The lines of its log that tell of errors."""
    try:
        with open(log_path, errors="replace") as file:
            lines = [line.partition("): ")[2].strip() for line in file if "Error (" in line]
    except OSError:
        lines = []
    return "; ".join(lines)[:_REASON] or "it gives no reason"
