"""The plans: which steps make a pause, a container's init and an exec. Pure: to be read without running."""

from __future__ import annotations

import errno

import msgspec

from minikubelet.base.errors import StepError
from minikubelet.linux import mounts, namespaces, prctl
from minikubelet.linux.users import Credentials, UserError, resolve
from minikubelet.spawner.steps import namespaces as ns
from minikubelet.spawner.steps import process as proc
from minikubelet.spawner.steps import restore, rootfs, userns
from minikubelet.spawner.steps.base import Step
from minikubelet.wire.messages import Mount, Process, Rlimit, StartContainer, StartSandbox

_KINDS = ("bind", "image", "shm", "proc", "sysfs", "tmpfs", "devpts", "mqueue", "cgroup2")


class Machine:
    """What plans need to know of this machine."""

    def __init__(self, architecture: str, last_capability: int) -> None:
        self.architecture = architecture
        self.last_capability = last_capability


def pause_plan(
    request: StartSandbox, machine: Machine, own_root: bool, unshared: int | None = None
) -> list[Step]:
    """Steps of the pause process, born in the pod's new namespaces.

    With ``own_root`` it has a mount namespace, too, where the pod's shared memory is mounted. With a user
    namespace it makes ``unshared`` (CLONE_NEW* bits) by itself.
    """
    plan: list[Step] = [ns.NewSession()]
    process = request.process
    if unshared is not None:
        plan += [userns.AwaitIDs(), userns.NewNamespaces(unshared)]
        process = _without_limits(process)  # the monitor's to set: it has the host's rights
    if request.uts == "pod" and request.hostname:
        plan.append(ns.SetHostname(request.hostname))
    plan += [ns.WriteSysctl(name, value) for name, value in request.sysctls.items()]
    plan += [ns.OwnRoot() if own_root else ns.EmptyRoot(), _numeric_user(process)]
    plan += _last_steps(process, machine, [proc.ExecutePause()], request.rlimits)
    return plan


def init_plan(
    request: StartContainer, machine: Machine, shared: int, fetch_shm: bool, users: bool = False
) -> list[Step]:
    """Steps of a container's init; ``shared`` are the namespaces it joins (CLONE_NEW* bits).

    With ``fetch_shm`` the shared memory must be fetched from pause's mount namespace, and the init makes its
    own mount namespace after that; else it was born in it. With ``users`` the pod has a user namespace.
    """
    plan = _file_system_steps(request, shared, fetch_shm, users)
    plan += [
        rootfs.EnterRoot(request.rootfs_propagation),
        proc.WorkingFolder(request.process.cwd, create=True),
    ]
    if request.read_only_root:
        plan.append(rootfs.ProtectRoot())
    process = request.process
    if users:
        plan += _limits(process, [])
        own_cgroups = namespaces.CLONE_NEWCGROUP if request.cgroup_namespace == "container" else 0
        plan.append(userns.EnterUserNamespace(namespaces.CLONE_NEWNS | own_cgroups))
        process = _without_limits(process)
    if not process.stdin and not process.tty:
        plan.append(proc.OwnNull())
    return plan + _program_steps(process, machine)


def restore_plan(request: StartContainer, shared: int, fetch_shm: bool) -> list[Step]:
    """Steps of CRIU, which restores a container: its mounts are made as for an init, beside the host's."""
    if request.restore is None:
        raise StepError("restore the container", errno.EINVAL, detail="no checkpoint")
    plan = _file_system_steps(request, shared, fetch_shm, users=False)
    return [*plan, restore.ProvideRoot(request.restore.root), restore.ExecuteCriu(request, shared)]


def _file_system_steps(request: StartContainer, shared: int, fetch_shm: bool, users: bool) -> list[Step]:
    """The container's namespaces and all its mounts, the host's still around them."""
    for mount in request.mounts:
        _check(mount)
    for device in request.devices:
        if device.kind not in rootfs.DEVICE_KINDS or not device.path.startswith("/"):
            raise StepError(
                "make the device", errno.EINVAL, device.path, f"kind {device.kind!r}, or no absolute path"
            )
    binds = [(index, mount) for index, mount in enumerate(request.mounts) if mount.kind == "bind"]
    plan: list[Step] = [ns.JoinNamespaces(shared, "the pod")]
    plan += [ns.WriteSysctl(name, value) for name, value in request.sysctls.items()]
    if fetch_shm:
        plan.append(ns.FetchShm())
    if request.cgroup_namespace == "container":
        plan.append(ns.NewCgroupNamespace())
    plan += [ns.NewSession(), rootfs.OpenSources(binds), rootfs.CutFromHost()]
    images = [(index, mount) for index, mount in enumerate(request.mounts) if mount.kind == "image"]
    if images:
        plan.append(rootfs.OpenImages(request.layers_dir, images))
    plan.append(rootfs.MountOverlay(request))
    if users:
        plan += [userns.GiveStreams(), userns.ActAsPodRoot()]
    label = request.mount_label
    plan += [rootfs.AttachMount(index, mount, label) for index, mount in enumerate(request.mounts)]
    plan += [rootfs.MakeDevice(device) for device in request.devices]
    if request.process.tty:
        plan.append(proc.OpenTerminal(console=True))
    plan.append(proc.ResolveUser(request.process.user))
    plan += [rootfs.HidePaths(request.masked_paths), rootfs.ProtectPaths(request.read_only_paths)]
    return plan


