"""Gives out CPUs (policy ``static``) and keeps other containers off them (pkg/kubelet/cm/cpumanager)."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable

from minikubelet.base.errors import NodeError
from minikubelet.criapi import api_pb2 as api
from minikubelet.kubelet.allocatable import format_cpus, parse_cpus, reserved
from minikubelet.kubelet.cpumanager import state as files
from minikubelet.kubelet.cpumanager.state import State
from minikubelet.kubelet.cpumanager.topology import NotAligned, NotEnough, Topology
from minikubelet.kubelet.cri_client import CriClient
from minikubelet.kubelet.defaults import is_sidecar
from minikubelet.kubelet.objects import Container, Pod
from minikubelet.kubelet.objects.quantity import milli
from minikubelet.kubelet.observed import ObservedContainer
from minikubelet.kubelet.resource_config import ResourceConfig
from minikubelet.kubelet.resources import GUARANTEED, qos_class

log = logging.getLogger(__name__)

STATIC = "static"
FULL_CORES, STRICT = "full-pcpus-only", "strict-cpu-reservation"
"""Policy options."""


def exclusive_cpus(pod: Pod, container: Container) -> int:
    """How many CPUs the container has for itself; 0: it shares."""
    if pod.spec.resources is not None or qos_class(pod) != GUARANTEED:
        return 0
    asked = milli(container.resources.requests.get("cpu", container.resources.limits.get("cpu", 0)))
    return asked // 1000 if asked % 1000 == 0 else 0


class CpuManager:
    """One node's, with the policy ``static``.

    Raises ValueError if no CPU is reserved: the node itself needs one that nobody has alone. Raises OSError.
    """

    def __init__(self, config: ResourceConfig, folder: str, topology: Topology) -> None:
        self._path = os.path.join(folder, "cpu_manager_state")
        self._topology = topology
        options = config.devices.cpu_manager_policy_options
        self._full_cores, self._strict = options.get(FULL_CORES, False), options.get(STRICT, False)
        self.reserved = self._reserve(config)
        self._applied: dict[str, str] = {}
        found = files.load(self._path, STATIC)
        if found is None or not self._fits(found):
            found = State(STATIC, format_cpus(self._usable))
        self._state = found
        self._save()

    def _reserve(self, config: ResourceConfig) -> frozenset[int]:
        if config.reserved.reserved_system_cpus:
            named = parse_cpus(config.reserved.reserved_system_cpus)
            if lacking := named - self._topology.cpus:
                raise ValueError(f"reservedSystemCPUs: this machine has no CPU {format_cpus(lacking)} online")
            return named
        count = -(-reserved(config).get("cpu", 0) // 1000)
        if not count:
            raise ValueError(
                "the static policy needs CPUs in kubeReserved, systemReserved or reservedSystemCPUs"
            )
        return self._topology.take(self._topology.cpus, count)

    @property
    def _usable(self) -> frozenset[int]:
        """CPUs that any container may be on."""
        return self._topology.cpus - self.reserved if self._strict else self._topology.cpus

    def _fits(self, state: State) -> bool:
        """Whether a state is about this machine: every CPU once, the reserved ones shared or nobody's."""
        try:
            shared = parse_cpus(state.default_cpu_set)
            given = [parse_cpus(each) for pod in state.entries.values() for each in pod.values()]
        except ValueError:
            return False
        alone = frozenset[int]().union(*given)
        if shared | alone == self._usable and not self.reserved & alone and not shared & alone:
            return True
        log.error("%s is not about the CPUs of this machine, they are given out anew", self._path)
        return False

    # --- what others ask -------------------------------------------------------------------------------

    @property
    def shared(self) -> frozenset[int]:
        """CPUs of all containers that have none of their own."""
        return parse_cpus(self._state.default_cpu_set)

    @property
    def allocatable(self) -> frozenset[int]:
        """CPUs that may be given out."""
        return self._topology.cpus - self.reserved

    @property
    def held(self) -> bool:
        """Whether anybody has CPUs of their own."""
        return bool(self._state.entries)

    @property
    def given(self) -> int:
        """How many CPUs are somebody's own."""
        own = (parse_cpus(cpus) for pod in self._state.entries.values() for cpus in pod.values())
        return len(frozenset[int]().union(*own))

    @property
    def free(self) -> int:
        """How many may still be given out."""
        return len(self.shared - self.reserved)

    def exclusive(self, uid: str, container: str) -> frozenset[int]:
        """A container's own CPUs; empty if it shares."""
        return parse_cpus(self._state.entries.get(uid, {}).get(container, ""))

    def cpuset(self, uid: str, container: str) -> str:
        """CPUs on which a container may run, as the kernel writes them."""
        # Without reserved CPUs among them, the shared ones may all be given away; then only those are left.
        return format_cpus(self.exclusive(uid, container) or self.shared or self.reserved)

    def allocate(self, pod: Pod) -> None:
        """Give the pod's containers their CPUs; again is fine.

        Raises NotEnough, or NotAligned where only whole cores are given, with nothing given.
        """
        before = {uid: dict(each) for uid, each in self._state.entries.items()}, self._state.default_cpu_set
        reusable: frozenset[int] = frozenset()
        try:
            for container in pod.spec.init_containers:
                own = self._allocate(pod, container, reusable)
                reusable = reusable - own if is_sidecar(container) else reusable | own
            for container in pod.spec.containers:
                reusable -= self._allocate(pod, container, reusable)
        except NotEnough:
            self._state.entries, self._state.default_cpu_set = before
            raise
        if (self._state.entries, self._state.default_cpu_set) != before:
            self._save()

    def _allocate(self, pod: Pod, container: Container, reusable: frozenset[int]) -> frozenset[int]:
        present = self.exclusive(pod.uid, container.name)
        count = exclusive_cpus(pod, container)
        if present or not count:
            return present
        first = self._topology.take(reusable, min(count, len(reusable)))
        free = self.shared - self.reserved - first
        if self._full_cores:
            free -= self._topology.siblings(self.reserved)
            self._check_cores(count, len(free | first))
        own = first | self._topology.take(free, count - len(first))
        self._state.entries.setdefault(pod.uid, {})[container.name] = format_cpus(own)
        self._state.default_cpu_set = format_cpus(self.shared - own)
        return own

    def _check_cores(self, count: int, available: int) -> None:
        """Raises NotAligned, in upstream's words."""
        threads = self._topology.threads
        if count % threads:
            raise NotAligned(
                f"SMT Alignment Error: requested {count} cpus not multiple cpus per core = {threads}"
            )
        if count > available:
            raise NotAligned(
                "SMT Alignment Error: not enough free physical CPUs: available physical CPUs = "
                f"{available}, requested CPUs = {count}, CPUs per core = {threads}"
            )

    def keep_only(self, uids: Iterable[str]) -> None:
        """Take back what pods have that are no longer active."""
        gone = self._state.entries.keys() - set(uids)
        if not gone:
            return
        back = frozenset(
            cpu for uid in gone for each in self._state.entries.pop(uid).values() for cpu in parse_cpus(each)
        )
        self._state.default_cpu_set = format_cpus(self.shared | back)
        self._save()

    async def reconcile(self, client: CriClient, containers: Iterable[ObservedContainer]) -> None:
        """Move running containers to the CPUs that are now theirs; one failure holds up no other."""
        running = {each.id: each for each in containers if each.is_running}
        for identifier in self._applied.keys() - running.keys():
            del self._applied[identifier]
        for identifier, container in running.items():
            wanted = self.cpuset(container.pod_uid, container.name)
            if self._applied.get(identifier) == wanted:
                continue
            try:
                await client.update_container_resources(
                    identifier, api.LinuxContainerResources(cpuset_cpus=wanted)
                )
                self._applied[identifier] = wanted
            except NodeError as exc:
                log.warning("container %s does not get the CPUs %s: %s", identifier, wanted, exc)

    def _save(self) -> None:
        files.save(self._path, self._state)


def make(config: ResourceConfig, folder: str, topology: Callable[[], Topology]) -> CpuManager | None:
    """The manager that the settings ask for; None with the policy ``none``. Raises ValueError, OSError."""
    policy = config.devices.cpu_manager_policy
    if policy == "none":
        return None
    if policy != STATIC:
        raise ValueError(f"unknown cpuManagerPolicy {policy!r}; known: none, static")
    return CpuManager(config, folder, topology())
