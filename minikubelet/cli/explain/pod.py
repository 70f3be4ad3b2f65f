"""Why a pod is not Ready, in plain words: what concerns the pod as a whole."""

from __future__ import annotations

import re
from collections.abc import Iterator

from minikubelet.cli import text
from minikubelet.cli.explain import advice
from minikubelet.cli.explain.case import Case, Finding, Json, LogTail
from minikubelet.cli.explain.containers import finished, statuses, troubles
from minikubelet.cli.explain.resize import resizes


def explain(pod: Json, events: list[Json], log_tail: LogTail, now: float) -> tuple[str, list[Finding]]:
    """A headline, and the findings, the most telling first; ``now`` in seconds since the epoch."""
    case = Case(pod, events, log_tail, now)
    name, phase = pod["metadata"]["name"], case.status.get("phase", "")
    findings = list(_findings(case))
    if pod["metadata"].get("deletionTimestamp"):
        return f"Pod {name} is being removed.", findings
    if phase == "Succeeded":
        return f"Pod {name} has done its work: all its containers ended with success.", findings
    if phase == "Failed":
        return f"Pod {name} has failed and is not started again.", findings
    if case.condition("Ready") == "True":
        return f"Pod {name} is Ready{_since(case)}.", [*findings, *resizes(case)]
    if not findings and (done := finished(case)) is not None:
        findings = [done]
    if not findings:
        findings = [Finding("nothing has gone wrong so far: it is on its way")]
    return f"Pod {name} is not Ready{_since(case)}.", [*findings, *resizes(case)]


def render(headline: str, findings: list[Finding]) -> str:
    """What is printed."""
    lines = [headline]
    for finding in findings:
        lines += ["", finding.what[:1].upper() + finding.what[1:]]
        lines += [f"  {each}" for each in finding.known]
        if finding.output:
            lines += ["  its last output:", *(f"  | {each}" for each in finding.output)]
        lines += [f"  -> {each}" for each in finding.advice]
    return "".join(f"{text.escape(line)}\n" for line in lines)


def _since(case: Case) -> str:
    for each in case.status.get("conditions", []):
        if each["type"] == "Ready" and each.get("lastTransitionTime"):
            return f", for {text.age(each['lastTransitionTime'], case.now)} now"
    return ""


def _findings(case: Case) -> Iterator[Finding]:
    if case.pod["metadata"].get("deletionTimestamp"):
        yield _terminating(case)
        return
    if case.status.get("phase") == "Failed" and case.status.get("reason"):
        yield _failed(case)
    if case.condition("PodReadyToStartContainers") == "False" or not case.status.get("conditions"):
        yield from _no_sandbox(case)
    if not any(_has_started(each) for each in statuses(case)):
        yield from _no_volumes(case)
    yield from troubles(case)
    yield from _gates(case)


def _terminating(case: Case) -> Finding:
    running = [each["name"] for each in statuses(case) if "running" in each.get("state", {})]
    grace = case.pod["metadata"].get("deletionGracePeriodSeconds", 30)
    found = Finding(
        f"it was told to stop {text.age(case.pod['metadata']['deletionTimestamp'], case.now)} ago"
    )
    if running:
        found.known.append(f"still running: {', '.join(running)}; they are killed {grace}s after the order")
    if failed := case.last_event("FailedKillPod", "FailedPreStopHook"):
        found.known.append(f"a problem on the way: {failed}")
    return found


def _failed(case: Case) -> Finding:
    reason = str(case.status["reason"])
    message = str(case.status.get("message", "")).strip()
    what = f"the node ended it: {reason}"
    return Finding(what, [message] if message else [], [], advice.for_failure(reason, message))


def _has_started(status: Json) -> bool:
    return bool({"running", "terminated"} & status.get("state", {}).keys() or status.get("lastState"))


def _no_volumes(case: Case) -> Iterator[Finding]:
    """Volumes are made beside the sandbox and before the first container."""
    if case.status.get("phase") == "Failed":
        return
    if message := case.last_event("FailedMount", "FailedAttachVolume", "FailedMapVolume"):
        missing = re.search(r'(configmap|secret|persistentvolumeclaim)s? "([^"]+)" not found', message, re.I)
        todo = (
            f'Put the {missing[1]} "{missing[2]}" into the manifest folder; the pod then goes on by itself.'
            if missing
            else advice.for_host_path(message)
        )
        yield Finding("a volume can't be set up", [message], [], [todo])


def _no_sandbox(case: Case) -> Iterator[Finding]:
    if message := case.last_event("FailedCreatePodSandBox"):
        what = "the pod's sandbox (namespaces and network) can't be made"
        yield Finding(what, [message], [], [advice.for_sandbox(message)])
    if message := case.last_event("NetworkNotReady"):
        yield Finding("the node's network is not ready", [message], [], ["Run minikubelet check."])


def _gates(case: Case) -> Iterator[Finding]:
    for gate in case.spec.get("readinessGates", []):
        kind = gate["conditionType"]
        if case.condition(kind) != "True":
            yield Finding(
                f'readiness gate "{kind}" is not met',
                ["something outside of the node would have to set that condition"],
                [],
                ["On a node by itself nothing does: take it out of spec.readinessGates."],
            )
