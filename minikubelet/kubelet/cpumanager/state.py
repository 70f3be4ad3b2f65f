"""What the CPU manager has given out, in a file: a restarted daemon must not give it out again."""

from __future__ import annotations

import logging
import zlib

import msgspec

from minikubelet.base import files

log = logging.getLogger(__name__)


class State(msgspec.Struct, rename="camel"):
    """The file's content: upstream's fields, but the checksum is CRC-32 (upstream's is over Go's structs)."""

    policy_name: str
    default_cpu_set: str
    """CPUs that containers without their own share."""
    entries: dict[str, dict[str, str]] = msgspec.field(default_factory=dict)
    """Pod UID → container → CPUs."""
    checksum: int = 0


def checksum(state: State) -> int:
    """Over everything but the checksum."""
    return zlib.crc32(msgspec.json.encode(msgspec.structs.replace(state, checksum=0), order="deterministic"))


def save(path: str, state: State) -> None:
    """Replace the file. Raises OSError."""
    state.checksum = checksum(state)
    files.write_atomic(path, msgspec.json.encode(state))


def load(path: str, policy: str) -> State | None:
    """The state of an earlier run; None if there is none, or none that can be relied on (logged)."""
    try:
        with open(path, "rb") as file:
            state = msgspec.json.decode(file.read(1 << 20), type=State)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.DecodeError) as exc:
        log.error("%s can't be read, CPUs are given out anew: %s", path, exc)
        return None
    if state.checksum != checksum(state):
        log.error("%s has a wrong checksum, CPUs are given out anew", path)
        return None
    if state.policy_name != policy:
        log.warning("%s is of the policy %s, CPUs are given out anew", path, state.policy_name)
        return None
    return state
