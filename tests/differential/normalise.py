"""Results without what differs from run to run: IDs, times, addresses, ports."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from tests.differential.drivers import NODE

_RULES = [
    (re.compile(r"\b[0-9a-f]{64}\b"), "ID"),
    (re.compile(r"\b[0-9a-f]{12,13}\b"), "ID"),
    (re.compile(r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b"), "UID"),
    (re.compile(r"\b[0-9a-f]{32}\b"), "UID"),
    (re.compile(r"\b\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:?\d\d)?( [+-]\d{4} UTC)?"), "TIME"),
    (re.compile(r"\b[A-Z][a-z][a-z] [ \d]\d \d\d:\d\d\b"), "DATE"),
    (re.compile(r"\b10\.\d+\.\d+\.\d+\b"), "POD-IP"),
    (re.compile(r"\b127\.0\.0\.1:\d{4,5}\b"), "127.0.0.1:PORT"),
    (re.compile(r"\b\d+(\.\d+)?(µs|ms|s)\b(?= \(| including|\))"), "DURATION"),
    (re.compile(r"kube-(probe|lifecycle)/[\d.]+"), r"kube-\1/VERSION"),
    (re.compile(r"Image size: \d+ bytes"), "Image size: N bytes"),
]
_DROP = {"creationTimestamp", "containerID", "startTime", "observedGeneration", "generation"}
_PRESENCE = {"startedAt", "finishedAt", "lastTransitionTime", "lastProbeTime", "imageID"}
_SOURCE = {"kubernetes.io/config.hash", "kubernetes.io/config.seen", "kubernetes.io/config.mirror"}


def normalise_text(text: str, folder: Path | None = None) -> str:
    """A line or several."""
    if folder is not None:
        text = text.replace(str(folder), "DIR")
    for pattern, replacement in _RULES:
        text = pattern.sub(replacement, text)
    return text.replace(f"-{NODE}", "-NODE")


def normalise_pod(pod: dict[str, Any], folder: Path, port: int) -> dict[str, Any]:
    """Metadata, spec and status of a pod; ``port`` is that of :class:`Probed`."""
    pod = dict(pod)
    meta = dict(pod["metadata"])
    kept = {key: value for key, value in (meta.get("annotations") or {}).items() if key not in _SOURCE}
    meta["annotations"] = kept
    meta.pop("uid", None)
    pod["metadata"] = meta
    pod.pop("kind", None)
    pod.pop("apiVersion", None)
    whole: dict[str, Any] = _value(pod, folder, port)
    status = whole.get("status", {})
    for name in ("conditions", "containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses"):
        if name in status:
            status[name] = sorted(status[name], key=lambda each: str(each.get("type", each.get("name"))))
    for name in ("podIP", "hostIP"):
        if status.get(name):
            status[name] = "IP"
    for name in ("podIPs", "hostIPs"):
        if status.get(name):
            status[name] = len(status[name])
    return whole


def _dropped(key: str, value: Any) -> bool:
    """What differs always; and a divisor that isn't given, which only Go shows."""
    return key in _DROP or (key == "divisor" and value == "0")


def _value(value: Any, folder: Path, port: int, key: str = "") -> Any:
    """Empty things count as absent, as in Go's encoding."""
    if isinstance(value, dict):
        made = {k: _value(v, folder, port, k) for k, v in sorted(value.items()) if not _dropped(k, v)}
        return {k: v for k, v in made.items() if v not in (None, {}, [], "") or k == "emptyDir"}
    if isinstance(value, list):
        if key == "supplementalGroups":
            value = sorted(value, key=str)  # a set: runtimes tell it in orders of their own
        return [_value(each, folder, port) for each in value]
    if isinstance(value, str):
        return "SET" if key in _PRESENCE and value else normalise_text(value, folder)
    return "PORT" if value == port else value


def normalise_events(events: list[dict[str, str]], names: set[str]) -> dict[str, str]:
    """Reasons of events about the pods with their types: order and counts depend on timing."""
    mine = [each for each in events if each["pod"] in names]
    return {each["reason"]: each["type"] for each in sorted(mine, key=lambda each: each["reason"])}
