"""``/var/log/containers/POD_NAMESPACE_CONTAINER-ID.log``: links to the logs, where log collectors look."""

from __future__ import annotations

import contextlib
import logging
import os

from minikubelet.kubelet.config import KubeletConfig
from minikubelet.kubelet.objects import Pod
from minikubelet.kubelet.observed import ObservedContainer

log = logging.getLogger(__name__)

_USUAL_LOGS, _USUAL_LINKS = "/var/log/pods", "/var/log/containers"
_LONGEST = 255
_SUFFIX = ".log"


def folder(config: KubeletConfig) -> str:
    """Where the links are; empty: nowhere. By default only where the logs are at their usual place."""
    wanted = config.resources.garbage.container_links
    if wanted is None:
        return _USUAL_LINKS if config.log_dir == _USUAL_LOGS else ""
    return wanted


def link_name(pod: Pod, container: ObservedContainer) -> str:
    """Upstream's LogSymlink, cut so that it is a file name with the suffix still there."""
    meta = pod.metadata
    return (
        f"{meta.name}_{meta.namespace}_{container.name}-{container.id}"[: _LONGEST - len(_SUFFIX)] + _SUFFIX
    )


def add(config: KubeletConfig, pod: Pod, container: ObservedContainer) -> None:
    """Link to the log of a container that was started; a failure is logged."""
    where = folder(config)
    if not where or not container.log_path:
        return
    try:
        os.makedirs(where, 0o755, exist_ok=True)
        path = os.path.join(where, link_name(pod, container))
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        os.symlink(container.log_path, path)
    except OSError as exc:
        log.warning("%s: no link to the log of %s: %s", pod.title, container.name, exc)


def remove_dead(config: KubeletConfig) -> int:
    """Remove links into this kubelet's logs whose log is gone; how many there were."""
    where, gone = folder(config), 0
    try:
        entries = list(os.scandir(where)) if where else []
    except OSError:
        return 0
    for entry in entries:
        with contextlib.suppress(OSError):
            target = os.readlink(entry.path)
            if target.startswith(f"{config.log_dir}/") and not os.path.lexists(target):
                os.unlink(entry.path)
                gone += 1
    return gone
