"""Progress of a pull: bars that are redrawn on a terminal, plain lines elsewhere."""

from __future__ import annotations

import os
import shutil
import time
from dataclasses import dataclass
from typing import TextIO

from minikubelet.cli import text

_REDRAW = 0.1
"""Seconds between two drawings."""
_BAR = 30
_WORDS = {
    "waiting": "Waiting",
    "downloading": "Downloading",
    "extracting": "Extracting",
    "exists": "Already exists",
    "done": "Done",
}


@dataclass
class Layer:
    """What is known of one layer."""

    status: str = "waiting"
    offset: int = 0
    total: int = 0


class Progress:
    """Fed with layers' states; draws on ``output``."""

    def __init__(self, output: TextIO, *, bars: bool | None = None) -> None:
        self._output = output
        self._bars = output.isatty() and os.environ.get("TERM") != "dumb" if bars is None else bars
        self._layers: dict[str, Layer] = {}
        self._drawn = 0
        self._last = 0.0

    def update(self, digest: str, layer: Layer) -> None:
        """One layer has got on."""
        before = self._layers.get(digest)
        self._layers[digest] = layer
        changed = before is None or before.status != layer.status
        if self._bars:
            if changed or time.monotonic() - self._last >= _REDRAW:
                self._draw()
        elif changed and layer.status != "waiting":
            print(self._plain(digest, layer), file=self._output, flush=True)

    def finish(self) -> None:
        """Draw the last state; later output goes below it."""
        if self._bars and self._layers:
            self._draw()

    def _plain(self, digest: str, layer: Layer) -> str:
        words = _WORDS.get(layer.status, layer.status)
        amount = (
            f" ({text.size(layer.total)})" if layer.total and layer.status in ("downloading", "done") else ""
        )
        return f"{short(digest)}: {words}{amount}"

    def _draw(self) -> None:
        width, height = shutil.get_terminal_size()
        # More lines than the screen has can't be redrawn: the layers in work come first, the rest is counted.
        order = sorted(self._layers.items(), key=lambda item: item[1].status in ("done", "exists"))
        shown = order[: max(1, height - 2)] if len(order) > height - 1 else list(self._layers.items())
        lines = [bar(short(digest), layer)[: width - 1] for digest, layer in shown]
        if len(shown) < len(order):
            lines.append(f"... and {len(order) - len(shown)} more")
        up = f"\x1b[{self._drawn}A" if self._drawn else ""
        self._output.write(up + "".join(f"\r\x1b[2K{line}\n" for line in lines) + "\x1b[J")
        self._output.flush()
        self._drawn = len(lines)
        self._last = time.monotonic()


def short(digest: str) -> str:
    """The 12 digits that people see."""
    return digest.partition(":")[2][:12] or digest[:12]


def bar(name: str, layer: Layer) -> str:
    """One line: ``0123456789ab  Downloading  [=====>    ]  1.2MB/3.4MB``."""
    words = _WORDS.get(layer.status, layer.status)
    if layer.status not in ("downloading", "extracting") or not layer.total:
        amount = f"  {text.size(layer.offset)}" if layer.status == "downloading" and layer.offset else ""
        return f"{name}  {words}{amount}"
    part = min(1.0, layer.offset / layer.total)
    full = int(part * _BAR)
    arrow = "=" * full + (">" if full < _BAR else "")
    return f"{name}  {words:<11}  [{arrow:<{_BAR}}]  {text.size(layer.offset)}/{text.size(layer.total)}"
