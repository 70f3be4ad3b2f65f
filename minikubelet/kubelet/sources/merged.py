"""Several sources as one."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence

from minikubelet.kubelet.manifests.errors import ManifestError
from minikubelet.kubelet.objects import Pod
from minikubelet.kubelet.sources import PodSource
from minikubelet.kubelet.sources.reading import Report


class MergedSource:
    """The pods of all sources. None waits for another.

    Of two pods of one name or UID in two sources that of the earlier source counts.
    """

    def __init__(self, sources: Sequence[PodSource], report: Report) -> None:
        self._sources = sources
        self._report = report
        self._latest: list[list[Pod] | None] = [None] * len(sources)
        self._clashes: set[str] = set()
        self.complete = False
        """Whether every source has a part in what was told last."""

    async def watch(self) -> AsyncIterator[list[Pod]]:
        """See :class:`PodSource`. Raises what a source raises."""
        changed = asyncio.Event()
        tasks = [
            asyncio.create_task(self._follow(index, source, changed))
            for index, source in enumerate(self._sources)
        ]
        try:
            while True:
                waiting = asyncio.create_task(changed.wait())
                done, _ = await asyncio.wait({waiting, *tasks}, return_when=asyncio.FIRST_COMPLETED)
                waiting.cancel()
                for task in [task for task in tasks if task in done]:
                    task.result()  # raises what the source has died of
                    tasks.remove(task)
                if changed.is_set():
                    changed.clear()
                    yield self._merge()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _follow(self, index: int, source: PodSource, changed: asyncio.Event) -> None:
        async with contextlib.aclosing(source.watch()) as updates:  # type: ignore[type-var]
            async for pods in updates:
                self._latest[index] = pods
                changed.set()

    def _merge(self) -> list[Pod]:
        self.complete = all(pods is not None for pods in self._latest)
        kept: list[Pod] = []
        taken: set[str] = set()
        clashes: set[str] = set()
        for pods in self._latest:
            mine: set[str] = set()
            for pod in pods or []:
                if pod.key in taken or pod.uid in taken:
                    clashes.add(pod.key)
                    continue
                mine |= {pod.key, pod.uid}
                kept.append(pod)
            taken |= mine
        for key in sorted(clashes - self._clashes):
            self._report(ManifestError(f"pod {key} comes from two sources; the first one counts"), "error")
        self._clashes = clashes
        return kept
