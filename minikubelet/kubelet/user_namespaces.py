"""Pods with ``hostUsers: false``: each gets a range of the node's IDs of its own (KEP-127).

The ranges lie where /etc/subuid and /etc/subgid give them to the user ``kubelet``; without such a user from
ID 65536 on, one range for each of the most pods the node runs, as upstream's kubelet has it.
"""

from __future__ import annotations

import logging
import os
import pwd
from collections.abc import Iterable

from minikubelet.base.errors import Code, NodeError
from minikubelet.criapi import api_pb2 as api

log = logging.getLogger(__name__)

LENGTH = 65536
"""IDs a pod."""
USER = "kubelet"


class UserNamespaces:
    """Hands out ranges. One kubelet's; all pods of the node share the pool."""

    def __init__(self, most_pods: int, etc: str = "/etc") -> None:
        self._first, self._count = _pool(most_pods, etc)
        self._used: dict[str, int] = {}
        """First ID by pod UID."""

    def take(self, uid: str) -> int:
        """The pod's first ID: what it has already, else that of a free range. Raises NodeError."""
        if uid in self._used:
            return self._used[uid]
        taken = set(self._used.values())
        for index in range(self._count):
            first = self._first + index * LENGTH
            if first not in taken:
                self._used[uid] = first
                return first
        message = "create user namespace: could not find an empty slot to allocate a user namespace"
        raise NodeError(Code.RESOURCE_EXHAUSTED, message)

    def remember(self, ranges: Iterable[tuple[str, int]]) -> None:
        """Ranges (pod UID, first ID) of an earlier run's pods; one given twice stays with the first."""
        for uid, first in ranges:
            if first in self._used.values() and self._used.get(uid) != first:
                log.error("pod %s: its user IDs from %d on belong to another pod", uid, first)
                continue
            self._used[uid] = first

    def release(self, uid: str) -> None:
        """The pod is gone."""
        self._used.pop(uid, None)


def options(first: int) -> api.UserNamespace:
    """A range as CRI wants it."""
    ids = [api.IDMapping(host_id=first, container_id=0, length=LENGTH)]
    return api.UserNamespace(mode=api.POD, uids=ids, gids=ids)


def _pool(most_pods: int, etc: str) -> tuple[int, int]:
    """First ID and number of ranges."""
    try:
        number = str(pwd.getpwnam(USER).pw_uid)
    except KeyError:
        return LENGTH, most_pods
    uids = _subordinate(os.path.join(etc, "subuid"), number)
    gids = _subordinate(os.path.join(etc, "subgid"), number)
    if uids is None or uids != gids:
        log.warning(
            "user %s has no single range of IDs, the same in %s/subuid and subgid: not used", USER, etc
        )
        return LENGTH, most_pods
    first = -(-uids[0] // LENGTH) * LENGTH
    return first, max(0, uids[0] + uids[1] - first) // LENGTH


def _subordinate(path: str, number: str) -> tuple[int, int] | None:
    """First ID and length of the only range that a user has, subuid(5)."""
    found = []
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            for line in file:
                name, _, rest = line.strip().partition(":")
                first, _, length = rest.partition(":")
                if name in (USER, number) and first.isdigit() and length.isdigit():
                    found.append((int(first), int(length)))
    except OSError:
        return None
    return found[0] if len(found) == 1 else None
