"""What containers get of the node one by one, CPUs and devices, and who has what (PodResources API v1)."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
from collections.abc import Callable, Iterable

from minikubelet.base.errors import Code, NodeError
from minikubelet.criapi import api_pb2 as api
from minikubelet.criapi import podresources_pb2 as pr
from minikubelet.criapi import services
from minikubelet.kubelet.admission import Rejection
from minikubelet.kubelet.config import KubeletConfig
from minikubelet.kubelet.cpumanager import manager as cpus
from minikubelet.kubelet.cpumanager.manager import CpuManager
from minikubelet.kubelet.cpumanager.topology import NotAligned, NotEnough, read_topology
from minikubelet.kubelet.cri_client import CriClient
from minikubelet.kubelet.defaults import is_sidecar
from minikubelet.kubelet.devices.manager import DeviceManager, wanted_devices
from minikubelet.kubelet.devices.watcher import PluginWatcher
from minikubelet.kubelet.grpc_server import UnixServer
from minikubelet.kubelet.metrics.allocation import AllocationInstruments
from minikubelet.kubelet.objects import Container, Pod
from minikubelet.kubelet.objects.podstatus import ResourceStatus
from minikubelet.kubelet.observed import ObservedContainer

log = logging.getLogger(__name__)

_USUAL_ROOT = KubeletConfig.root
_USUAL_PLUGINS = "/var/lib/kubelet/device-plugins"
_USUAL_REGISTRY = "/var/lib/kubelet/plugins_registry"
_USUAL_RESOURCES = "/var/lib/kubelet/pod-resources/kubelet.sock"


class Allocations:
    """One node's. ``active`` tells the pods that may have something."""

    def __init__(self, config: KubeletConfig, active: Callable[[], Iterable[Pod]]) -> None:
        self._config = config
        self._active = active
        self.cpus: CpuManager | None = None
        self.devices: DeviceManager | None = None
        self.counted = AllocationInstruments()
        self.changed: Callable[[str], None] = lambda uid: None
        """Called with a pod's UID when its devices may have fallen ill or recovered."""

    async def start(self, stack: contextlib.AsyncExitStack) -> None:
        """Begin, as far as the settings ask for it. Raises ValueError for bad ones, OSError."""
        settings = self._config.resources.devices
        self.cpus = cpus.make(self._config.resources, self._config.root, read_topology)
        if folder := self._or_usual(settings.device_plugin_dir, _USUAL_PLUGINS):
            state = os.path.join(self._config.root, "devices.json")
            devices = DeviceManager(folder, state, self.changed, self.counted)
            if await _started(devices, "device plugins"):
                self.devices = devices
                stack.push_async_callback(devices.close)
                if registry := self._or_usual(settings.plugin_registry_dir, _USUAL_REGISTRY):
                    watcher = PluginWatcher(registry, {"DevicePlugin": devices})
                    stack.push_async_callback(watcher.close)
                    watcher.start()
        if path := self._or_usual(settings.pod_resources_socket, _USUAL_RESOURCES):
            server = UnixServer(path, [(services.POD_RESOURCES, self), (services.POD_RESOURCES_ALPHA, self)])
            if await _started(server, "PodResources"):
                stack.push_async_callback(server.close)

    def _or_usual(self, path: str | None, usual: str) -> str:
        """``path``, or upstream's for the one kubelet of a machine that has the usual root."""
        if path is not None:
            return path
        return usual if self._config.root == _USUAL_ROOT else ""

    # --- pods ------------------------------------------------------------------------------------------

    def room(self) -> dict[str, int]:
        """Devices that pods may ask for."""
        return self.devices.allocatable() if self.devices is not None else {}

    def health(self, pod: Pod) -> dict[str, list[ResourceStatus]]:
        """By regular container, as upstream shows it: how the devices are that it has."""
        if self.devices is None:
            return {}
        found = {each.name: self.devices.health(pod.uid, each.name) for each in pod.spec.containers}
        return {name: devices for name, devices in found.items() if devices}

    def admit(self, pod: Pod) -> Rejection | None:
        """Give the pod its CPUs, or say why it can't have them."""
        self._collect(pod.uid)
        if self.cpus is None:
            return None
        every = [*pod.spec.init_containers, *pod.spec.containers]
        asking = [each for each in every if cpus.exclusive_cpus(pod, each)]
        new = [each for each in asking if not self.cpus.exclusive(pod.uid, each.name)]
        self.counted.pinning_requests.inc(by=len(new))
        try:
            self.cpus.allocate(pod)
        except NotEnough as exc:
            self.counted.pinning_errors.inc()
            if isinstance(exc, NotAligned):
                return Rejection("SMTAlignmentError", str(exc))
            return Rejection("UnexpectedAdmissionError", f"Allocate failed due to {exc}, which is unexpected")
        return None

    def _collect(self, *more: str) -> None:
        """Take back what pods have that have ended."""
        held = (self.cpus is not None and self.cpus.held) or (self.devices is not None and self.devices.held)
        if not held:
            return
        uids = {pod.uid for pod in self._active()} | set(more)
        if self.cpus is not None:
            self.cpus.keep_only(uids)
        if self.devices is not None:
            self.devices.keep_only(uids)

    async def prepare(self, pod: Pod, container: Container, config: api.ContainerConfig) -> None:
        """Put CPUs and devices into a container's configuration. Raises NodeError."""
        if self.cpus is not None:
            config.linux.resources.cpuset_cpus = self.cpus.cpuset(pod.uid, container.name)
            self.unthrottle(pod, container, config.linux.resources)
        if self.devices is not None:
            self._collect(pod.uid)
            await self.devices.prepare(pod, container, config)
        elif lacking := sorted(wanted_devices(container)):
            message = f"{', '.join(lacking)}: this node takes no device plugins"
            raise NodeError(Code.FAILED_PRECONDITION, message)

    def unthrottle(self, pod: Pod, container: Container, resources: api.LinuxContainerResources) -> None:
        """Take the quota away from who has CPUs alone: nobody else is on them, there is nothing to share."""
        if self.cpus is not None and self.cpus.exclusive(pod.uid, container.name):
            resources.cpu_quota = -1

    def is_throttled(self, pod: Pod) -> bool:
        """Whether a quota holds for the pod as a whole: no container has CPUs alone."""
        everyone = [*pod.spec.init_containers, *pod.spec.containers]
        return self.cpus is None or not any(self.cpus.exclusive(pod.uid, each.name) for each in everyone)

    async def reconcile(self, client: CriClient, containers: Iterable[ObservedContainer]) -> None:
        """Bring running containers to the CPUs that are now theirs."""
        self._collect()
        if self.cpus is not None:
            await self.cpus.reconcile(client, containers)

    # --- PodResources ----------------------------------------------------------------------------------

    async def List(self, request: pr.ListPodResourcesRequest) -> pr.ListPodResourcesResponse:
        """Every active pod with what its containers have."""
        self.counted.asked("List", well=True)
        return pr.ListPodResourcesResponse(pod_resources=[self._of_pod(pod) for pod in self._active()])

    async def Get(self, request: pr.GetPodResourcesRequest) -> pr.GetPodResourcesResponse:
        """One pod's."""
        for pod in self._active():
            if (pod.metadata.name, pod.metadata.namespace) == (request.pod_name, request.pod_namespace):
                self.counted.asked("Get", well=True)
                return pr.GetPodResourcesResponse(pod_resources=self._of_pod(pod))
        self.counted.asked("Get", well=False)
        raise NodeError(
            Code.NOT_FOUND, f"pod {request.pod_name} in namespace {request.pod_namespace} not found"
        )

    async def GetAllocatableResources(
        self, request: pr.AllocatableResourcesRequest
    ) -> pr.AllocatableResourcesResponse:
        """What can be given out at all."""
        self.counted.asked("GetAllocatableResources", well=True)
        answer = pr.AllocatableResourcesResponse(
            cpu_ids=sorted(self.cpus.allocatable) if self.cpus is not None else []
        )
        for plugin in self.devices.plugins() if self.devices is not None else ():
            for device in plugin.devices.values():
                if device.healthy:
                    answer.devices.append(_devices(plugin.resource, [device.id], device.nodes))
        return answer

    def _of_pod(self, pod: Pod) -> pr.PodResources:
        return pr.PodResources(
            name=pod.metadata.name,
            namespace=pod.metadata.namespace,
            # As upstream: ordinary init containers hand on what they have, listed it would count twice.
            containers=[
                self._of_container(pod, each)
                for each in [*filter(is_sidecar, pod.spec.init_containers), *pod.spec.containers]
            ],
        )

    def _of_container(self, pod: Pod, container: Container) -> pr.ContainerResources:
        own = self.cpus.exclusive(pod.uid, container.name) if self.cpus is not None else frozenset[int]()
        answer = pr.ContainerResources(name=container.name, cpu_ids=sorted(own))
        if self.devices is None:
            return answer
        known = {plugin.resource: plugin.devices for plugin in self.devices.plugins()}
        for resource, grant in self.devices.granted(pod.uid, container.name).items():
            for identifier in grant.devices:
                device = known.get(resource, {}).get(identifier)
                nodes = device.nodes if device is not None else ()
                answer.devices.append(_devices(resource, [identifier], nodes))
        return answer


async def _started(server: DeviceManager | UnixServer, what: str) -> bool:
    """Start it; another kubelet that serves there already keeps its place."""
    try:
        await server.start()
    except OSError as exc:
        if exc.errno != errno.EADDRINUSE:
            raise
        log.warning("no %s: %s", what, exc)
        return False
    return True


def _devices(resource: str, identifiers: list[str], nodes: Iterable[int]) -> pr.ContainerDevices:
    topology = [pr.NUMANode(ID=each) for each in nodes]
    return pr.ContainerDevices(
        resource_name=resource,
        device_ids=identifiers,
        topology=pr.TopologyInfo(nodes=topology) if topology else None,
    )
