"""What a foreground run prints, line by line."""

from __future__ import annotations

import os
import sys
import time
from typing import TextIO

from minikubelet.cli import text
from minikubelet.kubelet.events import WARNING, Event
from minikubelet.kubelet.objects import Pod


class Reporter:
    """One line an occurrence: seconds since the start, pod, what happened."""

    def __init__(self, start: float, names: dict[str, str], output: TextIO | None = None) -> None:
        self._start = start
        self._names = names
        self._output = output or sys.stdout
        self._colors = self._output.isatty() and "NO_COLOR" not in os.environ
        self._width = max((len(name) for name in names.values()), default=0)

    def say(self, words: str, name: str = "") -> None:
        """A line of our own."""
        elapsed = time.monotonic() - self._start
        gap = f"{name:<{self._width}}  " if name else ""
        print(f"{elapsed:8.2f}s  {gap}{words}", file=self._output, flush=True)

    def event(self, event: object) -> None:
        """A pod's event; repeated ones are shown once more only as warnings."""
        assert isinstance(event, Event)
        name = self._names.get(event.involved_object.uid)
        if name is None or (event.count > 1 and event.type != WARNING):
            return
        field = event.involved_object.field_path
        container = field.partition("{")[2].rstrip("}")
        where = f"{container}: " if container else ""
        times = f" (x{event.count})" if event.count > 1 else ""
        message = text.escape(" ".join(event.message.split()))
        self.say(self._paint(f"{event.reason:<10} {where}{message}{times}", event.type == WARNING), name)

    def ready(self, pod: Pod, urls: list[str]) -> None:
        """A pod is Ready; what answers."""
        self.say(self._paint(f"is Ready ({pod.status.pod_ip})", False, good=True), pod.metadata.name)
        for url in urls:
            self.say(f"answers on {url}", pod.metadata.name)

    def ended(self, pod: Pod) -> None:
        """A pod has reached its last phase."""
        failed = pod.status.phase == "Failed"
        self.say(self._paint(f"has {pod.status.phase.lower()}", failed, good=not failed), pod.metadata.name)

    def gone(self, pod: Pod) -> None:
        """A pod has been removed."""
        self.say("is gone", pod.metadata.name)

    def _paint(self, words: str, bad: bool, good: bool = False) -> str:
        if not self._colors or not (bad or good):
            return words
        return f"\x1b[{33 if bad else 32}m{words}\x1b[0m"
