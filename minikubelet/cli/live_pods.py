"""The node's pods as a watch tells of them: what they are now, up to a moment in time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from minikubelet.cli.api_client import ApiClient, full_name
from minikubelet.cli.options import CommandError

Json = dict[str, Any]


class LivePods:
    """All pods of the node; none is older than the beginning."""

    def __init__(self, client: ApiClient, end: float | None) -> None:
        """``end``: when :meth:`until` gives up, seconds of :func:`time.monotonic`."""
        # First the watch, then the list: what happens in between is told by the watch.
        self._changes = client.open_watch("/pods").changes(end)
        self._pods = {_uid(pod): pod for pod in client.pods()}
        self._over = False

    def all(self) -> list[Json]:
        """Those there are."""
        return list(self._pods.values())

    def find(self, namespace: str, name: str) -> Json | None:
        """The pod of that name; a manifest's pod is called NAME-NODE, and NAME will do for it."""
        here = [pod for pod in self._pods.values() if pod["metadata"].get("namespace") == namespace]
        full = full_name(here, name)
        return next((pod for pod in here if pod["metadata"]["name"] == full), None)

    def has(self, pod: Json) -> bool:
        """Whether that very pod is still there, rather than another of its name."""
        return _uid(pod) in self._pods

    def until(self, happened: Callable[[], bool]) -> bool:
        """Take changes in until something has happened; False if that isn't before the end.

        Raises CommandError if the kubelet ends.
        """
        while not happened():
            if self._over:
                return False
            try:
                change = next(self._changes, None)
            except TimeoutError:
                self._over = True
                continue
            if change is None:
                raise CommandError("the kubelet has ended")
            if change["type"] == "DELETED":
                self._pods.pop(_uid(change["object"]), None)
            else:
                self._pods[_uid(change["object"])] = change["object"]
        return True


def _uid(pod: Json) -> str:
    return str(pod["metadata"].get("uid", ""))
