"""A pod described as kubectl does it: the same order, words and columns."""

from __future__ import annotations

from typing import Any

from minikubelet.cli import describe_parts as parts
from minikubelet.cli import text
from minikubelet.cli.describe_container import containers, tree
from minikubelet.cli.describe_volume import volumes

Json = dict[str, Any]


def lines(pod: Json, now: float) -> list[str]:
    """Lines with tabs; ``now`` in seconds since the epoch."""
    found = [*_head(pod, now)]
    spec, status = pod.get("spec", {}), pod.get("status", {})
    if spec.get("initContainers"):
        found += containers(
            "Init Containers", spec["initContainers"], status.get("initContainerStatuses", []), pod
        )
    found += containers("Containers", spec.get("containers", []), status.get("containerStatuses", []), pod)
    if spec.get("ephemeralContainers"):
        ephemeral = status.get("ephemeralContainerStatuses", [])
        found += containers("Ephemeral Containers", spec["ephemeralContainers"], ephemeral, pod)
    conditions = {each["type"]: each.get("status", "") for each in status.get("conditions", [])}
    if spec.get("readinessGates"):
        found += ["Readiness Gates:", "  Type\tStatus"]
        for gate in spec["readinessGates"]:
            kind = gate["conditionType"]
            found.append(f"  {kind} \t{conditions.get(kind, '<none>')}")
    if conditions:
        found += ["Conditions:", "  Type\tStatus"]
        found += [f"  {kind} \t{value}" for kind, value in conditions.items()]
    found += volumes(spec.get("volumes", []))
    found.append(f"QoS Class:\t{status.get('qosClass') or _qos(spec)}")
    found += parts.label_lines("Node-Selectors", spec.get("nodeSelector", {}))
    found += _tolerations(spec.get("tolerations", []))
    return found


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
    lines += parts.label_lines("Labels", meta.get("labels", {}))
    lines += parts.annotation_lines("Annotations", meta.get("annotations", {}))
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
    return parts.multiline("Tolerations", words)


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
