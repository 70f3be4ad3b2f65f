"""The ``cni`` network: pods are connected by the plugins of the first file in the configuration folder.

What an ADD was given and what it answered is kept in a file per pod, written before the first plugin runs:
DEL and GC work after a restart, after a crash in the middle, and after the configuration has changed.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import time
from collections.abc import AsyncIterator, Collection, Sequence
from typing import Any

from minikubelet.base.config import NetworkConfig
from minikubelet.base.errors import NodeError, invalid, precondition
from minikubelet.base.files import write_atomic
from minikubelet.base.ids import short
from minikubelet.network import cni_config, cni_exec
from minikubelet.network.cni_config import Json, NetworkList, Pod
from minikubelet.network.pod_network import Attachment
from minikubelet.network.port_maps import PortMapping, normalise

log = logging.getLogger(__name__)

INTERFACE = "eth0"
_ADD_WAIT, _DEL_WAIT, _STATUS_WAIT, _GC_WAIT = 120.0, 60.0, 10.0, 60.0
_STATUS_AGE = 5.0
"""Seconds for which an answer to STATUS is good."""
_REASON = "NetworkPluginNotReady"


class CniNetwork:
    """Connects pods through CNI plugins; has the methods of the built-in ``PodNetwork``."""

    needs_netns = True

    def __init__(self, config: NetworkConfig, root: str) -> None:
        self._conf_dir = config.cni_conf_dir
        self._bin_dirs = config.cni_bin_dirs
        self._cache = f"{root}/cni"
        self._problem = ""
        self._checked = 0.0
        self._checked_signature: object = None
        self._checking: asyncio.Task[None] | None = None
        self._locks: dict[str, asyncio.Lock] = {}

    # --- life ---

    async def start(self) -> None:
        """Make the folders and ask the plugins for their status. Raises OSError."""
        os.makedirs(self._conf_dir, 0o755, exist_ok=True)
        os.makedirs(self._cache, 0o700, exist_ok=True)
        ready, _, message = self.status()
        await self._wait_for_check()
        if not ready:
            log.warning("CNI: %s", message)

    async def close(self) -> None:
        """End what runs in the background; pods stay connected."""
        if self._checking is not None:
            self._checking.cancel()
            await asyncio.wait([self._checking])

    async def teardown(self) -> None:
        """Nothing of this machine's network is ours but the pods' attachments.

        Raises NodeError FAILED_PRECONDITION while there are any.
        """
        attached = self._attached()
        if attached:
            raise precondition(f"{len(attached)} pods are still attached to CNI networks")
        await self.close()

    def status(self) -> tuple[bool, str, str]:
        """The CRI condition NetworkReady: (ready, reason, message).

        The folder is read anew at each call. Plugins' own STATUS (since 1.1.0) is asked for in the background
        and told by the next call.
        """
        try:
            network = cni_config.load(self._conf_dir)
        except NodeError as exc:
            return False, _REASON, f"Network plugin returns error: {exc}"
        self._check_in_background(network)
        if self._problem:
            return False, _REASON, f"Network plugin returns error: {self._problem}"
        return True, "", ""

    def _check_in_background(self, network: NetworkList) -> None:
        if not network.speaks("1.1.0"):
            self._problem, self._checked_signature = "", None
            return
        signature = json.dumps(network.to_json(), sort_keys=True)
        fresh = time.monotonic() - self._checked < _STATUS_AGE and signature == self._checked_signature
        if fresh or (self._checking is not None and not self._checking.done()):
            return
        self._checked, self._checked_signature = time.monotonic(), signature
        self._checking = asyncio.ensure_future(self._ask_status(network))

    async def _ask_status(self, network: NetworkList) -> None:
        problem = ""
        try:
            for plugin in network.plugins:
                config = cni_config.plugin_config(network, plugin, {}, None)
                await self._execute(config, cni_exec.Call("STATUS", timeout=_STATUS_WAIT))
        except NodeError as exc:
            problem = str(exc)
        if problem != self._problem and problem:
            log.warning("CNI network %s: %s", network.name, problem)
        self._problem = problem

    async def _wait_for_check(self) -> None:
        if self._checking is not None:
            await asyncio.wait([self._checking])

    # --- pods ---

    async def attach(
        self,
        sandbox_id: str,
        netns_fd: int,
        netlink_fd: int,
        ports: Sequence[PortMapping],
        pod: Pod | None = None,
    ) -> Attachment:
        """ADD by every plugin in order; on failure or cancellation DEL is done. Raises NodeError."""
        del netlink_fd  # loopback is up already; the plugins do the rest
        pod = pod or Pod("default", short(sandbox_id), sandbox_id)
        network = cni_config.load(self._conf_dir)
        if self._read(sandbox_id) is not None:
            raise precondition(f"pod sandbox {short(sandbox_id)} is attached already")
        runtime = cni_config.runtime_config(pod, normalise(ports))
        record: Json = {
            "network": network.to_json(),
            "runtimeConfig": runtime,
            "arguments": _arguments(sandbox_id, pod),
            "result": None,
        }
        async with self._lock(sandbox_id):
            try:
                self._write(sandbox_id, record)
                result = await self._add(network, sandbox_id, netns_fd, record)
                attachment = _attachment(result)
                self._write(sandbox_id, {**record, "result": result})
            except BaseException:
                await _finish(self._undo(sandbox_id, netns_fd))
                raise
        return attachment

    async def _add(self, network: NetworkList, sandbox_id: str, netns_fd: int, record: Json) -> Json:
        result: Json | None = None
        for plugin in network.plugins:
            config = cni_config.plugin_config(network, plugin, record["runtimeConfig"], result)
            call = _call("ADD", sandbox_id, netns_fd, record, _ADD_WAIT)
            result = await self._execute(config, call)
            # Results before 0.3.0 had no version; what a plugin leaves out is the configuration's.
            result.setdefault("cniVersion", network.version)
        return result or {}

    async def _undo(self, sandbox_id: str, netns_fd: int) -> None:
        try:
            await self._del(sandbox_id, netns_fd)
        except NodeError as exc:  # collect() tries again at the next start
            log.warning("undoing the attachment of pod sandbox %s: %s", short(sandbox_id), exc)

    async def detach(self, sandbox_id: str, netns_fd: int = -1) -> None:
        """DEL by every plugin in reverse order, with the ADD's configuration; an unknown sandbox is fine.

        ``netns_fd`` is the pod's network namespace, -1 when it is gone: plugins get an empty CNI_NETNS then.
        Raises NodeError when a plugin fails; the attachment is kept, so that it can be tried again.
        """
        async with self._lock(sandbox_id):
            await self._del(sandbox_id, netns_fd)
        self._locks.pop(sandbox_id, None)

    async def _del(self, sandbox_id: str, netns_fd: int) -> None:
        record = self._read(sandbox_id)
        if record is None:
            return
        network = cni_config.parse(record["network"], self._path(sandbox_id))
        previous = record["result"] if network.speaks("0.4.0") else None
        for plugin in reversed(network.plugins):
            config = cni_config.plugin_config(network, plugin, record["runtimeConfig"], previous)
            await self._execute(config, _call("DEL", sandbox_id, netns_fd, record, _DEL_WAIT))
        os.unlink(self._path(sandbox_id))

    def addresses(self, sandbox_id: str) -> Attachment | None:
        """The pod's attachment, None when it has none."""
        record = self._read(sandbox_id)
        return _attachment(record["result"]) if record and record["result"] else None

    async def collect(self, alive: Collection[str]) -> None:
        """DEL what is not in ``alive``, then have plugins that know GC (1.1.0) drop what we don't list."""
        for sandbox_id in set(self._attached()) - set(alive):
            log.info("detaching pod sandbox %s, which is gone", short(sandbox_id))
            try:
                await self.detach(sandbox_id)
            except NodeError as exc:
                log.warning("pod sandbox %s stays attached: %s", short(sandbox_id), exc)
        try:
            network = cni_config.load(self._conf_dir)
        except NodeError:
            return
        if not network.speaks("1.1.0") or not network.collects:
            return
        valid = [
            {"containerID": sandbox_id, "ifname": INTERFACE}
            for sandbox_id in self._attached()
            if (self._read(sandbox_id) or {}).get("network", {}).get("name") == network.name
        ]
        for plugin in network.plugins:
            config = cni_config.plugin_config(network, plugin, {}, None)
            config["cni.dev/valid-attachments"] = valid
            try:
                await self._execute(config, cni_exec.Call("GC", timeout=_GC_WAIT))
            except NodeError as exc:
                log.warning("CNI network %s: %s", network.name, exc)

    # --- below ---

    async def _execute(self, config: Json, call: cni_exec.Call) -> Json:
        return await cni_exec.execute(self._bin_dirs, config, call)

    @contextlib.asynccontextmanager
    async def _lock(self, sandbox_id: str) -> AsyncIterator[None]:
        async with self._locks.setdefault(sandbox_id, asyncio.Lock()):
            yield

    def _path(self, sandbox_id: str) -> str:
        return f"{self._cache}/{sandbox_id}.json"

    def _attached(self) -> list[str]:
        with contextlib.suppress(FileNotFoundError):
            names = os.listdir(self._cache)
            return [name[: -len(".json")] for name in names if name.endswith(".json") and name[0] != "."]
        return []

    def _write(self, sandbox_id: str, record: Json) -> None:
        write_atomic(self._path(sandbox_id), json.dumps(record).encode())

    def _read(self, sandbox_id: str) -> Json | None:
        """The record of an attachment, None when there is none."""
        try:
            with open(self._path(sandbox_id), "rb") as file:
                content = json.load(file)
        except FileNotFoundError:
            return None
        except (ValueError, RecursionError):
            content = None
        return content if _is_record(content) else self._replacement(sandbox_id)

    def _replacement(self, sandbox_id: str) -> Json | None:
        """For a damaged record: plugins find what they gave by the pod's ID, with today's configuration."""
        try:
            network = cni_config.load(self._conf_dir)
        except NodeError as exc:
            log.error("the CNI record of pod sandbox %s is damaged, set aside: %s", short(sandbox_id), exc)
            os.replace(self._path(sandbox_id), f"{self._path(sandbox_id)}.damaged")
            return None
        log.warning(
            "the CNI record of pod sandbox %s is damaged: DEL is as configured now", short(sandbox_id)
        )
        record = {"runtimeConfig": {}, "arguments": {"IgnoreUnknown": "1"}, "result": None}
        return {"network": network.to_json(), **record}


