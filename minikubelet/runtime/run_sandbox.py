"""RunPodSandbox: a monitor, namespaces, pause and a network for one pod."""

from __future__ import annotations

import os
import posixpath

from minikubelet.base.clock import now_ns
from minikubelet.base.errors import precondition
from minikubelet.base.ids import new_id
from minikubelet.base.undo import UndoStack
from minikubelet.network.cni_config import Pod
from minikubelet.network.pod_network import POD_SYSCTLS, PortMapping
from minikubelet.runtime import labels, security
from minikubelet.runtime.context import Context, Reservation
from minikubelet.runtime.events import EventKind
from minikubelet.runtime.files import pod_hostname, write_pod_files, write_resolver
from minikubelet.runtime.lifecycle import (
    kill_cgroup,
    remove_cgroups,
    sandbox_cgroup,
    watch,
)
from minikubelet.runtime.models import ContainerSecurity, IDMap, Sandbox, SandboxConfig
from minikubelet.runtime.monitor_client import MonitorClient
from minikubelet.runtime.stop_sandbox import detach
from minikubelet.runtime.update_sandbox_resources import pod_cgroup_files
from minikubelet.runtime.validation import check_handler, check_sandbox
from minikubelet.wire.messages import CgroupSettings, IDMapping, Process, StartSandbox, User

PAUSE_OOM_SCORE = -998


async def run_sandbox(context: Context, config: SandboxConfig, runtime_handler: str) -> str:
    """Make a pod sandbox and return its ID; on failure or cancellation nothing is left."""
    check_sandbox(config)
    check_handler("runtime_handler", runtime_handler)
    if not context.cgroups.path:
        raise precondition("this host has no cgroup2 mounted")
    await context.until_free(config.metadata)
    async with UndoStack("RunPodSandbox") as undo:
        sandbox, reservation = _record(context, config, runtime_handler, undo)
        async with sandbox.lock:
            await _make(context, sandbox, undo)
    reservation.keep()
    return sandbox.id


def _record(
    context: Context, config: SandboxConfig, runtime_handler: str, undo: UndoStack
) -> tuple[Sandbox, Reservation]:
    sandbox_id = new_id()
    cgroup, made = _cgroup(context, config, sandbox_id)
    sandbox = Sandbox(
        id=sandbox_id,
        config=config,
        created_at=now_ns(),
        cgroup=cgroup,
        runtime_handler=runtime_handler,
        made_cgroups=made,
    )
    reservation = context.reserve(config.metadata, sandbox_id)
    undo.push("name", lambda: context.give_up_name(sandbox))
    context.store.add_sandbox(sandbox)
    undo.push("record", lambda: context.store.delete_sandbox(sandbox_id))
    return sandbox, reservation


def _cgroup(context: Context, config: SandboxConfig, sandbox_id: str) -> tuple[str, tuple[str, ...]]:
    """The pod's cgroup, and those of its path that will be made for it (ours to remove)."""
    if not config.cgroup_parent:
        path = f"{context.config.cgroup_root}/{sandbox_id}"
        return path, (path,)
    path = "/" + posixpath.normpath(config.cgroup_parent).strip("/")
    made = []
    ancestor = path
    while ancestor != "/" and not os.path.isdir(context.cgroups.path + ancestor):
        made.append(ancestor)
        ancestor = posixpath.dirname(ancestor)
    return path, tuple(reversed(made))


async def _make(context: Context, sandbox: Sandbox, undo: UndoStack) -> None:
    request = start_request(context, sandbox)
    run_dir = context.run_dir(sandbox.id)
    os.mkdir(run_dir, 0o700)
    undo.push("run folder", lambda: context.discard_run_dir(sandbox.id))
    undo.push("cgroups", lambda: remove_cgroups(context, sandbox))
    spawned = await context.spawner.spawn(sandbox.id, run_dir)
    os.close(spawned.pidfd)
    on_event, on_gone = watch(context, sandbox)
    monitor = MonitorClient(sandbox.id, spawned.control, on_event, on_gone)
    sandbox.status.monitor_pid = spawned.pid
    sandbox.status.monitor_ticks = spawned.start_ticks
    sandbox.monitor = monitor
    undo.push("monitor", lambda: _end_monitor(context, sandbox, monitor))
    starting = monitor.begin_sandbox(request)
    write_pod_files(run_dir, sandbox.config, pod_hostname(sandbox.config))
    started, fds = await starting
    try:
        if fds:
            await _attach(context, sandbox, fds, undo)
    finally:
        for fd in fds:
            os.close(fd)
    sandbox.status.pid = started.pid
    sandbox.status.start_ticks = started.start_ticks
    if context.plugins.active:
        await context.plugins.run_sandbox(sandbox)
    sandbox.status.ready_at = now_ns()
    context.store.save_sandbox(sandbox)
    context.sandboxes[sandbox.id] = sandbox
    context.events.publish(EventKind.CREATED, sandbox)
    context.events.publish(EventKind.STARTED, sandbox)


