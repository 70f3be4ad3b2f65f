"""SELinux labels of pods and containers that ask for them (CRI SELinuxOption).

A host without SELinux ignores them, and so does a pod without options, as with containerd's default: its
processes keep what the policy makes of the daemon's children. No real
policy has ever enforced them: see docs/security.md.
"""

from __future__ import annotations

import functools
import os
from dataclasses import dataclass

from minikubelet.base.errors import StepError, invalid, precondition
from minikubelet.linux import selinux
from minikubelet.runtime.models import ContainerConfig, MountConfig, Sandbox, SandboxConfig, SELinux

_FIELD = "config.linux.security_context.selinux_options"


@dataclass(frozen=True)
class Labels:
    """Contexts as text; empty: none."""

    process: str = ""
    mount: str = ""
    """For the root, tmpfs, terminals and shared memory; and for volumes that shall be relabelled."""


enabled = functools.cache(selinux.enabled)
_contexts = functools.cache(selinux.container_contexts)


def of_sandbox(sandbox_id: str, config: SandboxConfig) -> Labels:
    """For pause and the pod's shared memory. Raises INVALID_ARGUMENT for what the policy doesn't know."""
    return _labels(config.security.selinux, sandbox_id, config.security.privileged)


def of_container(sandbox: Sandbox, config: ContainerConfig) -> Labels:
    """By its own options, else the pod's. Raises as :func:`of_sandbox`."""
    options = config.security.selinux
    if options is None or options == SELinux():
        options = sandbox.config.security.selinux
    return _labels(options, sandbox.id, config.security.privileged)


def _labels(options: SELinux | None, sandbox_id: str, privileged: bool) -> Labels:
    if options is None or options == SELinux() or not enabled():
        return Labels()
    level = options.level or selinux.own_level(sandbox_id)
    process, file = _contexts()
    process = selinux.changed(process, user=options.user, role=options.role, type=options.type, level=level)
    file = selinux.changed(file, user=options.user, level=level)
    for context in (process, file):
        _check(str(context))
    return Labels("" if privileged else str(process), str(file))


def _check(context: str) -> None:
    try:
        known = selinux.valid(context)
    except OSError as exc:
        raise precondition(f"the SELinux policy can't be asked: {exc}") from exc
    if not known:
        raise invalid(_FIELD, f"the host's policy does not know {context!r}")


def relabel(config: ContainerConfig, run_dir: str, label: str) -> None:
    """Label the pod's own files, and the volumes that ask for it; blocks. Raises StepError, NodeError."""
    for name in ("hosts", "hostname", "resolv.conf"):
        if os.path.exists(f"{run_dir}/{name}"):
            _relabel(f"{run_dir}/{name}", label, f"the pod's {name}")
    for number, mount in enumerate(config.mounts):
        if wants_label(mount):
            _relabel(mount.host_path, label, f"config.mounts[{number}]")


def wants_label(mount: MountConfig) -> bool:
    """Whether a mount's files shall be relabelled."""
    return mount.selinux_relabel and mount.image is None


def _relabel(path: str, label: str, what: str) -> None:
    try:
        selinux.relabel(path, label)
    except OSError as exc:
        raise StepError(f"relabel {what}", exc.errno or 0, exc.filename or path, exc.strerror or "") from exc
