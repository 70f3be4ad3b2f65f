"""Why a container doesn't run or isn't ready, and what can be done about it."""

from __future__ import annotations

import re
from collections.abc import Iterator

from minikubelet.cli import text
from minikubelet.cli.explain import advice
from minikubelet.cli.explain.case import Case, Finding, Json


def statuses(case: Case) -> list[Json]:
    """The statuses of init containers and containers, in their order."""
    kinds = ("initContainerStatuses", "containerStatuses")
    return [each for kind in kinds for each in case.status.get(kind, [])]


def troubles(case: Case) -> Iterator[Finding]:
    """What is wrong with each container; those that wait for an init container are left out."""
    kinds = ("initContainers", "containers")
    declared = {each["name"]: each for kind in kinds for each in case.spec.get(kind, [])}
    inits = {each["name"] for each in case.spec.get("initContainers", [])}
    for status in statuses(case):
        container = declared.get(status["name"], {"name": status["name"]})
        init = status["name"] in inits
        finding = _trouble(case, container, status, init=init)
        if finding is not None:
            yield finding
        if init and not _is_through(container, status):
            return


def finished(case: Case) -> Finding | None:
    """Containers that are done for good while others go on: such a pod is never Ready again."""
    done = [
        each["name"]
        for each in case.status.get("containerStatuses", [])
        if "terminated" in each.get("state", {})
    ]
    if not done or case.spec.get("restartPolicy", "Always") == "Always":
        return None
    names = ", ".join(f'"{name}"' for name in done)
    what = f"{names} {'has' if len(done) == 1 else 'have'} ended with success and won't be started again"
    return Finding(
        what, ["a pod is Ready only as long as all of its containers run: nothing is wrong with that"]
    )


def _is_through(container: Json, status: Json) -> bool:
    """Whether what comes after this init container may start."""
    if container.get("restartPolicy") == "Always":
        return bool(status.get("started"))
    terminated = status.get("state", {}).get("terminated")
    return terminated is not None and not terminated.get("exitCode", 0)


_ON_THE_WAY = ("PodInitializing", "ContainerCreating", None)


def _trouble(case: Case, container: Json, status: Json, *, init: bool) -> Finding | None:
    name, state = status["name"], status.get("state", {})
    sidecar = init and container.get("restartPolicy") == "Always"
    if waiting := state.get("waiting"):
        if waiting.get("reason") in _ON_THE_WAY:
            return None
        found = _waiting(case, container, status, waiting)
        if init:
            found.what = found.what.replace("container ", "init container ", 1)
        return found
    if terminated := state.get("terminated"):
        may_end = init or case.spec.get("restartPolicy", "Always") != "Always"
        bad = terminated.get("exitCode", 0) or not may_end
        return _ended(case, container, status, terminated) if bad else None
    if "running" not in state:
        return None
    if init and not sidecar:
        age = text.age(state["running"].get("startedAt"), case.now)
        what = f'init container "{name}" has been at work for {age}; what comes after it waits'
        see = f"See what it does: minikubelet logs {case.pod['metadata']['name']} -c {name}"
        output = case.log_tail(name, False)
        return Finding(what, [], output, [*advice.for_output(output), see])
    if not status.get("started", True):
        return _unhealthy(
            case, container, "startup", "has started, but its startup probe hasn't succeeded yet"
        )
    if not status.get("ready") and (not sidecar or "readinessProbe" in container):
        return _unhealthy(case, container, "readiness", "runs, but its readiness probe doesn't succeed")
    return None


_PULLING = ("ErrImagePull", "ImagePullBackOff", "RegistryUnavailable", "SignatureValidationFailed")
_STARTING = ("CreateContainerError", "RunContainerError", "StartError", "PostStartHookError")


def _waiting(case: Case, container: Json, status: Json, waiting: Json) -> Finding:
    reason, message = str(waiting.get("reason", "")), str(waiting.get("message", ""))
    name, image = status["name"], container.get("image", "")
    if reason == "CrashLoopBackOff":
        return _crash_loop(case, container, status, message)
    if reason in _PULLING:
        detail = case.last_event("Failed", container=name, holding="pull") or message
        what = f'the image of container "{name}" can\'t be pulled: {image}'
        return Finding(what, [detail], [], [advice.for_pull(detail, image)])
    if reason == "ErrImageNeverPull":
        what = f'the image of container "{name}" is not here, and imagePullPolicy is Never: {image}'
        return Finding(what, [message], [], ["Load it (minikubelet image load FILE), or let it be pulled."])
    if reason == "InvalidImageName":
        what = f'the image of container "{name}" has a name that is none: {image}'
        return Finding(what, [message], [], ["Correct the field image."])
    if reason == "CreateContainerConfigError":
        what = f'the configuration of container "{name}" is not complete'
        return Finding(what, [message], [], [advice.for_config(message)])
    if reason in _STARTING:
        what = f'container "{name}" can\'t be started'
        return Finding(what, [message], case.log_tail(name, False), [advice.for_start(message)])
    return Finding(f'container "{name}" waits: {reason}', [message] if message else [])


_NOT_STARTED = ("StartError", "ContainerCannotRun")
"""What runtimes call it when there was no program to run."""


