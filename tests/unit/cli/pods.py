"""Pods as the kubelet's API shows them."""

from __future__ import annotations

from typing import Any

Json = dict[str, Any]

NOW = 1767323045.0
"""2026-01-02T03:04:05Z"""


def ago(seconds: int) -> str:
    import datetime

    return datetime.datetime.fromtimestamp(NOW - seconds, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def status(name: str, *, ready: bool = False, restarts: int = 0, **state: Any) -> Json:
    last = state.pop("last", None)
    made = {
        "name": name,
        "ready": ready,
        "restartCount": restarts,
        "image": "i",
        "imageID": "",
        "state": state,
    }
    return {**made, "lastState": last} if last else made


def running(name: str = "c", **more: Any) -> Json:
    return status(name, ready=more.pop("ready", True), running={"startedAt": ago(60)}, **more)


def waiting(reason: str, name: str = "c", **more: Any) -> Json:
    return status(name, waiting={"reason": reason}, **more)


def terminated(code: int, reason: str = "", name: str = "c", **more: Any) -> Json:
    state = {
        "exitCode": code,
        "startedAt": ago(30),
        "finishedAt": ago(20),
        **({"reason": reason} if reason else {}),
    }
    return status(name, terminated=state | more.pop("state", {}), **more)


def pod(
    *statuses: Json,
    init: list[Json] | None = None,
    sidecars: tuple[str, ...] = (),
    phase: str = "Running",
    conditions: dict[str, str] | None = None,
    **more: Any,
) -> Json:
    inits = [
        {"name": each["name"], **({"restartPolicy": "Always"} if each["name"] in sidecars else {})}
        for each in init or []
    ]
    meta = {"name": "web", "namespace": "default", "creationTimestamp": ago(100), **more.pop("metadata", {})}
    return {
        "metadata": meta,
        "spec": {
            "nodeName": "n1",
            "initContainers": inits,
            "containers": [{"name": each["name"]} for each in statuses] or [{"name": "c"}],
        },
        "status": {
            "phase": phase,
            "podIP": "10.0.0.5",
            "conditions": [{"type": kind, "status": value} for kind, value in (conditions or {}).items()],
            "initContainerStatuses": init or [],
            "containerStatuses": list(statuses),
            **more,
        },
    }
