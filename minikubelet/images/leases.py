"""What running pulls need: content that garbage collection must not take while nothing refers to it yet."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from minikubelet.images.models import PullEvent, Status

Progress = Callable[[PullEvent], None]


@dataclass(eq=False)
class Lease:
    """The wants of one pull or load, known before it begins to fetch them."""

    digests: set[str] = field(default_factory=set)
    diff_ids: set[str] = field(default_factory=set)
    progress: Progress | None = None


class Leases:
    """All leases in force; also tells those who want a layer how it gets on."""

    def __init__(self) -> None:
        self._leases: set[Lease] = set()

    @contextlib.contextmanager
    def take(self, progress: Progress | None = None) -> Iterator[Lease]:
        """A lease for the time of the block; fill its sets before anything is fetched."""
        lease = Lease(progress=progress)
        self._leases.add(lease)
        try:
            yield lease
        finally:
            self._leases.discard(lease)

    def wants_blob(self, digest: str) -> bool:
        """Whether somebody is about to use this blob."""
        return any(digest in lease.digests for lease in self._leases)

    def wants_layer(self, diff_id: str) -> bool:
        """Whether somebody is about to use a layer with this content."""
        return any(diff_id in lease.diff_ids for lease in self._leases)

    def report(self, digest: str, offset: int, total: int, status: Status) -> None:
        """Tell all who want blob ``digest``."""
        event = PullEvent(digest, offset, total, status)
        for lease in list(self._leases):
            if lease.progress and digest in lease.digests:
                lease.progress(event)