def _how(case: Case, terminated: Json) -> str:
    code = terminated.get("exitCode", 0)
    when = f" {text.age(terminated['finishedAt'], case.now)} ago" if terminated.get("finishedAt") else ""
    if terminated.get("reason") == "OOMKilled":
        return f"killed{when} because it used more memory than its limit (OOMKilled)"
    return f"ended{when} with exit code {code}"


def _crash_loop(case: Case, container: Json, status: Json, message: str) -> Finding:
    name, last = status["name"], status.get("lastState", {}).get("terminated") or {}
    count = int(status.get("restartCount", 0))
    times = "once" if count == 1 else f"{count} times"
    found = Finding(f'container "{name}" keeps ending: restarted {times}, last {_how(case, last)}')
    _add_cause(case, found, container, last)
    if wait := re.search(r"back-off (\S+) restarting", message):
        found.known.append(f"the node waits before it starts it again, {wait[1]} between two tries by now")
    found.output = case.log_tail(name, False)
    found.advice += advice.for_output(found.output)
    if not found.advice:
        found.advice.append(_look_into(case, found, name))
    return found


def _look_into(case: Case, found: Finding, name: str) -> str:
    """What to do where only the program knows."""
    if found.output:
        return f"All that it wrote: minikubelet logs {case.pod['metadata']['name']} -c {name}"
    found.known.append("it wrote nothing")
    return (
        "Let it say more (a flag for its log), or run its command by hand: set command to a sleep, then exec."
    )


def _ended(case: Case, container: Json, status: Json, terminated: Json) -> Finding:
    found = Finding(f'container "{status["name"]}" {_how(case, terminated)}')
    _add_cause(case, found, container, terminated)
    found.output = case.log_tail(status["name"], False) if terminated.get("exitCode", 0) else []
    found.advice += advice.for_output(found.output)
    if not found.advice and found.output:
        found.advice.append(_look_into(case, found, status["name"]))
    return found


def _add_cause(case: Case, found: Finding, container: Json, terminated: Json) -> None:
    name, code = container["name"], terminated.get("exitCode", 0)
    if terminated.get("message"):
        found.known.append(f"it left a message: {str(terminated['message']).strip()}")
    if terminated.get("reason") == "OOMKilled":
        limit = container.get("resources", {}).get("limits", {}).get("memory", "")
        now = f" (now {limit})" if limit else ""
        found.advice.append(f"Raise resources.limits.memory{now}, or find what takes the memory.")
    elif hook := case.last_event("FailedPostStartHook", container=name):
        found.known.append(f"the node ended it because its postStart hook failed: {hook}")
        found.advice.append("Check lifecycle.postStart against what the program has at its start.")
    elif killed := case.last_event("Killing", container=name, holding="probe"):
        found.known.append(killed)
        if why := case.last_event("Unhealthy", container=name):
            found.known.append(f"the probe last said: {_said(why)}")
        found.advice.append("Check the probe's path, port and time-outs against what the program serves.")
    elif code == 137 and case.status.get("phase") == "Failed" and case.status.get("reason"):
        found.known.append("137: it was killed (SIGKILL) because the node ended the pod")
    elif terminated.get("reason") in _NOT_STARTED:
        found.advice.append(advice.for_start(str(terminated.get("message", ""))))
    elif code in advice.EXIT_CODES:
        found.known.append(advice.EXIT_CODES[code])
        if code in (126, 127):
            found.advice.append(advice.for_start("not found" if code == 127 else "permission denied"))
    elif code == 0 and case.spec.get("restartPolicy", "Always") == "Always":
        found.known.append(
            "it ended with success, and restartPolicy is Always: such a pod should go on for ever"
        )
        found.advice.append("For work that ends, set restartPolicy: OnFailure or Never.")


def _said(message: str) -> str:
    """A probe's event; commands may fail without a word."""
    message = message.strip()
    return f"{message} (no output)" if message.endswith(":") else message


def _unhealthy(case: Case, container: Json, kind: str, what: str) -> Finding:
    probe = container.get(f"{kind}Probe") or {}
    found = Finding(f'container "{container["name"]}" {what}')
    message = case.last_event("Unhealthy", container=container["name"], holding=kind.capitalize())
    if probe:
        found.known.append(f"the probe: {_probe(probe)}, every {probe.get('periodSeconds', 10)}s")
    if message:
        found.known.append(f"it last said: {_said(message)}")
        found.advice.append(advice.for_probe(probe, message))
    elif delay := probe.get("initialDelaySeconds"):
        found.known.append(f"the first attempt comes {delay}s after the start")
    found.output = case.log_tail(container["name"], False) if message else []
    return found


def _probe(probe: Json) -> str:
    if "httpGet" in probe:
        get = probe["httpGet"]
        return f"{get.get('scheme', 'HTTP')} GET {get.get('path', '/')} on port {get.get('port', '')}"
    if "tcpSocket" in probe:
        return f"TCP connection to port {probe['tcpSocket'].get('port', '')}"
    if "grpc" in probe:
        return f"gRPC health check on port {probe['grpc'].get('port', '')}"
    return "exec " + " ".join(probe.get("exec", {}).get("command", []))
