"""What can be done: advice that fits a message of the node, an exit code, or what a container wrote."""

from __future__ import annotations

import re
from typing import Any

Json = dict[str, Any]
_Table = tuple[tuple[str, str], ...]
"""Patterns, and the advice for what they fit; the first that fits counts."""

_PROCESSOR = "The image isn't built for this machine's processor: choose a tag or a build that is."
_UNENFORCED = (
    r"can't enforce|--unenforced-limits",
    "Take that limit out, start the daemon with --unenforced-limits=allow, or see minikubelet check.",
)
_PULL = (
    (
        r"signature validation failed|SignatureValidationFailed",
        "Sign the image (cosign sign --key), or correct what the signature policy says of its name.",
    ),
    (
        r"\b401\b|\b403\b|unauthorized|denied|authentication required",
        "Check the credentials: imagePullSecrets, or those that the runtime is configured with.",
    ),
    (
        r"(nothing|not|no match|no image) for (platform|[a-z]+/[a-z0-9]+\b)|no matching manifest for",
        _PROCESSOR,
    ),
    (
        r"not found|\b404\b|manifest unknown|name unknown",
        "Check the image's name and tag; minikubelet image ls shows what is here.",
    ),
    (
        r"no such host|name resolution|name or service not known|server misbehaving|resolve",
        "Check the registry's name and this machine's DNS.",
    ),
    (
        r"certificate|x509|tls|ssl",
        "Put the registry's CA into certs.d/HOST (hosts.toml), or use the right host name.",
    ),
    (
        r"refused|unreachable|timed? ?out|deadline|connect",
        "Check that the registry runs and that this machine reaches it; mirrors are in certs.d.",
    ),
    (r"architecture|platform|exec format", _PROCESSOR),
    (r"no space|ENOSPC", "Free disk space: minikubelet image ls, minikubelet image rm."),
    (r"digest|checksum", "The registry sent other content than it promised: push the image again."),
)
_CONFIG: _Table = (
    (
        r"runAsNonRoot and image has non-numeric user",
        "Set securityContext.runAsUser to the number of that user: a name could be root's.",
    ),
    (
        r"runAsNonRoot",
        "Set securityContext.runAsUser to a number other than 0, or take runAsNonRoot out.",
    ),
    (
        r"subPath",
        "Check subPath: each of its parts must be a folder of that volume (the last may be a file).",
    ),
    (
        r"takes no device plugins|device plugin",
        "Start the device plugin that offers it, or take the resource out of resources.limits.",
    ),
    (
        r"couldn't find key",
        "Check the key against what that object holds: minikubelet describe configmaps, or secrets.",
    ),
)
_HOST_PATHS: _Table = (
    (
        r"is not a directory",
        "Make that folder on this machine, or set the volume's hostPath.type to DirectoryOrCreate.",
    ),
    (
        r"is not a file\b",
        "Make that file on this machine, or set the volume's hostPath.type to FileOrCreate.",
    ),
    (
        r"is not a socket file",
        "Start the program that listens on that socket; the pod then goes on by itself.",
    ),
    (r"is not a (character|block) device", "Plug that device in, or correct the volume's hostPath."),
)
_START: _Table = (
    (
        r"does not exist on the host",
        "Make that path on this machine, or set the volume's hostPath.type to DirectoryOrCreate.",
    ),
    (r"seccomp", "Put the profile into the kubelet's seccomp folder, or correct localhostProfile."),
    (
        r"neither the request nor the image names a command",
        "Set command in the manifest: the image doesn't say what to run.",
    ),
    (r"apparmor", "Load the profile on this machine (apparmor_parser), or take appArmorProfile out."),
    _UNENFORCED,
    (
        r"exec format|ENOEXEC",
        "The program isn't one for this machine's processor, or a script without its #! line.",
    ),
    (r"not a directory|ENOTDIR", "Check workingDir and mountPath: something there is no folder."),
    (
        r"no such file|not found|ENOENT",
        "Check command, args and workingDir: is that program in the image, and the folder?",
    ),
    (r"permission denied|EACCES", "Check that the program is executable and that runAsUser may read it."),
)
_SANDBOX: _Table = (
    (
        r"port.*(in use|taken)|(in use|taken).*port",
        "Another pod or program has that host port: choose another hostPort, or end it.",
    ),
    (
        r"RuntimeClass",
        "Put that RuntimeClass into the manifest folder, or take runtimeClassName out of the pod.",
    ),
    _UNENFORCED,
    (r"sysctl", "Take that sysctl out of securityContext.sysctls, or correct its value."),
)
_FAILED: _Table = (
    (
        r"Usage of EmptyDir volume",
        "Raise the sizeLimit of that volume, or let the program write less into it.",
    ),
    (
        r"local (ephemeral )?storage (limit|usage)|ephemeral local storage",
        "Raise resources.limits.ephemeral-storage, or let the program write and log less.",
    ),
    (
        r"AppArmor is not enabled",
        "Take appArmorProfile out, or run this machine with AppArmor (see minikubelet check).",
    ),
)
"""For what the node says when it ends or refuses a pod; what isn't here goes by the reason."""
_PROBE: _Table = (
    (
        r"executable file not found|no such file|ENOENT",
        "That program is not in the image: choose one that is, or another kind of probe.",
    ),
    (
        r"permission denied|EACCES",
        "The container's user may not execute that: check its mode, or choose another command.",
    ),
    (
        r"timeout: failed to connect service",
        "Nothing answers by gRPC there: check the port, what the program binds to, and that it speaks gRPC.",
    ),
    (
        r"gRPC.*(unimplemented|unknown service)|(unimplemented|unknown service).*grpc",
        "The program has no gRPC health service (grpc.health.v1.Health), or not under that name.",
    ),
    (
        r"does not look like a TLS handshake|malformed HTTP response",
        "Only one side speaks TLS there: check the probe's scheme (HTTP or HTTPS) and port.",
    ),
    (
        r"refused|failed to connect",
        "Nothing listens on that port (yet): check the port, and what the program binds to.",
    ),
    (
        r"statuscode: 400",
        "The program answers, but not with 200 to 399: check the probe's scheme (HTTP or HTTPS) and path.",
    ),
    (r"statuscode: 40[13]", "The program wants to know who asks: choose a path that it answers to anybody."),
    (r"statuscode: (4|5)\d\d", "The program answers, but not with 200 to 399: check the probe's path."),
)
_OUTPUT: _Table = (
    (
        r"bad address|could not resolve|name or service not known|no such host|name resolution|NXDOMAIN"
        r"|ENOTFOUND|getaddrinfo|unknown host",
        "It asks for a name that nobody knows: containers of one pod meet at localhost, and Services have"
        " no names on a lone node (hostAliases gives some). For names outside, check its DNS servers:"
        " /etc/resolv.conf there, dnsPolicy and dnsConfig.",
    ),
    (
        r"address already in use|EADDRINUSE",
        "Two programs want one port: containers of a pod share their ports, with hostNetwork even the"
        " machine's.",
    ),
    (
        r"read-only file system|EROFS",
        "It writes where it may not: mount an emptyDir there, or take readOnlyRootFilesystem out.",
    ),
    (
        r"permission denied|operation not permitted|EACCES|EPERM",
        "It lacks a right: check runAsUser, fsGroup and capabilities, and who owns the files.",
    ),
    (r"no space left", "A disk or an emptyDir with a sizeLimit is full."),
    (r"exec format error", "The image isn't built for this machine's processor: choose one that is."),
)
EXIT_CODES = {
    126: "126: the program was found but may not be executed",
    127: "127: the command was not found in the image (a shell says so this way)",
    132: "132: it ran an instruction that this processor doesn't have (SIGILL)",
    134: "134: it aborted itself (SIGABRT)",
    135: "135: it touched memory that has no store behind it (SIGBUS)",
    137: "137: it was killed (SIGKILL): out of memory, or it didn't stop within its grace period",
    139: "139: it crashed (SIGSEGV)",
    143: "143: it was told to stop (SIGTERM)",
}
FAILED = {
    "Evicted": "Give the node more of what was short, or the pod requests that match what it uses.",
    "DeadlineExceeded": "Raise spec.activeDeadlineSeconds, or find out why the work takes that long.",
    "OutOfcpu": "Lower the pod's CPU requests, or remove other pods.",
    "OutOfmemory": "Lower the pod's memory requests, or remove other pods.",
    "OutOfephemeral-storage": "Lower the pod's ephemeral-storage requests, or free disk space.",
    "OutOfpods": "Remove other pods, or raise the node's maxPods.",
    "NodeAffinity": "Take nodeSelector or nodeAffinity out; minikubelet lint shows this node's labels.",
    "NodePorts": "Another pod has one of its host ports: choose another hostPort, or remove that pod.",
    "SysctlForbidden": "Take that sysctl out, or name it in the kubelet's --allowed-unsafe-sysctls.",
    "UnexpectedAdmissionError": "See the message; the daemon's log has more.",
    "AppArmor": "Load the profile on this machine (apparmor_parser), or take appArmorProfile out.",
    "PodOSNotSupported": "Set spec.os.name to linux, or take it out.",
}
"""For each reason that the node gives when it ends or refuses a pod."""


