"""The containers of a pod's description."""

from __future__ import annotations

import math
import urllib.parse
from typing import Any

from minikubelet.cli import text
from minikubelet.kubelet.objects import quantity

Json = dict[str, Any]


def containers(title: str, declared: list[Json], statuses: list[Json], pod: Json) -> list[str]:
    """Lines with tabs, ready for :func:`text.tabulate`."""
    known = {status["name"]: status for status in statuses}
    lines = [f"{title}:"]
    for container in declared:
        lines.append(f"  {container['name']}:")
        lines += _container(container, known.get(container["name"]), pod)
    return lines


def _container(container: Json, status: Json | None, pod: Json) -> list[str]:
    lines = []
    if status is not None:
        lines.append(f"    Container ID:\t{status.get('containerID', '')}")
    lines.append(f"    Image:\t{container.get('image', '')}")
    if status is not None:
        lines.append(f"    Image ID:\t{status.get('imageID', '')}")
    for name, key in (("Port", "containerPort"), ("Host Port", "hostPort")):
        ports = ", ".join(_port(port, key) for port in container.get("ports", []))
        lines.append(f"    {name}s:\t{ports}" if "," in ports else f"    {name}:\t{ports or '<none>'}")
    if profile := (container.get("securityContext") or {}).get("seccompProfile"):
        lines.append(f"    SeccompProfile:\t{profile.get('type', '')}")
        if profile.get("localhostProfile"):
            lines.append(f"      LocalhostProfile:\t{profile['localhostProfile']}")
    for name in ("command", "args"):
        if container.get(name):
            lines.append(f"    {name.capitalize()}:")
            lines += [f"      {line}" for word in container[name] for line in word.split("\n")]
    if status is not None:
        lines += _state("State", status.get("state", {}))
        if status.get("lastState", {}).get("terminated"):
            lines += _state("Last State", status["lastState"])
        lines.append(f"    Ready:\t{bool(status.get('ready'))}")
        lines.append(f"    Restart Count:\t{status.get('restartCount', 0)}")
    lines += tree(container.get("resources", {}), "    ")
    for name in ("liveness", "readiness", "startup"):
        if probe := container.get(f"{name}Probe"):
            lines.append(f"    {name.capitalize()}:\t{_probe(probe)}")
    return lines + _env_from(container) + _environment(container, pod) + _mounts(container)


def _port(port: Json, key: str) -> str:
    shown = f"{port.get(key, 0)}/{port.get('protocol', 'TCP')}"
    return f"{shown} ({port['name']})" if port.get("name") else shown


def _state(title: str, state: Json) -> list[str]:
    if "running" in state:
        return [
            f"    {title}:\tRunning",
            f"      Started:\t{text.rfc1123(state['running'].get('startedAt'))}",
        ]
    if terminated := state.get("terminated"):
        lines = [f"    {title}:\tTerminated"]
        for name in ("reason", "message"):
            if terminated.get(name):
                lines.append(f"      {name.capitalize()}:\t{terminated[name].rstrip()}")
        lines.append(f"      Exit Code:\t{terminated.get('exitCode', 0)}")
        if terminated.get("signal"):
            lines.append(f"      Signal:\t{terminated['signal']}")
        lines.append(f"      Started:\t{text.rfc1123(terminated.get('startedAt'))}")
        lines.append(f"      Finished:\t{text.rfc1123(terminated.get('finishedAt'))}")
        return lines
    lines = [f"    {title}:\tWaiting"]
    if reason := state.get("waiting", {}).get("reason"):
        lines.append(f"      Reason:\t{reason}")
    return lines


def tree(resources: Json, indent: str) -> list[str]:
    """Limits and requests."""
    lines = []
    for title in ("limits", "requests"):
        if values := resources.get(title):
            lines.append(f"{indent}{title.capitalize()}:")
            lines += [f"{indent}  {name}:\t{value}" for name, value in sorted(values.items())]
    return lines


