"""Registers device plugins and gives their devices to containers (pkg/kubelet/cm/devicemanager).

Upstream gives them out when a pod is admitted; here a container gets them right before it is made, so that a
pod may come before its plugin: it waits (CreateContainerConfigError) until the plugin has registered.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import logging
import os
import re
import stat
from collections.abc import Callable, Iterable

import msgspec

from minikubelet.base import clock, files
from minikubelet.base.errors import Code, NodeError, invalid
from minikubelet.criapi import api_pb2 as api
from minikubelet.criapi import deviceplugin_pb2 as dp
from minikubelet.criapi import services
from minikubelet.kubelet.defaults import is_sidecar
from minikubelet.kubelet.demands import container_limits
from minikubelet.kubelet.devices.plugin import Plugin
from minikubelet.kubelet.grpc_server import UnixServer
from minikubelet.kubelet.metrics.allocation import AllocationInstruments
from minikubelet.kubelet.objects import Container, Pod
from minikubelet.kubelet.objects.podstatus import ResourceHealth, ResourceStatus

log = logging.getLogger(__name__)

VERSION = "v1beta1"
SOCKET = "kubelet.sock"
_RESOURCE = re.compile(r"(?!kubernetes\.io/)[a-z0-9.-]{1,253}\.[a-z0-9.-]+/[A-Za-z0-9][-A-Za-z0-9_.]{0,62}\Z")
_ENDPOINT = re.compile(r"[A-Za-z0-9_.-]{1,100}\Z")


class Grant(msgspec.Struct):
    """Devices of one resource that a container has, and what its plugin said they need."""

    devices: list[str]
    response: str
    """ContainerAllocateResponse, base64."""


Grants = dict[str, dict[str, dict[str, Grant]]]
"""Pod UID → container → resource."""


class DeviceManager:
    """One node's; ``folder`` has the sockets, ``state`` is a file that outlives the process.

    ``changed`` is called with a pod's UID when devices of its containers may have fallen ill or recovered.
    """

    def __init__(
        self,
        folder: str,
        state: str,
        changed: Callable[[str], None],
        counted: AllocationInstruments | None = None,
    ) -> None:
        self._folder = folder
        self._state = state
        self._tell = changed
        self._counted = counted or AllocationInstruments()
        self._plugins: dict[str, Plugin] = {}
        self._grants: Grants = _load(state)
        self._lock = asyncio.Lock()
        self._server: UnixServer | None = None

    async def start(self) -> None:
        """Serve registrations. Plugins see the new socket and register again. Raises OSError."""
        path = os.path.join(self._folder, SOCKET)
        server = UnixServer(path, [(services.DEVICE_REGISTRATION, self)])
        server.claim()
        self._clear()  # before the first of them can register anew
        await server.start()
        self._server = server

    def _clear(self) -> None:
        """Remove the sockets of an earlier run's plugins: many wait for that to register again."""
        with os.scandir(self._folder) as entries:
            for entry in entries:
                if entry.name != SOCKET and stat.S_ISSOCK(entry.stat(follow_symlinks=False).st_mode):
                    with contextlib.suppress(FileNotFoundError):
                        os.unlink(entry.path)

    async def close(self) -> None:
        """Stop serving; containers keep what they have."""
        if self._server is not None:
            await self._server.close()
        for plugin in self._plugins.values():
            await plugin.close()

    async def Register(self, request: dp.RegisterRequest) -> dp.Empty:
        """A plugin says that it is there; a second one for a resource takes the place of the first."""
        if not _ENDPOINT.match(request.endpoint):
            raise invalid("endpoint", f"{request.endpoint!r} is not the name of a socket in {self._folder}")
        socket = os.path.join(self._folder, request.endpoint)
        await self.take(request.resource_name, socket, [request.version])
        return dp.Empty()

    async def take(self, name: str, endpoint: str, versions: list[str]) -> None:
        """See :class:`minikubelet.kubelet.devices.watcher.Taker`; it is asked for its options in any case."""
        if VERSION not in versions:
            raise invalid("version", f"{', '.join(versions)!r} is not supported, {VERSION} is")
        if not _RESOURCE.match(name):
            raise invalid("resource_name", f"{name!r} is no extended resource")
        plugin = Plugin(name, endpoint, lambda: self._changed(name))
        try:
            await plugin.start()
        except BaseException:
            await plugin.close()
            raise
        former = self._plugins.get(name)
        self._plugins[name] = plugin
        if former is not None:
            await former.close()
        self._counted.registrations.inc((name,))
        log.info("device plugin %s registered with %s", name, endpoint)

    async def let_go(self, name: str, endpoint: str) -> None:
        """See :class:`minikubelet.kubelet.devices.watcher.Taker`; containers keep what they have."""
        plugin = self._plugins.get(name)
        if plugin is not None and plugin.socket == endpoint:
            await plugin.end()

    def _changed(self, resource: str) -> None:
        log.info("devices: %s", ", ".join(f"{name}: {count}" for name, count in self.allocatable().items()))
        for uid, containers in self._grants.items():
            if any(resource in grants for grants in containers.values()):
                self._tell(uid)

    # --- what there is ---------------------------------------------------------------------------------

    def allocatable(self) -> dict[str, int]:
        """Healthy devices by resource."""
        return {
            name: sum(each.healthy for each in plugin.devices.values())
            for name, plugin in self._plugins.items()
        }

    def plugins(self) -> Iterable[Plugin]:
        """All that are registered."""
        return self._plugins.values()

    @property
    def held(self) -> bool:
        """Whether anybody has devices."""
        return bool(self._grants)

    def granted(self, uid: str, container: str) -> dict[str, Grant]:
        """What a container has, by resource."""
        return self._grants.get(uid, {}).get(container, {})

    def health(self, uid: str, container: str) -> list[ResourceStatus]:
        """How the devices are that a container has (KEP-4680); one whose plugin says nothing is well."""
        found = []
        for resource, grant in sorted(self.granted(uid, container).items()):
            plugin = self._plugins.get(resource)
            known = plugin.devices if plugin is not None else {}
            each = [
                ResourceHealth(
                    resource_id=device,
                    health="Healthy" if device not in known or known[device].healthy else "Unhealthy",
                )
                for device in sorted(grant.devices)
            ]
            found.append(ResourceStatus(name=resource, resources=each))
        return found

    def keep_only(self, uids: Iterable[str]) -> None:
        """Take back what pods have that are no longer active."""
        gone = self._grants.keys() - set(uids)
        for uid in gone:
            del self._grants[uid]
        if gone:
            self._save()

    # --- giving ----------------------------------------------------------------------------------------

    async def prepare(self, pod: Pod, container: Container, config: api.ContainerConfig) -> None:
        """Give a container the devices it asks for and put them into its configuration.

        Raises NodeError: there is no plugin, there are too few devices, the plugin fails.
        """
        async with self._lock:
            for resource, count in wanted_devices(container).items():
                grant = self.granted(pod.uid, container.name).get(resource)
                if grant is None:
                    grant = await self._grant(pod, container, resource, count)
                response = dp.ContainerAllocateResponse.FromString(base64.b64decode(grant.response))
                apply(response, config)
                plugin = self._plugins.get(resource)
                if plugin is not None and plugin.options.pre_start_required:
                    await plugin.before_start(grant.devices)

    async def _grant(self, pod: Pod, container: Container, resource: str, count: int) -> Grant:
        plugin = self._plugins.get(resource)
        if plugin is None:
            raise NodeError(Code.UNAVAILABLE, f"no device plugin has registered {resource}")
        chosen = await self._choose(plugin, pod, count)
        began = clock.monotonic()
        response = await plugin.allocate(chosen)
        self._counted.allocation_seconds.observe(clock.monotonic() - began, (resource,))
        grant = Grant(chosen, base64.b64encode(response.SerializeToString()).decode())
        self._grants.setdefault(pod.uid, {}).setdefault(container.name, {})[resource] = grant
        self._save()
        return grant

    async def _choose(self, plugin: Plugin, pod: Pod, count: int) -> list[str]:
        """Devices of init containers that have ended come first, then those the plugin prefers."""
        reusable = self._reusable(pod, plugin.resource)
        in_use = {
            each
            for containers in self._grants.values()
            for grants in containers.values()
            for each in (grants[plugin.resource].devices if plugin.resource in grants else ())
        }
        healthy = sorted(each.id for each in plugin.devices.values() if each.healthy)
        must = [each for each in healthy if each in reusable][:count]
        available = [each for each in healthy if each in must or each not in in_use]
        if len(available) < count:
            raise NodeError(
                Code.RESOURCE_EXHAUSTED,
                f"requested number of devices unavailable for {plugin.resource}. "
                f"Requested: {count}, Available: {len(available)}",
            )
        if len(must) == count:
            return must
        if plugin.options.get_preferred_allocation_available:
            preferred = await plugin.prefer(available, must, count)
            if len(set(preferred)) == count and set(must) <= set(preferred) <= set(available):
                return sorted(preferred)
            log.warning("device plugin %s prefers what can't be given: %s", plugin.resource, preferred)
        rest = [each for each in available if each not in must]
        return must + rest[: count - len(must)]

    def _reusable(self, pod: Pod, resource: str) -> set[str]:
        """What init containers had that is not used by a container which runs on."""
        init = {each.name for each in pod.spec.init_containers if not is_sidecar(each)}
        mine = self._grants.get(pod.uid, {})

        def devices(*, of_init: bool) -> set[str]:
            found = [g[resource].devices for n, g in mine.items() if resource in g and (n in init) == of_init]
            return {each for one in found for each in one}

        return devices(of_init=True) - devices(of_init=False)

    def _save(self) -> None:
        files.write_atomic(self._state, msgspec.json.encode(self._grants))


