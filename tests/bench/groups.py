"""What is measured, by the names that `--only` takes, in the order in which it is done."""

from __future__ import annotations

from collections.abc import Callable

from tests.bench import calls, measures, streams
from tests.bench.measures import Bench

GROUPS: dict[str, Callable[[Bench], None]] = {
    "lifecycle": measures.lifecycle,
    "throughput": measures.throughput,
    "lists": calls.lists,
    "memory": measures.memory,
    "streams": streams.transfers,
    "logs": streams.logs,
    "pull": measures.pull,
}