def _probe(probe: Json) -> str:
    numbers = (
        f"delay={probe.get('initialDelaySeconds', 0)}s timeout={probe.get('timeoutSeconds', 1)}s "
        f"period={probe.get('periodSeconds', 10)}s #success={probe.get('successThreshold', 1)} "
        f"#failure={probe.get('failureThreshold', 3)}"
    )
    if "exec" in probe:
        return f"exec [{' '.join(probe['exec'].get('command', []))}] {numbers}"
    if http := probe.get("httpGet"):
        address = f"{http.get('host', '')}:{http.get('port', '')}"
        path = "/" + urllib.parse.quote(http.get("path", "").removeprefix("/"), safe="/:@!$&'()*+,;=~-._")
        return f"http-get {http.get('scheme', 'HTTP').lower()}://{address}{path} {numbers}"
    if tcp := probe.get("tcpSocket"):
        return f"tcp-socket {tcp.get('host', '')}:{tcp.get('port', '')} {numbers}"
    if grpc := probe.get("grpc"):
        return f"grpc <pod>:{grpc.get('port', 0)} {grpc.get('service') or ''} {numbers}"
    return f"unknown {numbers}"


def _env_from(container: Json) -> list[str]:
    if not container.get("envFrom"):
        return []
    lines = ["    Environment Variables from:"]
    for source in container["envFrom"]:
        kind, ref = ("ConfigMap", source["configMapRef"]) if "configMapRef" in source else ("Secret", {})
        ref = source.get("secretRef", ref)
        prefix = f" with prefix '{source['prefix']}'" if source.get("prefix") else ""
        lines.append(
            f"      {ref.get('name', '')}\t{kind}{prefix}\tOptional: {str(bool(ref.get('optional'))).lower()}"
        )
    return lines


def _environment(container: Json, pod: Json) -> list[str]:
    if not container.get("env"):
        return ["    Environment:\t<none>"]
    lines = ["    Environment:"]
    for variable in container["env"]:
        name, source = variable["name"], variable.get("valueFrom")
        if not source:
            first, *rest = str(variable.get("value", "")).split("\n")
            lines += [f"      {name}:\t{first}", *(f"      \t{line}" for line in rest)]
        elif field := source.get("fieldRef"):
            value = _field(pod, field.get("fieldPath", ""))
            lines.append(
                f"      {name}:\t{value} ({field.get('apiVersion', 'v1')}:{field.get('fieldPath', '')})"
            )
        elif resource := source.get("resourceFieldRef"):
            lines.append(
                f"      {name}:\t{_amount(resource, container, pod)} ({resource.get('resource', '')})"
            )
        elif key := source.get("secretKeyRef"):
            where = f"<set to the key '{key.get('key', '')}' in secret '{key.get('name', '')}'>"
            lines.append(f"      {name}:\t{where}\tOptional: {str(bool(key.get('optional'))).lower()}")
        elif key := source.get("configMapKeyRef"):
            where = f"<set to the key '{key.get('key', '')}' of config map '{key.get('name', '')}'>"
            lines.append(f"      {name}:\t{where}\tOptional: {str(bool(key.get('optional'))).lower()}")
        else:
            lines.append(f"      {name}:\t<{next(iter(source), 'unknown')}>")
    return lines


def _amount(ref: Json, container: Json, pod: Json) -> str:
    """What a resourceFieldRef stands for, as far as the pod itself says it."""
    every = [*pod["spec"].get("containers", []), *pod["spec"].get("initContainers", [])]
    name = ref.get("containerName") or container["name"]
    resources = next((each for each in every if each["name"] == name), container).get("resources") or {}
    kind, _, resource = str(ref.get("resource", "")).partition(".")
    value = (resources.get(kind) or {}).get(resource)
    if value is None:
        return "node allocatable" if kind == "limits" and resource in ("cpu", "memory") else "0"
    return str(math.ceil(quantity.parse(value) / (quantity.parse(ref.get("divisor") or "1") or 1)))


def _field(pod: Json, path: str) -> str:
    value: Any = pod
    for word in path.split("."):
        value = value.get(word, "") if isinstance(value, dict) else ""
    return value if isinstance(value, str) else ""


def _mounts(container: Json) -> list[str]:
    if not container.get("volumeMounts"):
        return ["    Mounts:\t<none>"]
    lines = ["    Mounts:"]
    for mount in sorted(container["volumeMounts"], key=lambda mount: str(mount["mountPath"])):
        flags = "ro" if mount.get("readOnly") else "rw"
        flags += f',path="{mount["subPath"]}"' if mount.get("subPath") else ""
        lines.append(f"      {mount['mountPath']} from {mount['name']} ({flags})")
    return lines