def wanted_devices(container: Container) -> dict[str, int]:
    """Extended resources that a container asks for, and how many of each."""
    return {name: count for name, count in container_limits(container).items() if "/" in name and count > 0}


def _load(path: str) -> Grants:
    try:
        with open(path, "rb") as file:
            return msgspec.json.decode(file.read(16 << 20), type=Grants)
    except FileNotFoundError:
        return {}
    except (OSError, msgspec.DecodeError) as exc:
        log.error("%s can't be read, devices are given out anew: %s", path, exc)
        return {}


def apply(response: dp.ContainerAllocateResponse, config: api.ContainerConfig) -> None:
    """Put what a plugin said into a container's configuration; the manifest's own variables come first."""
    own = {each.key for each in config.envs}
    for key, value in sorted(response.envs.items()):
        if key not in own:
            config.envs.append(api.KeyValue(key=key, value=value.encode()))
    for mount in response.mounts:
        config.mounts.append(
            api.Mount(
                container_path=mount.container_path, host_path=mount.host_path, readonly=mount.read_only
            )
        )
    for device in response.devices:
        config.devices.append(
            api.Device(
                container_path=device.container_path,
                host_path=device.host_path,
                permissions=device.permissions or "rw",
            )
        )
    for key, value in response.annotations.items():
        if key not in config.annotations:
            config.annotations[key] = value
    config.CDI_devices.extend(api.CDIDevice(name=each.name) for each in response.cdi_devices)