def exec_plan(
    process: Process, machine: Machine, known: Credentials | None, users: bool = False
) -> list[Step]:
    """Steps of a program run in all namespaces of a container but the PID one, which it is born in.

    ``known`` are its credentials when they need not be looked up (again). With ``users`` the pod has a user
    namespace.
    """
    kinds = (
        namespaces.CLONE_NEWNS
        | namespaces.CLONE_NEWNET
        | namespaces.CLONE_NEWIPC
        | namespaces.CLONE_NEWUTS
        | namespaces.CLONE_NEWCGROUP
    )
    plan: list[Step] = []
    if users:
        plan += [*_limits(process, []), userns.GiveStreams()]
        plan += [ns.JoinNamespaces(kinds | namespaces.CLONE_NEWUSER, "the container"), userns.BecomeRoot()]
        process = _without_limits(process)
    else:
        plan.append(ns.JoinNamespaces(kinds, "the container"))
    plan += [ns.NewSession(), ns.RootIsHere()]
    if process.tty:
        plan.append(proc.OpenTerminal(console=False))
    plan.append(proc.UseCredentials(known) if known is not None else proc.ResolveUser(process.user))
    plan.append(proc.WorkingFolder(process.cwd, create=False))
    return plan + _program_steps(process, machine)


def _numeric_user(process: Process) -> Step:
    """Pause has no passwd to look into."""
    user = process.user
    merge = user.supplemental_policy != "Strict"
    try:
        return proc.UseCredentials(resolve(user.user, user.gid, [], [], user.supplemental, merge))
    except UserError as exc:
        raise StepError("resolve the user", errno.EINVAL, detail=str(exc)) from exc


def _program_steps(process: Process, machine: Machine) -> list[Step]:
    if not process.args or not process.args[0]:
        raise StepError("exec", errno.EINVAL, detail="no command: args[0] is empty")
    seccomp = _seccomp(process, machine)
    return _last_steps(process, machine, [proc.Execute(process, seccomp)], [], seccomp)


def _last_steps(
    process: Process,
    machine: Machine,
    last: list[Step],
    rlimits: list[Rlimit],
    seccomp: prctl.SeccompFilter | None = None,
) -> list[Step]:
    steps = _limits(process, rlimits)
    if process.apparmor or process.selinux:
        steps.append(proc.SecurityLabels(process.apparmor, process.selinux))
    try:
        steps.append(proc.Become(process, machine.last_capability, seccomp))
    except ValueError as exc:
        raise StepError("take on the credentials", errno.EINVAL, detail=str(exc)) from exc
    return steps + last


def _limits(process: Process, rlimits: list[Rlimit]) -> list[Step]:
    limits = [*rlimits, *process.rlimits]
    steps: list[Step] = []
    if limits or process.oom_score_adj is not None:
        steps.append(proc.SetLimits(limits, process.oom_score_adj, process.oom_score_adj_wish))
    if process.scheduler is not None or process.io_priority is not None:
        steps.append(proc.SetScheduling(process.scheduler, process.io_priority))
    return steps


def _without_limits(process: Process) -> Process:
    """For after the entry into a user namespace, where there is no right to better them."""
    return msgspec.structs.replace(process, rlimits=[], oom_score_adj=None, scheduler=None, io_priority=None)


def _seccomp(process: Process, machine: Machine) -> prctl.SeccompFilter | None:
    if not process.seccomp:
        return None
    try:
        return prctl.seccomp_loader(machine.architecture, process.seccomp)
    except (KeyError, ValueError) as exc:
        raise StepError("load the seccomp filter", errno.EINVAL, detail=str(exc)) from exc


def _check(mount: Mount) -> None:
    step = f"mount {mount.kind} on {mount.target}"
    if mount.kind not in _KINDS:
        raise StepError(step, errno.ENODEV, detail=f"unknown kind of mount {mount.kind!r}")
    if mount.propagation not in mounts.PROPAGATIONS:
        raise StepError(step, errno.EINVAL, detail=f"unknown propagation {mount.propagation!r}")
    unknown = [flag for flag in mount.flags if flag not in mounts.ATTRIBUTES]
    if unknown:
        raise StepError(step, errno.EINVAL, detail=f"unknown flags {', '.join(unknown)}")
    if mount.kind == "image" and not mount.layers:
        raise StepError(step, errno.EINVAL, detail="an image without layers")
    if mount.idmapped and mount.kind != "bind":
        raise StepError(step, errno.EINVAL, detail="only bind mounts can be ID-mapped")
    if not mount.target.startswith("/") or mount.target.strip("/") == "":
        raise StepError(step, errno.EINVAL, mount.target, "not an absolute path below /")
