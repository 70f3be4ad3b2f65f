"""The garbage collector of a process that stays (gc)."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator


@contextlib.contextmanager
def settling() -> Iterator[None]:
    """For what a process does once, at its start: one collection, at the end; what is left then stays.

    Modules, classes and code are most of the daemon's objects and never garbage. Looking at them all takes up
    to 0.1 s, in which nothing else happens, and would come when there is most to do.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.collect()
        gc.freeze()
        gc.enable()
