"""Executing one CNI plugin: environment, standard input, time-out, and its errors as ours.

asyncio's subprocesses are made with vfork and executed at once; no code of the threaded daemon runs in them.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
from dataclasses import dataclass, field

from minikubelet.base.errors import Code, NodeError
from minikubelet.network.cni_config import Json

_KEPT = ("PATH", "LANG", "TZ")
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_TEXT = 2000
"""Characters of a plugin's message that are passed on."""
MAX_OUTPUT = 1 << 20


@dataclass(frozen=True)
class Call:
    """One execution. ``netns`` is a path, empty when there is none (any more)."""

    command: str
    container_id: str = ""
    netns: str = ""
    interface: str = ""
    arguments: dict[str, str] = field(default_factory=dict)
    timeout: float = 60.0
    """Seconds; then the plugin and what it started in its process group is killed."""


class PluginError(NodeError):
    """A plugin failed; ``number`` is its own code, 0 when it gave none."""

    def __init__(self, plugin: str, command: str, text: str, number: int = 0, code: Code | None = None):
        self.number = number
        suffix = f" (code {number})" if number else ""
        message = f'plugin type="{plugin}" failed ({command.lower()}): {text[:_TEXT]}{suffix}'
        super().__init__(code or Code.INTERNAL, message)


def find(plugin: str, folders: list[str]) -> str:
    """The plugin's path in the first folder that has it. Raises NodeError."""
    for folder in folders:
        path = f"{folder}/{plugin}"
        if os.path.isfile(path) and os.access(path, os.X_OK):
            return path
    text = f"failed to find plugin {plugin!r} in {', '.join(folders)}"
    raise NodeError(Code.FAILED_PRECONDITION, text)


async def execute(folders: list[str], config: Json, call: Call) -> Json:
    """Run the plugin of ``config``; returns what it printed ({} for nothing). Raises NodeError."""
    plugin = str(config["type"])
    path = find(plugin, folders)
    try:
        process = await asyncio.create_subprocess_exec(
            path,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=_environment(folders, call),
            cwd="/",
            start_new_session=True,
        )
    except OSError as exc:
        raise PluginError(plugin, call.command, f"{path}: {exc.strerror or exc}") from exc
    try:
        output, errors = await asyncio.wait_for(_talk(process, json.dumps(config).encode()), call.timeout)
    except TimeoutError:
        text = f"no answer within {call.timeout:g} s"
        raise PluginError(plugin, call.command, text, code=Code.DEADLINE_EXCEEDED) from None
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
    if len(output) >= MAX_OUTPUT:
        raise PluginError(plugin, call.command, f"it printed more than {MAX_OUTPUT} bytes")
    if process.returncode != 0:
        raise _failure(plugin, call.command, process.returncode or 0, output, errors)
    return _parse(plugin, call.command, output)


async def _talk(process: asyncio.subprocess.Process, config: bytes) -> tuple[bytes, bytes]:
    assert process.stdin and process.stdout and process.stderr

    async def read(stream: asyncio.StreamReader) -> bytes:
        kept = b""
        while data := await stream.read(65536):
            kept += data[: MAX_OUTPUT - len(kept)]  # the rest is read and dropped: a full pipe would block it
        return kept

    async def write(stream: asyncio.StreamWriter) -> None:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            stream.write(config)
            await stream.drain()
        stream.close()

    output, errors, _, _ = await asyncio.gather(
        read(process.stdout), read(process.stderr), write(process.stdin), process.wait()
    )
    return output, errors


def _environment(folders: list[str], call: Call) -> dict[str, str]:
    environment = {name: os.environ[name] for name in _KEPT if name in os.environ}
    environment.setdefault("PATH", _PATH)
    environment["CNI_COMMAND"] = call.command
    environment["CNI_PATH"] = ":".join(folders)
    if call.container_id:
        environment["CNI_CONTAINERID"] = call.container_id
        environment["CNI_IFNAME"] = call.interface
        environment["CNI_NETNS"] = call.netns
        environment["CNI_ARGS"] = ";".join(f"{key}={value}" for key, value in call.arguments.items())
    return environment


def _parse(plugin: str, command: str, output: bytes) -> Json:
    if not output.strip():
        return {}
    try:
        result = json.loads(output)
    except (ValueError, RecursionError) as exc:
        raise PluginError(plugin, command, f"it printed no JSON: {exc}") from exc
    if not isinstance(result, dict):
        raise PluginError(plugin, command, "it printed no JSON object")
    return result


def _failure(plugin: str, command: str, status: int, output: bytes, errors: bytes) -> PluginError:
    try:
        told = json.loads(output)
        number, message, details = told.get("code", 0), told.get("msg", ""), told.get("details", "")
    except (ValueError, RecursionError, AttributeError):
        number, message, details = 0, "", ""
    if not message:
        ended = f"exit status {status}" if status > 0 else f"signal {-status}"
        said = (errors.strip() or output.strip()).decode(errors="replace")
        message = f"{ended}: {said}" if said else ended
    text = f"{message}; {details}" if details else str(message)
    return PluginError(plugin, command, text, number if isinstance(number, int) else 0)