def _first(table: _Table, message: str, otherwise: str) -> str:
    return next((advice for pattern, advice in table if re.search(pattern, message, re.I)), otherwise)


def for_pull(message: str, image: str) -> str:
    """For an image that can't be pulled."""
    return _first(_PULL, message, f"Try it by hand: minikubelet image pull {image}")


def for_config(message: str) -> str:
    """For a container whose configuration is not complete."""
    missing = re.search(r'(configmap|secret) "([^"]+)" not found', message, re.I)
    if missing:
        kind, name = missing.groups()
        return f'Put the {kind} "{name}" into the manifest folder; the container then starts by itself.'
    return _first(_CONFIG, message, "Correct what the message names in the manifest.")


def for_start(message: str) -> str:
    """For a container that can't be created or started."""
    return _first(_START, message, "Correct what the message names in the manifest.")


def for_sandbox(message: str) -> str:
    """For a pod whose sandbox can't be made."""
    return _first(_SANDBOX, message, "See what the runtime says: minikubelet check, and the daemon's log.")


def for_resize(message: str) -> str:
    """For new resources that can't be brought to running containers."""
    return _first(
        (_UNENFORCED,), message, "Correct the resources in the manifest; the node tries again by itself."
    )


def for_host_path(message: str) -> str:
    """For a volume that can't be set up."""
    otherwise = "Check the volume in the manifest and what it refers to on this machine."
    return _first(_HOST_PATHS, message, otherwise) if "hostPath" in message else otherwise


def for_failure(reason: str, message: str) -> list[str]:
    """For a pod that the node has ended or refused."""
    otherwise = FAILED.get(reason, "")
    if reason.startswith("OutOf") and not otherwise:
        otherwise = "Lower what the pod requests of it, or remove other pods."
    found = _first(_FAILED, message, otherwise) if reason in ("Evicted", "AppArmor") else otherwise
    return [found] if found else []


def for_probe(probe: Json, message: str) -> str:
    """For a probe that fails."""
    if found := _first(_PROBE, message, ""):
        return found
    if re.search(r"deadline|timed? ?out|timeout", message, re.I):
        return f"It takes longer than timeoutSeconds ({probe.get('timeoutSeconds', 1)}): raise it."
    if "exec" in probe:
        return "That command must end with exit code 0: try it with minikubelet exec."
    return "Check the probe's fields against what the program serves."


def for_output(lines: list[str]) -> list[str]:
    """For a program that fails with these last lines; often there is nothing to be said."""
    advice = _first(_OUTPUT, "\n".join(lines), "")
    return [advice] if advice else []
