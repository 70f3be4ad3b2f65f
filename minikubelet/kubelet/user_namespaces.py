"""Pods with ``hostUsers: false``: each gets a range of the node's IDs of its own (KEP-127).

The ranges lie where /etc/subuid and /etc/subgid give them to the user ``kubelet``; without such a user from
ID 65536 on (or whatever a pod gets), one range for each of the most pods the node runs, as upstream has it.
"""

from __future__ import annotations

import logging
import os
import pwd
from collections.abc import Iterable
from dataclasses import dataclass

from minikubelet.base.errors import Code, NodeError
from minikubelet.criapi import api_pb2 as api

log = logging.getLogger(__name__)

LENGTH = 65536
"""IDs a pod; ``userNamespaces.idsPerPod`` is this or a multiple."""
USER = "kubelet"


@dataclass(frozen=True, slots=True)
class Range:
    """The IDs of one pod."""

    first: int
    length: int = LENGTH

    def overlaps(self, other: Range) -> bool:
        """Whether an ID is in both."""
        return self.first < other.first + other.length and other.first < self.first + self.length


class UserNamespaces:
    """Hands out ranges. One kubelet's; all pods of the node share the pool."""

    def __init__(self, most_pods: int, etc: str = "/etc", length: int = LENGTH) -> None:
        self._length = length
        self._first, self._count = _pool(most_pods, etc, length)
        self._used: dict[str, Range] = {}
        """By pod UID."""

    def take(self, uid: str) -> Range:
        """The pod's IDs: what it has already, else a free range. Raises NodeError."""
        if uid in self._used:
            return self._used[uid]
        regular = {each.first for each in self._used.values() if each.length == self._length}
        odd = [
            each for each in self._used.values() if each.first % self._length or each.length != self._length
        ]
        for index in range(self._count):
            made = Range(self._first + index * self._length, self._length)
            if made.first not in regular and not any(map(made.overlaps, odd)):
                self._used[uid] = made
                return made
        message = "create user namespace: could not find an empty slot to allocate a user namespace"
        raise NodeError(Code.RESOURCE_EXHAUSTED, message)

    def remember(self, ranges: Iterable[tuple[str, Range]]) -> None:
        """What an earlier run's pods have, by UID, of any length; IDs given twice stay with the first."""
        for uid, made in ranges:
            others = [each for owner, each in self._used.items() if owner != uid]
            if any(map(made.overlaps, others)):
                log.error("pod %s: its user IDs from %d on belong to another pod", uid, made.first)
                continue
            self._used[uid] = made

    def release(self, uid: str) -> None:
        """The pod is gone."""
        self._used.pop(uid, None)


def options(made: Range) -> api.UserNamespace:
    """A range as CRI wants it."""
    ids = [api.IDMapping(host_id=made.first, container_id=0, length=made.length)]
    return api.UserNamespace(mode=api.POD, uids=ids, gids=ids)


def _pool(most_pods: int, etc: str, length: int) -> tuple[int, int]:
    """First ID and number of ranges."""
    try:
        number = str(pwd.getpwnam(USER).pw_uid)
    except KeyError:
        return length, most_pods
    uids = _subordinate(os.path.join(etc, "subuid"), number)
    gids = _subordinate(os.path.join(etc, "subgid"), number)
    if uids is None or uids != gids:
        log.warning(
            "user %s has no single range of IDs, the same in %s/subuid and subgid: not used", USER, etc
        )
        return length, most_pods
    first = -(-uids[0] // length) * length
    return first, max(0, uids[0] + uids[1] - first) // length


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
