"""``kubepods``, its ``burstable`` and ``besteffort``, and a cgroup a pod below; made and removed here.

The names are upstream's for the cgroupfs driver. For a runtime that says systemd, slices are only named: the
runtime makes them, and what a pod as a whole may use is not limited (said once in the log).
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
from collections.abc import Callable, Collection, Iterator

from minikubelet.base import clock
from minikubelet.base.errors import StepError
from minikubelet.kubelet.cgroups import values
from minikubelet.kubelet.demands import Amounts
from minikubelet.kubelet.metrics.families import Histogram
from minikubelet.kubelet.objects import Pod
from minikubelet.kubelet.resource_config import CgroupConfig
from minikubelet.kubelet.resources import BEST_EFFORT, BURSTABLE, qos_class
from minikubelet.linux.cgroup import core, files
from minikubelet.linux.cgroup.mount import CgroupMount

log = logging.getLogger(__name__)

_CLASSES = ("burstable", "besteffort")
_FOLDERS = {BURSTABLE: "/burstable", BEST_EFFORT: "/besteffort"}


class CgroupTree:
    """The pods' cgroups on one host. Until :meth:`start`, or where it is off, pods go to ``fallback``."""

    def __init__(
        self,
        config: CgroupConfig,
        mount: CgroupMount,
        fallback: str = "",
        seconds: Histogram | None = None,
    ) -> None:
        """``seconds`` is told how long cgroups take to make, change and remove (``create``, …)."""
        self._seconds = seconds
        self._config = config
        self._mount = mount
        self._fallback = fallback
        root = "" if config.cgroups_per_qos else "/" + config.cgroup_root.strip("/")
        self._plain_root = root.rstrip("/")
        self._top = "/" + os.path.normpath(f"{config.cgroup_root}/kubepods").strip("/")
        self._pods: dict[str, Pod] = {}
        self._memory = 0
        self._written: dict[str, dict[str, str]] = {}
        self._systemd = False
        self.enabled = False
        """Whether pods are put below ``kubepods``."""
        self.throttled: Callable[[Pod], bool] = lambda pod: True
        """Whether a pod's CPU limits are to be enforced."""

    # --- the node --------------------------------------------------------------------------------------

    def start(self, limits: Amounts, *, systemd: bool = False, memory: int = 0) -> None:
        """Make the tree where the host can carry it. Raises StepError, NodeError for a bad cgroup root.

        ``limits`` are those of all pods together, ``memory`` the bytes that ``qosReserved`` divides.
        """
        if self._fallback or not self._config.cgroups_per_qos:
            return
        lacking = values.NEEDED - self._mount.controllers
        if not self._mount.path or lacking:
            what = f"lacks {', '.join(sorted(lacking))}" if self._mount.path else "is not mounted"
            log.warning("cgroupsPerQOS is off: cgroup2 %s here, so pods as a whole have no limits", what)
            return
        self.enabled, self._systemd = True, systemd
        if systemd:
            log.warning("the runtime's cgroup driver is systemd: pods as a whole have no limits")
            return
        self._memory = memory
        self._write(self._top, values.node_files(limits))
        self._write(f"{self._top}/besteffort", values.best_effort_files())
        if not os.path.isdir(f"{self.top}/burstable"):
            self._write_classes()  # else it stands for pods of an earlier run, which are yet to be told

    def limit_existing(self, path: str, content: dict[str, str]) -> None:
        """Write settings of a cgroup that isn't ours. Raises StepError; NodeError for a bad path."""
        folder = f"{self._mount.path}/{core.check_path(path).strip('/')}"
        try:
            if not self._mount.path or not os.path.isdir(folder):
                raise FileNotFoundError(errno.ENOENT, "no such cgroup", folder)
            with self._timed("update"):
                files.write_all(folder, content)
        except OSError as exc:
            raise StepError("limit the cgroup", exc.errno or 0, str(exc.filename or folder)) from exc

    def close(self) -> None:
        """Remove what is empty; cgroups that still hold pods stay."""
        if self.enabled and not self._systemd:
            for name in ("/burstable", "/besteffort", ""):
                with contextlib.suppress(OSError):
                    os.rmdir(self._mount.path + self._top + name)

    @property
    def top(self) -> str:
        """Path of the cgroup of all pods on the host; empty where there is none."""
        return self._mount.path + self._top if self.enabled and not self._systemd else ""

    # --- pods ------------------------------------------------------------------------------------------

    def parent(self, pod: Pod) -> str:
        """The cgroup_parent of the pod's sandbox."""
        if not self.enabled:
            return self._fallback or self._plain_root
        quality = _FOLDERS.get(qos_class(pod), "")
        if self._systemd:
            middle = f"-{quality.strip('/')}" if quality else ""
            return f"kubepods{middle}-pod{pod.uid.replace('-', '_')}.slice"
        return f"{self._top}{quality}/pod{pod.uid}"

    def ensure(self, pod: Pod) -> None:
        """Make the pod's cgroup, or write what has changed. Raises StepError."""
        if not self.top:
            return
        self._pods[pod.uid] = pod
        if self._shared_by(pod):
            self._write_classes()
        self._write(self.parent(pod), values.pod_files(pod, self._config, self.throttled(pod)))

    def remove(self, uid: str) -> None:
        """Remove the pod's cgroup, whatever its class was; what still runs in it is killed. Idempotent.

        Raises OSError (EBUSY while something is dying: try again).
        """
        if not self.top:
            return
        for quality in ("", *_FOLDERS.values()):
            folder = f"{self.top}{quality}/pod{uid}"
            self._written.pop(f"{self._top}{quality}/pod{uid}", None)
            if not os.path.isdir(folder):
                continue
            with self._timed("destroy"):
                if not core.remove(folder):
                    core.kill(folder)
                    if not core.remove(folder):
                        raise OSError(errno.EBUSY, "processes are still ending", folder)
        pod = self._pods.pop(uid, None)
        if pod is not None and self._shared_by(pod):
            self._write_classes()

    def sweep(self, keep: Collection[str]) -> int:
        """Remove empty cgroups of pods that are not among ``keep`` (UIDs); how many there were."""
        gone = 0
        for quality in ("", *_FOLDERS.values()) if self.top else ():
            parent = f"{self.top}{quality}"
            for name in os.listdir(parent) if os.path.isdir(parent) else ():
                stray = name.startswith("pod") and name.removeprefix("pod") not in keep
                if stray and not core.populated(f"{parent}/{name}"):
                    gone += core.remove(f"{parent}/{name}")
        return gone

    @contextlib.contextmanager
    def _timed(self, operation: str) -> Iterator[None]:
        began = clock.monotonic()
        try:
            yield
        finally:
            if self._seconds is not None:
                self._seconds.observe(clock.monotonic() - began, (operation,))

    def _shared_by(self, pod: Pod) -> bool:
        """Whether what classes of pods have as a whole depends on this one."""
        return qos_class(pod) == BURSTABLE or self._config.memory_qos or bool(self._config.qos_reserved)

    def _write_classes(self) -> None:
        pods = list(self._pods.values())
        burstable = [each for each in pods if qos_class(each) == BURSTABLE]
        files = values.burstable_files(burstable, self._config)
        if guarded := values.guarded_memory(pods, self._config):
            self._write(self._top, {**self._written.get(self._top, {}), **guarded})
        left = values.memory_left(pods, self._config, self._memory)
        for name, content, limit in zip(
            _CLASSES, (files, values.best_effort_files()), left or (None, None), strict=True
        ):
            most = "max" if limit is None else self._at_least_used(name, limit)
            self._write(f"{self._top}/{name}", {**content, "memory.max": most})

    def _at_least_used(self, name: str, limit: int) -> str:
        """A limit below what is in use would make the kernel kill somebody: it only stops growing, then."""
        try:
            with open(f"{self.top}/{name}/memory.current", encoding="ascii") as file:
                return str(max(limit, int(file.read())))
        except (OSError, ValueError):
            return str(limit)

    def _write(self, path: str, content: dict[str, str]) -> None:
        """Make a cgroup and write its settings. A file that the kernel hasn't (hugetlb) is left out."""
        folder = self._mount.path + path
        there = os.path.isdir(folder)
        if self._written.get(path) == content and there:
            return
        with self._timed("update" if there else "create"):
            self._set(path, folder, content)

    def _set(self, path: str, folder: str, content: dict[str, str]) -> None:
        try:
            core.ensure(self._mount.path, path, values.WANTED)
            core.enable(folder, values.WANTED)
            for name, value in content.items():
                if os.path.exists(f"{folder}/{name}"):
                    files.write(folder, name, value)
            self._written[path] = content
        except OSError as exc:
            raise StepError("set up the cgroup", exc.errno or 0, str(exc.filename or folder)) from exc