async def _attach(context: Context, sandbox: Sandbox, fds: list[int], undo: UndoStack) -> None:
    ports = [
        PortMapping(port.protocol, port.container_port, port.host_port, port.host_ip)
        for port in sandbox.config.ports
    ]
    pod = _facts(sandbox.config)
    attachment = await context.network.attach(sandbox.id, fds[0], fds[1], ports, pod)
    undo.push("network", lambda: detach(context, sandbox))
    sandbox.status.ips = attachment.ips
    if attachment.resolver is not None and pod.dns is None:  # no container has seen the host's yet
        names = attachment.resolver
        write_resolver(context.run_dir(sandbox.id), names.servers, names.searches, names.options)


def _facts(config: SandboxConfig) -> Pod:
    meta, dns = config.metadata, config.dns
    names = None
    if dns is not None and (dns.servers or dns.searches or dns.options):
        names = {
            "servers": list(dns.servers),
            "searches": list(dns.searches),
            "options": list(dns.options),
        }
    return Pod(meta.namespace, meta.name, meta.uid, config.annotations, names)


async def _end_monitor(context: Context, sandbox: Sandbox, monitor: MonitorClient) -> None:
    try:
        await monitor.shutdown()
    finally:
        monitor.close()
        sandbox.monitor = None
        kill_cgroup(context, sandbox_cgroup(sandbox))


def start_request(context: Context, sandbox: Sandbox) -> StartSandbox:
    """What the monitor must make. Raises NodeError for a profile that can't be used."""
    config = sandbox.config
    secure = config.security
    capabilities = security.container_capabilities(ContainerSecurity(drop_capabilities=("ALL",)))
    groups = [CgroupSettings(path=sandbox_cgroup(sandbox))]
    files = pod_cgroup_files(context, sandbox)
    if not config.cgroup_parent:
        groups.insert(0, CgroupSettings(path=sandbox.cgroup, files=files))
    users = config.namespaces.own_users
    selinux = labels.of_sandbox(sandbox.id, config)
    return StartSandbox(
        id=0,
        network=config.namespaces.network,
        ipc=config.namespaces.ipc,
        pid=config.namespaces.pid,
        uts="node" if config.namespaces.network == "node" else "pod",
        hostname=pod_hostname(config),
        sysctls={**_network_sysctls(context, config), **config.sysctls},
        cgroups=groups,
        process=Process(
            args=[b"/pause"],
            user=User(
                user=str(secure.run_as_user or 0),
                gid=-1 if secure.run_as_group is None else secure.run_as_group,
                supplemental=list(secure.supplemental_groups),
                supplemental_policy="Strict",
            ),
            capabilities=capabilities,
            no_new_privs=True,
            seccomp=security.seccomp_filter(secure.seccomp, secure.privileged, capabilities),
            apparmor=security.apparmor_profile(secure.apparmor, secure.privileged),
            selinux=selinux.process,
            oom_score_adj=PAUSE_OOM_SCORE,
        ),
        uid_mappings=_mappings(users.uids) if users is not None else [],
        gid_mappings=_mappings(users.gids) if users is not None else [],
        mount_label=selinux.mount,
    )


def _mappings(maps: tuple[IDMap, ...]) -> list[IDMapping]:
    return [
        IDMapping(container_id=item.container_id, host_id=item.host_id, length=item.length) for item in maps
    ]


def _network_sysctls(context: Context, config: SandboxConfig) -> dict[str, str]:
    if context.config.network.mode != "builtin":
        return {}  # they are the plugins' to set
    if config.namespaces.network == "node" or not os.path.isdir("/proc/sys/net/ipv6"):
        return {}
    return dict(POD_SYSCTLS)
