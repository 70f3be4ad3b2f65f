"""CRI enumerations as the words the model uses; an unknown number is an error naming the field."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from minikubelet.base.errors import invalid
from minikubelet.criapi import api_pb2 as api

PROTOCOL: dict[int, str] = {api.TCP: "TCP", api.UDP: "UDP", api.SCTP: "SCTP"}
NAMESPACE: dict[int, str] = {
    api.POD: "pod",
    api.CONTAINER: "container",
    api.NODE: "node",
    api.TARGET: "target",
}
PROPAGATION: dict[int, str] = {
    api.PROPAGATION_PRIVATE: "private",
    api.PROPAGATION_HOST_TO_CONTAINER: "host-to-container",
    api.PROPAGATION_BIDIRECTIONAL: "bidirectional",
}
GROUPS_POLICY: dict[int, str] = {api.Merge: "Merge", api.Strict: "Strict"}
PROFILE: dict[int, str] = {
    api.SecurityProfile.RuntimeDefault: "RuntimeDefault",
    api.SecurityProfile.Unconfined: "Unconfined",
    api.SecurityProfile.Localhost: "Localhost",
}


def _signal_word(name: str) -> str:
    """``SIGNAL_SIGRTMINPLUS3`` → ``SIGRTMIN+3``."""
    return name.removeprefix("SIGNAL_").replace("MINPLUS", "MIN+").replace("MAXMINUS", "MAX-")


SIGNAL: dict[int, str] = {
    number: "" if number == api.SIGNAL_RUNTIME_DEFAULT else _signal_word(name)
    for name, number in api.Signal.items()
}

NAMESPACE_NUMBER: dict[str, Any] = {word: number for number, word in NAMESPACE.items()}
PROPAGATION_NUMBER: dict[str, Any] = {word: number for number, word in PROPAGATION.items()}
SIGNAL_NUMBER: dict[str, Any] = {word: number for number, word in SIGNAL.items()}


def word(field: str, table: Mapping[int, str], number: int) -> str:
    """The model's word for an enumeration's value. Raises INVALID_ARGUMENT."""
    try:
        return table[number]
    except KeyError:
        raise invalid(field, f"{number} is no value of this enumeration") from None
