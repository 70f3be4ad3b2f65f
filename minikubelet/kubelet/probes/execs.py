"""Exec probes: a command in the container, through the runtime's ExecSync."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from minikubelet.base.errors import Code, NodeError
from minikubelet.kubelet.backoff import spell
from minikubelet.kubelet.expansion import expand
from minikubelet.kubelet.objects.containers import Container
from minikubelet.kubelet.probes.outcome import Outcome, ProbeError, failure, success
from minikubelet.kubelet.quoting import quote

OUTPUT_LIMIT = 10 * 1024


class ExecResult(Protocol):
    """What of runtime.v1.ExecSyncResponse is used."""

    @property
    def stdout(self) -> bytes: ...
    @property
    def stderr(self) -> bytes: ...
    @property
    def exit_code(self) -> int: ...


ExecSync = Callable[[str, list[str], float], Awaitable[Any]]
"""``(container ID, command, time-out in seconds)`` to an :class:`ExecResult`; raises NodeError."""


async def probe(run: ExecSync, container_id: str, command: list[str], timeout: float) -> Outcome:
    """Exit code 0 is good; a command that doesn't end in time is a failure. Raises ProbeError."""
    try:
        result: ExecResult = await run(container_id, command, timeout)
    except NodeError as exc:
        if exc.code is Code.DEADLINE_EXCEEDED:
            return failure(f"command timed out: {quote(' '.join(command))} timed out after {spell(timeout)}")
        raise ProbeError(str(exc)) from exc
    output = (result.stdout + result.stderr)[:OUTPUT_LIMIT].decode("utf-8", "replace")
    return success(output) if result.exit_code == 0 else failure(output)


def expand_static(command: list[str], container: Container) -> list[str]:
    """``$(NAME)`` replaced by the container's literal variables; ``$$`` is one ``$``; others stay.

    Probes see the values of the manifest alone: what comes from fieldRef or the like is empty for them, and
    nothing is replaced inside the values (upstream does the same).
    """
    values = {variable.name: variable.value for variable in container.env}
    return [expand(word, values) for word in command]
