"""What all descriptions share: labels, annotations, events, and columns that line up."""

from __future__ import annotations

from typing import Any

from minikubelet.cli import text

Json = dict[str, Any]
_LONGEST = 140
"""Characters of an annotation that stand in one line."""
LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
"""An annotation in which kubectl keeps the whole object."""


def whole(lines: list[str], events: list[Json] | None, now: float) -> str:
    """The description: lines with tabs as columns, and the events unless None.

    Nothing in it steers a terminal.
    """
    if events == []:
        lines = [*lines, "Events:\t<none>"]
    shown = text.tabulate("\n".join(lines)) + "\n"
    if events:
        # Upstream flushes its columns before the events, so that these have columns of their own.
        shown += text.tabulate("\n".join(_events(events, now))) + "\n"
    return "".join(f"{text.escape(line).rstrip()}\n" for line in shown.removesuffix("\n").split("\n"))


def label_lines(title: str, values: dict[str, str]) -> list[str]:
    """One label a line, sorted, the title before the first."""
    return multiline(title, [f"{key}={value}" for key, value in sorted(values.items())])


def annotation_lines(title: str, values: dict[str, str]) -> list[str]:
    """As :func:`label_lines`; a long value, or one with line breaks, begins on a line of its own."""
    lines = []
    for key, value in sorted(values.items()):
        value = value.removesuffix("\n")
        if key == LAST_APPLIED:
            continue
        if "\n" in value or len(key) + len(value) + 2 > _LONGEST:
            lines += [f"{key}:", *(f"  {_shortened(line)}" for line in value.split("\n"))]
        else:
            lines.append(f"{key}: {value}")
    return multiline(title, lines)


def _shortened(line: str) -> str:
    most = _LONGEST - 2
    return line if len(line) <= most else f"{line[:most]}..."


def multiline(title: str, lines: list[str]) -> list[str]:
    """The title before the first line; ``<none>`` if there is none."""
    first, *rest = lines or ["<none>"]
    return [f"{title}:\t{first}", *(f"\t{line}" for line in rest)]


def head(each: Json, *, namespaced: bool = True) -> list[str]:
    """Name, namespace, labels and annotations."""
    meta = each["metadata"]
    return [
        f"Name:\t{meta['name']}",
        *([f"Namespace:\t{meta.get('namespace', '')}"] if namespaced else []),
        *label_lines("Labels", meta.get("labels", {})),
        *annotation_lines("Annotations", meta.get("annotations", {})),
    ]


def _events(events: list[Json], now: float) -> list[str]:
    lines = ["Events:", "  Type\tReason\tAge\tFrom\tMessage", "  ----\t------\t----\t----\t-------"]
    for event in sorted(events, key=lambda event: str(event.get("lastTimestamp", ""))):
        when = text.age(event.get("firstTimestamp"), now)
        if event.get("count", 1) > 1:
            when = f"{text.age(event.get('lastTimestamp'), now)} (x{event['count']} over {when})"
        message = str(event.get("message", "")).strip()
        if field := event.get("involvedObject", {}).get("fieldPath"):
            message = f"{field}: {message}"
        source = event.get("source", {}).get("component", "")
        lines.append(f"  {event['type']}\t{event['reason']}\t{when}\t{source}\t{message}")
    return lines
