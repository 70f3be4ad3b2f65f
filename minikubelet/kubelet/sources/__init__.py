"""Where desired pods come from."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Protocol

from minikubelet.kubelet.objects import Pod


class PodSource(Protocol):
    """A place that says which pods the node shall run."""

    def watch(self) -> AsyncIterator[list[Pod]]:
        """The whole set of pods, each time it changes; complete (defaults, UIDs), valid, no UID twice.

        Of several of one name the first is meant, unless another runs; the others wait until it has gone.
        """


def is_complete(source: PodSource) -> bool:
    """Whether what a source has told is all there is; a source without ``complete`` tells all at once.

    Until then pods of the runtime that nobody asks for are left alone.
    """
    return bool(getattr(source, "complete", True))
