"""One error type for every room, mapped once to gRPC, HTTP and exit codes at the edges."""

from __future__ import annotations

import enum
import errno
import os


class Code(enum.Enum):
    """Why a request failed; the value is the gRPC status code of that name (google.rpc.Code)."""

    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    UNAUTHENTICATED = 16


class NodeError(Exception):
    """An error with a code that a caller outside the process will see.

    ``reason`` is an optional machine-readable word (``ErrImagePull``-like), ``field`` the request or
    configuration field that was wrong.
    """

    def __init__(self, code: Code, message: str, *, field: str = "", reason: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.field = field
        self.reason = reason

    def __str__(self) -> str:
        if self.field and not self.message.startswith(self.field):
            return f"{self.field}: {self.message}"
        return self.message


def invalid(field: str, message: str) -> NodeError:
    """An INVALID_ARGUMENT error that names the field."""
    return NodeError(Code.INVALID_ARGUMENT, message, field=field)


def not_found(what: str, identifier: str) -> NodeError:
    """A NOT_FOUND error: ``not_found("container", "abc")``."""
    return NodeError(Code.NOT_FOUND, f"{what} {identifier!r} not found")


def unimplemented(what: str) -> NodeError:
    """An UNIMPLEMENTED error that names what is not built."""
    return NodeError(Code.UNIMPLEMENTED, f"{what} is not implemented by minikubelet")


def precondition(message: str) -> NodeError:
    """A FAILED_PRECONDITION error: the object's state does not allow the call."""
    return NodeError(Code.FAILED_PRECONDITION, message)


class StepError(NodeError):
    """A kernel step that failed in another process: the step's name, errno and the path or object."""

    def __init__(self, step: str, number: int, path: str = "", detail: str = "") -> None:
        self.step = step
        self.number = number
        self.path = path
        self.detail = detail
        text = detail or (os.strerror(number) if number else "failed")
        where = f" {path!r}" if path else ""
        name = errno.errorcode.get(number, str(number)) if number else ""
        suffix = f" ({name})" if name else ""
        super().__init__(_code_of(number), f"{step}{where}: {text}{suffix}")


def _code_of(number: int) -> Code:
    if number in (errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.ENOMEM):
        return Code.RESOURCE_EXHAUSTED
    return Code.INTERNAL
