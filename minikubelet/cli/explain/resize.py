"""A pod whose manifest asks for other resources than it has: in-place resize (KEP-1287)."""

from __future__ import annotations

import re
from collections.abc import Iterator

from minikubelet.cli.explain import advice
from minikubelet.cli.explain.case import Case, Finding


def resizes(case: Case) -> Iterator[Finding]:
    """A resize that isn't granted, and one that isn't done yet; the pod goes on with what it has."""
    for each in case.status.get("conditions", []):
        if each.get("status") != "True":
            continue
        reason, message = each.get("reason", ""), each.get("message", "")
        if each["type"] == "PodResizePending":
            yield _deferred(message) if reason == "Deferred" else _infeasible(message)
        elif each["type"] == "PodResizeInProgress":
            yield _failing(message) if reason == "Error" else _moving(message)


def _infeasible(message: str) -> Finding:
    what = "the node can't give it the resources that its manifest asks for now: it goes on with those it had"
    if re.search(r'CPU Manager policy "static"', message):
        todo = "Delete the pod and apply it again: its own CPUs are given out when it starts."
    else:
        todo = "Ask for no more than the node has (minikubelet describe node), or take the change back."
    return Finding(what, [message] if message else [], [], [todo])


def _deferred(message: str) -> Finding:
    what = "the resources that its manifest asks for now have to wait for room: it goes on with those it had"
    todo = "Remove other pods or lower what they request: the node then goes on by itself."
    return Finding(what, [message] if message else [], [], [todo])


def _failing(message: str) -> Finding:
    what = "its new resources are granted, but can't be brought to its containers"
    return Finding(what, [message] if message else [], [], [advice.for_resize(message)])


def _moving(message: str) -> Finding:
    return Finding(
        "its new resources are granted and on their way to its containers", [message] if message else []
    )
