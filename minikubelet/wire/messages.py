"""Every message that passes between daemon, spawner and monitors.

Each is a tagged ``msgspec.Struct``: the tag is the class name, unknown fields are ignored and new
fields get defaults, so that a new daemon can talk to a monitor of an older version (a monitor lives
as long as its pod). ``bytes`` fields travel as base64 inside JSON; argv, environment and paths are
``bytes`` because Linux says so.

Requests carry an ``id``; the answer is :class:`Reply` with the same id, whose ``body`` is the result, or
:class:`Failure`. Messages without an id are events.
"""

from __future__ import annotations

import msgspec

PROTOCOL_VERSION = 1


class Message(msgspec.Struct, tag=True, kw_only=True, omit_defaults=True):
    """Base of all messages."""


# --- parts -------------------------------------------------------------------------------------------


class IDMapping(msgspec.Struct, kw_only=True):
    """One line of uid_map or gid_map (user_namespaces(7))."""

    container_id: int
    host_id: int
    length: int


class Mount(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One mount inside a container, in order.

    ``kind`` is ``bind``, ``image``, ``shm`` or a file system type (proc, sysfs, tmpfs, devpts, mqueue,
    cgroup2).
    For ``bind``, ``source`` is a host path; a folder is bound with everything mounted below it. ``shm``
    is the pod's own /dev/shm, shared by its containers (:attr:`StartSandbox.shm_size`). A ``tmpfs`` on
    ``/dev`` gets the standard nodes (null, zero, full, random, urandom, tty) and links (fd, stdin,
    stdout, stderr, core, ptmx) by itself. ``target`` is resolved inside the root (openat2
    RESOLVE_IN_ROOT) and created if missing. ``flags`` are names as in mount(8): ro, nosuid, nodev,
    noexec, noatime, relatime, strictatime, rro (recursive read-only). ``propagation`` is private,
    rprivate, rslave or rshared. ``data`` is the file system's own option string.
    """

    kind: str
    target: str
    source: str = ""
    flags: list[str] = []
    propagation: str = "rprivate"
    data: str = ""
    idmapped: bool = False
    layers: list[str] = []
    """Of an ``image``: as :attr:`StartContainer.lowerdirs`. It is read-only, with the pod's owners."""
    sub_path: str = ""
    """Of an ``image``: what of it is mounted, relative to its root and resolved inside."""
    field: str = ""
    """The request's field, for errors."""
    optional: bool = False
    """A failure of an optional mount is skipped (e.g. mqueue where the kernel has none)."""


class Device(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A device node to make in the container's /dev (host node checked by the daemon)."""

    path: str
    kind: str
    major: int
    minor: int
    mode: int = 0o666
    uid: int = 0
    gid: int = 0


class Rlimit(msgspec.Struct, kw_only=True):
    """One setrlimit(2): ``name`` as in ``RLIMIT_NOFILE``."""

    name: str
    soft: int
    hard: int


class Scheduler(msgspec.Struct, kw_only=True, omit_defaults=True):
    """The parameters of sched_setattr(2); ``runtime``, ``deadline`` and ``period`` in ns."""

    policy: int
    nice: int = 0
    priority: int = 0
    flags: int = 0
    runtime: int = 0
    deadline: int = 0
    period: int = 0


class Capabilities(msgspec.Struct, kw_only=True, omit_defaults=True):
    """Exact capability sets, names as ``CAP_CHOWN`` (capabilities(7)). Inheritable equals ambient."""

    bounding: list[str] = []
    permitted: list[str] = []
    effective: list[str] = []
    ambient: list[str] = []


class User(msgspec.Struct, kw_only=True, omit_defaults=True):
    """Who runs a process; names are looked up in the *container's* /etc/passwd and /etc/group.

    ``user`` is ``name``, ``uid``, ``name:group``, ``uid:gid`` or empty (root). ``gid`` -1 means: the
    user's primary group. ``supplemental_policy`` is ``Merge`` (groups of /etc/group too) or ``Strict``.
    """

    user: str = ""
    gid: int = -1
    supplemental: list[int] = []
    supplemental_policy: str = "Merge"


class Process(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A program to run in a container, as init or by exec."""

    args: list[bytes]
    env: list[bytes] = []
    """``NAME=value``; PATH and HOME are added when missing."""
    cwd: str = "/"
    user: User = msgspec.field(default_factory=User)
    tty: bool = False
    stdin: bool = False
    stdin_once: bool = False
    capabilities: Capabilities = msgspec.field(default_factory=Capabilities)
    no_new_privs: bool = False
    seccomp: bytes = b""
    """A compiled cBPF filter (array of struct sock_filter); empty: unconfined."""
    apparmor: str = ""
    """Profile name for exec; empty: leave alone."""
    selinux: str = ""
    """Exec label; empty: leave alone."""
    rlimits: list[Rlimit] = []
    oom_score_adj: int | None = None
    oom_score_adj_wish: bool = True
    """True: lowering it without CAP_SYS_RESOURCE is skipped silently (the daemon has warned)."""
    scheduler: Scheduler | None = None
    """None: leave alone."""
    io_priority: int | None = None
    """As ioprio_set(2) has it; None: leave alone."""


class CgroupSettings(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A cgroup to make: file name → content, written in order before a process joins."""

    path: str
    """Relative to the cgroup2 mount, starting with '/'."""
    files: dict[str, str] = {}
    device_program: bytes = b""
    """eBPF instructions of a BPF_CGROUP_DEVICE filter; empty: none."""


class ResolvedUser(msgspec.Struct, kw_only=True, omit_defaults=True):
    """The numeric credentials a process got."""

    uid: int = 0
    gid: int = 0
    groups: list[int] = []


class ExitStatus(msgspec.Struct, kw_only=True, omit_defaults=True):
    """How a process ended; also the content of ``exits/<container id>`` in the pod's run folder."""

    exit_code: int
    """0-255; 128 + signal when killed."""
    signal: int = 0
    oom_killed: bool = False
    finished_at: int = 0
    """Nanoseconds since the epoch."""
    message: str = ""


class ContainerReport(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What a monitor knows of one container or exec it started."""

    id: str
    pid: int = 0
    start_ticks: int = 0
    """Field 22 of /proc/PID/stat: tells a PID from its next owner."""
    started_at: int = 0
    user: ResolvedUser = msgspec.field(default_factory=ResolvedUser)
    exit: ExitStatus | None = None


# --- daemon → spawner --------------------------------------------------------------------------------


class SpawnMonitor(Message, kw_only=True):
    """Fork a monitor. Reply body: :class:`MonitorSpawned`; fds of the reply: [pidfd, control socket]."""

    id: int
    sandbox_id: str
    run_dir: str
    """The pod's run folder (exists, 0700); the monitor listens on ``monitor.sock`` in it."""


class MonitorSpawned(Message, kw_only=True):
    pid: int
    start_ticks: int


# --- daemon → monitor --------------------------------------------------------------------------------


class StartSandbox(Message, kw_only=True):
    """Make the pod's namespaces and start the pause process in them.

    Reply: :class:`SandboxStarted`; fds: [netns, netlink route socket opened in it], none with host network.
    """

    id: int
    network: str = "pod"
    """``pod`` or ``node``; the same for ``ipc``; ``pid`` is ``pod``, ``container`` or ``node``."""
    ipc: str = "pod"
    pid: str = "container"
    uts: str = "pod"
    hostname: str = ""
    sysctls: dict[str, str] = {}
    shm_size: int = 64 << 20
    """Bytes of the pod's /dev/shm (an own tmpfs when ipc is ``pod``)."""
    cgroups: list[CgroupSettings] = []
    """The pod's cgroup(s), outermost first; pause joins the last."""
    process: Process
    """Credentials of pause (args are ignored)."""
    uid_mappings: list[IDMapping] = []
    gid_mappings: list[IDMapping] = []
    rlimits: list[Rlimit] = []
    mount_label: str = ""
    """SELinux context of /dev/shm; empty: none."""


class SandboxStarted(Message, kw_only=True):
    pid: int
    start_ticks: int


class Restore(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A checkpoint to restore with CRIU."""

    criu: str
    """The program's absolute path; ``path`` is its PATH."""
    path: str
    images: str
    """Folder of CRIU's images."""
    work: str
    """Folder for ``restore.log``, where reasons of a failure are."""
    root: str
    """Empty folder, for a mount."""
    streams: list[str] = []
    """What 0, 1 and 2 were at the checkpoint, as readlink(2) shows descriptors; pipes become the new ones."""


class StartContainer(Message, kw_only=True):
    """Start a container's init. Reply: :class:`ContainerStarted` once execve(2) has succeeded.

    Failure carries the step, errno and path. The rootfs is mounted only inside the container's mount
    namespace, so nothing is left on the host when the last process ends.
    """

    id: int
    container_id: str
    lowerdirs: list[str]
    """Layer folders, uppermost first, short, relative to ``layers_dir`` (mount(2) options end at a page)."""
    layers_dir: str
    upperdir: str
    workdir: str
    read_only_root: bool = False
    mounts: list[Mount] = []
    devices: list[Device] = []
    masked_paths: list[str] = []
    read_only_paths: list[str] = []
    process: Process
    pid_namespace: str = "container"
    """``container`` (own), ``pod`` (pause's), ``node``, or ``target:<container id>``."""
    cgroup: CgroupSettings
    cgroup_namespace: str = "container"
    """``container`` (own) or ``node``."""
    rootfs_propagation: str = "rslave"
    log_path: str = ""
    """Absolute path of the CRI log; empty: no log. The folder exists."""
    log_folder: str = ""
    """Above or at the log's own; below it no link is followed. Empty: the log's own."""
    exit_grace_ms: int = 0
    mount_label: str = ""
    """SELinux context of the root and of file systems that are made for the container; empty: none."""
    restore: Restore | None = None
    """In place of ``process``'s program: what CRIU restores. ContainerStarted comes when it runs on."""
    sysctls: dict[str, str] = {}
    """Of the pod's namespaces, written when the container has joined them."""


class ContainerStarted(Message, kw_only=True):
    pid: int
    start_ticks: int
    started_at: int
    user: ResolvedUser = msgspec.field(default_factory=ResolvedUser)


class SignalContainer(Message, kw_only=True):
    """Send ``signal`` to the init, or with ``all`` kill the whole cgroup (cgroup.kill, then its pids).
    Reply: :class:`Done`; an ended container is no error."""

    id: int
    container_id: str
    signal: int
    all: bool = False


class RemoveContainer(Message, kw_only=True):
    """Forget an ended container: log fd, exit file, cgroup. Reply: :class:`Done`. Unknown: no error."""

    id: int
    container_id: str


class StartExec(Message, kw_only=True):
    """Run a program in a running container, in a cgroup of its own below the container's.

    fds of the request, without ``process.tty``: [stdin, stdout, stderr] given by the daemon; with tty: none,
    and the reply's fds are [pty master]; closing it hangs up. Reply: :class:`ContainerStarted`. The end that
    :class:`ExecExited` tells is the program's: what it has left behind lives on until :class:`KillExec`.
    """

    id: int
    exec_id: str
    container_id: str
    process: Process


class KillExec(Message, kw_only=True):
    """Kill an exec with all its descendants. Reply: :class:`Done`."""

    id: int
    exec_id: str


class AttachContainer(Message, kw_only=True):
    """Join a container's streams. Reply: :class:`Attached`; fds: [stream sockets, see Attached.fds].

    stdout and stderr are pipes that get what the container writes from now on (a reader that stays behind
    more than its pipe is cut off, it never blocks the container). stdin is a pipe into the container; closing
    it closes the container's stdin when ``stdin_once``. With tty: one stream, stdout.
    """

    id: int
    container_id: str
    stdin: bool = False
    stdout: bool = True
    stderr: bool = True


class Attached(Message, kw_only=True):
    fds: list[str] = []
    """What each passed descriptor is: ``stdin``, ``stdout``, ``stderr``."""


class ResizeTty(Message, kw_only=True):
    """TIOCSWINSZ on a container's or exec's terminal. Reply: :class:`Done`."""

    id: int
    target_id: str
    width: int
    height: int


class ReopenLog(Message, kw_only=True):
    """Close and reopen the container's log (after rotation renamed it). Reply: :class:`Done`."""

    id: int
    container_id: str


class GetState(Message, kw_only=True):
    """Reply: :class:`State`: what is left after a daemon restart. Subscribes the connection to events."""

    id: int


class State(Message, kw_only=True):
    protocol: int
    sandbox_id: str
    pid: int
    """Of pause; 0 when it has ended or was never started."""
    start_ticks: int = 0
    sandbox_exit: ExitStatus | None = None
    containers: list[ContainerReport] = []
    execs: list[ContainerReport] = []


class GetNetwork(Message, kw_only=True):
    """Reply: :class:`Done`; fds: [netns, a new netlink route socket in it]; host network: Failure ENOENT."""

    id: int


class StopSandbox(Message, kw_only=True):
    """Kill everything in the pod (containers, execs, pause) and let go of its namespaces. The monitor stays.
    Reply: :class:`Done` when all have been reaped."""

    id: int


class Shutdown(Message, kw_only=True):
    """StopSandbox, remove the pod's cgroups and exit. Reply: :class:`Done` just before."""

    id: int


# --- answers and events ------------------------------------------------------------------------------


class Done(Message, kw_only=True):
    """Success without a result."""


class Failure(Message, kw_only=True):
    """A step that failed: becomes :class:`minikubelet.base.errors.StepError`."""

    step: str
    number: int = 0
    """errno, 0 when there is none."""
    path: str = ""
    detail: str = ""


class ContainerExited(Message, kw_only=True):
    """Event: a container's init has ended and its output is drained."""

    container_id: str
    status: ExitStatus


class ExecExited(Message, kw_only=True):
    exec_id: str
    status: ExitStatus


class SandboxExited(Message, kw_only=True):
    """Event: pause has ended without StopSandbox."""

    status: ExitStatus


Body = MonitorSpawned | SandboxStarted | ContainerStarted | Attached | State | Done | Failure


class Reply(Message, kw_only=True):
    """The answer to the request with the same ``id``."""

    id: int
    body: Body


Request = (
    SpawnMonitor
    | StartSandbox
    | StartContainer
    | SignalContainer
    | RemoveContainer
    | StartExec
    | KillExec
    | AttachContainer
    | ResizeTty
    | ReopenLog
    | GetState
    | GetNetwork
    | StopSandbox
    | Shutdown
)
Event = ContainerExited | ExecExited | SandboxExited
AnyMessage = (
    Reply
    | ContainerExited
    | ExecExited
    | SandboxExited
    | SpawnMonitor
    | StartSandbox
    | StartContainer
    | SignalContainer
    | RemoveContainer
    | StartExec
    | KillExec
    | AttachContainer
    | ResizeTty
    | ReopenLog
    | GetState
    | GetNetwork
    | StopSandbox
    | Shutdown
)
