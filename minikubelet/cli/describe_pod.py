"""A pod described as kubectl does it: the same order, words and columns."""

from __future__ import annotations

from typing import Any

from minikubelet.cli import text
from minikubelet.cli.describe_container import containers, tree
from minikubelet.cli.describe_volume import volumes

Json = dict[str, Any]


def describe(pod: Json, events: list[Json], now: float) -> str:
    """The description; ``now`` in seconds since the epoch."""
    lines = [*_head(pod, now)]
    spec, status = pod.get("spec", {}), pod.get("status", {})
    if spec.get("initContainers"):
        lines += containers(
            "Init Containers", spec["initContainers"], status.get("initContainerStatuses", []), pod
        )
    lines += containers("Containers", spec.get("containers", []), status.get("containerStatuses", []), pod)
    if spec.get("ephemeralContainers"):
        ephemeral = status.get("ephemeralContainerStatuses", [])
        lines += containers("Ephemeral Containers", spec["ephemeralContainers"], ephemeral, pod)
    conditions = {each["type"]: each.get("status", "") for each in status.get("conditions", [])}
    if spec.get("readinessGates"):
        lines += ["Readiness Gates:", "  Type\tStatus"]
        for gate in spec["readinessGates"]:
            kind = gate["conditionType"]
            lines.append(f"  {kind} \t{conditions.get(kind, '<none>')}")
    if conditions:
        lines += ["Conditions:", "  Type\tStatus"]
        lines += [f"  {kind} \t{value}" for kind, value in conditions.items()]
    lines += volumes(spec.get("volumes", []))
    lines.append(f"QoS Class:\t{status.get('qosClass') or _qos(spec)}")
    lines += pairs("Node-Selectors", spec.get("nodeSelector", {}), "=")
    lines += _tolerations(spec.get("tolerations", []))
    # Upstream flushes its columns before the events, so that these have columns of their own.
    whole = text.tabulate("\n".join(lines)) + "\n" + text.tabulate("\n".join(_events(events, now)))
    return "".join(f"{text.escape(line).rstrip()}\n" for line in whole.split("\n"))


def _head(pod: Json, now: float) -> list[str]:
    meta, spec, status = pod["metadata"], pod.get("spec", {}), pod.get("status", {})
    lines = [f"Name:\t{meta['name']}", f"Namespace:\t{meta.get('namespace', '')}"]
    optional = (
        ("Priority", spec.get("priority")),
        ("Priority Class Name", spec.get("priorityClassName")),
        ("Runtime Class Name", spec.get("runtimeClassName")),
        ("Service Account", spec.get("serviceAccountName")),
    )
    lines += [f"{title}:\t{value}" for title, value in optional if value not in (None, "")]
    node = spec.get("nodeName")
    lines.append(f"Node:\t{node}/{status.get('hostIP', '')}" if node else "Node:\t<none>")
    if status.get("startTime"):
        lines.append(f"Start Time:\t{text.rfc1123(status['startTime'])}")
    lines += pairs("Labels", meta.get("labels", {}), "=")
    lines += pairs("Annotations", meta.get("annotations", {}), ": ")
    phase = status.get("phase", "")
    if meta.get("deletionTimestamp") and phase not in ("Failed", "Succeeded"):
        lines.append(f"Status:\tTerminating (lasts {text.age(meta['deletionTimestamp'], now)})")
        lines.append(f"Termination Grace Period:\t{meta.get('deletionGracePeriodSeconds', 0)}s")
    else:
        lines.append(f"Status:\t{phase}")
    for title, key in (("Reason", "reason"), ("Message", "message")):
        if status.get(key):
            lines.append(f"{title}:\t{status[key]}")
    profile = (spec.get("securityContext") or {}).get("seccompProfile")
    if profile:
        lines.append(f"SeccompProfile:\t{profile.get('type', '')}")
        if profile.get("type") == "Localhost":
            lines.append(f"LocalhostProfile:\t{profile.get('localhostProfile', '')}")
    lines.append(f"IP:\t{status.get('podIP', '')}")
    ips = status.get("podIPs", [])
    lines += ["IPs:", *(f"  IP:\t{each.get('ip', '')}" for each in ips)] if ips else ["IPs:\t<none>"]
    owner = next((each for each in meta.get("ownerReferences", []) if each.get("controller")), None)
    if owner:
        lines.append(f"Controlled By:\t{owner['kind']}/{owner['name']}")
    if spec.get("resources"):
        lines += ["Resources:", *tree(spec["resources"], "  ")]
    return lines


def pairs(title: str, values: dict[str, str], joint: str) -> list[str]:
    """One pair a line, sorted, the title before the first."""
    if not values:
        return [f"{title}:\t<none>"]
    each = []
    for key, value in sorted(values.items()):
        shown = value if len(value) <= 140 else f"{value[:140]}..."
        first, *rest = shown.rstrip("\n").split("\n")
        each.append(f"{key}{joint}{first}" if not rest else f"{key}:")
        each += [f"  {line}" for line in (first, *rest)] if rest else []
    return [f"{title}:\t{each[0]}", *(f"\t{line}" for line in each[1:])]


def _tolerations(tolerations: list[Json]) -> list[str]:
    words = []
    for each in sorted(tolerations, key=lambda each: str(each.get("key", ""))):
        word = each.get("key", "")
        word += f"={each['value']}" if each.get("value") else ""
        word += f":{each['effect']}" if each.get("effect") else ""
        if each.get("operator") == "Exists" and not each.get("value"):
            word += f"{' ' if word else ''}op=Exists"
        if each.get("tolerationSeconds") is not None:
            word += f" for {each['tolerationSeconds']}s"
        words.append(word)
    first, *rest = words or ["<none>"]
    return [f"Tolerations:\t{first}", *(f"\t{word}" for word in rest)]


def _events(events: list[Json], now: float) -> list[str]:
    if not events:
        return ["Events:\t<none>"]
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


def _qos(spec: Json) -> str:
    """The class of a pod whose status doesn't tell yet (kubectl works it out the same way)."""
    every = [*spec.get("containers", []), *spec.get("initContainers", [])]
    guaranteed, any_set = True, False
    for container in every:
        resources = container.get("resources", {})
        limits, requests = resources.get("limits", {}), resources.get("requests", {})
        any_set |= any(name in (*limits, *requests) for name in ("cpu", "memory"))
        for name in ("cpu", "memory"):
            guaranteed &= name in limits and requests.get(name, limits[name]) == limits[name]
    if not any_set:
        return "BestEffort"
    return "Guaranteed" if guaranteed else "Burstable"