def _is_record(content: object) -> bool:
    if not isinstance(content, dict):
        return False
    parts = (content.get(key) for key in ("network", "runtimeConfig", "arguments"))
    return all(isinstance(part, dict) for part in parts) and isinstance(content.get("result"), dict | None)


def _arguments(sandbox_id: str, pod: Pod) -> dict[str, str]:
    """CNI_ARGS; a name with a separator could pass itself off as another pod's. Raises NodeError."""
    for key in ("namespace", "name", "uid"):
        if any(char in ";=" or not char.isprintable() for char in getattr(pod, key)):
            raise invalid(f"config.metadata.{key}", "has a character that CNI_ARGS can't carry")
    return {
        "IgnoreUnknown": "1",
        "K8S_POD_NAMESPACE": pod.namespace,
        "K8S_POD_NAME": pod.name,
        "K8S_POD_INFRA_CONTAINER_ID": sandbox_id,
        "K8S_POD_UID": pod.uid,
    }


def _call(command: str, sandbox_id: str, netns_fd: int, record: Json, seconds: float) -> cni_exec.Call:
    # Through our own descriptor: no mount is made on the host, and fstatfs(2) says nsfs, as plugins check.
    netns = f"/proc/{os.getpid()}/fd/{netns_fd}" if netns_fd >= 0 else ""
    return cni_exec.Call(command, sandbox_id, netns, INTERFACE, record["arguments"], seconds)


def _attachment(result: Json) -> Attachment:
    ips = cni_config.pod_ips(result, INTERFACE)
    gateways = [str(item.get("gateway") or "") for item in result.get("ips") or []]
    return Attachment(ips, gateways[0] if gateways else "", INTERFACE, cni_config.resolver(result))


async def _finish(work: Any) -> None:
    """To the end, even when we are cancelled meanwhile: half an undo is worse than a late answer."""
    task = asyncio.ensure_future(work)
    while not task.done():
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.wait([task])
    task.result()
