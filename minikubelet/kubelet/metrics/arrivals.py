"""What is counted when work on a pod begins: how long it has been desired, whether it was there before."""

from __future__ import annotations

from collections.abc import Collection

from minikubelet.base import clock
from minikubelet.kubelet.metrics.instruments import Instruments


class Arrivals:
    """The desired pods of one kubelet, by UID."""

    def __init__(self, counted: Instruments) -> None:
        self._counted = counted
        self._since: dict[str, float] = {}
        self._returning: set[str] = set()

    def desired(self, uids: Collection[str]) -> None:
        """These are all that are desired now."""
        now = clock.monotonic()
        self._since = {uid: self._since.get(uid, now) for uid in uids}
        self._returning &= set(uids)

    def returns(self, uid: str) -> None:
        """That one is to come again as soon as it has gone."""
        self._returning.add(uid)

    def starts(self, uid: str, refused: str = "") -> None:
        """Work on it begins; ``refused`` is the reason if it isn't admitted."""
        now = clock.monotonic()
        self._counted.worker_start.observe(now - self._since.get(uid, now))
        if refused:
            self._counted.allocation.rejected(refused)
        if uid in self._returning:
            self._returning.remove(uid)
            self._counted.restarted_pods.inc(("true",))
