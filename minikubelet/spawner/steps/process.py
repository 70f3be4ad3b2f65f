"""Who and what the process is at the moment of execve(2): streams, terminal, credentials, limits, program."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import stat
import struct

import msgspec

from minikubelet.linux import capabilities, libc, mounts, openat2, prctl, program, scheduling, tty, users
from minikubelet.linux.users import Credentials, UserError
from minikubelet.spawner.steps.base import Scene, Step, write_own
from minikubelet.wire.messages import Process, Rlimit, Scheduler, User

_DATABASE_LIMIT = 1 << 20
_NULL_DEVICE = os.makedev(1, 3)
_UMASK = 0o022
_NO_WAY = "it leads through too many links, or through one of /proc that may lead out of the container"
_encoder = msgspec.json.Encoder()


class OpenTerminal(Step):
    """A terminal of the container's own devpts, controlling and as 0, 1, 2; the master goes to the monitor.

    With ``console`` it is /dev/console, too, bound by descriptor.
    """

    def __init__(self, console: bool) -> None:
        self._console = console

    def describe(self) -> str:
        return "open the terminal"

    def execute(self, scene: Scene) -> None:
        devpts = openat2.open_in_root(scene.root, "/dev/pts", os.O_PATH | os.O_DIRECTORY)
        master, slave = tty.open_pair(devpts)
        os.close(devpts)
        if self._console:
            _bind_console(scene.root, slave)
        if scene.report is None:
            raise OSError(errno.EINVAL, "nobody takes the terminal")
        scene.report.sendmsg([b"tty"], [(1, 1, struct.pack("i", master))])  # SOL_SOCKET, SCM_RIGHTS
        os.close(master)
        tty.make_controlling(slave)
        for fd in (0, 1, 2):
            os.dup2(slave, fd)
        os.close(slave)


def _bind_console(root: int, slave: int) -> None:
    target = openat2.make_file_in_root(root, "/dev/console")
    tree = mounts.clone_tree("", dirfd=slave)
    mounts.attach(tree, target, "/dev/console")
    os.close(tree)
    os.close(target)


class ResolveUser(Step):
    """Look the user up in the container's own passwd and group."""

    def __init__(self, user: User) -> None:
        self._user = user

    def describe(self) -> str:
        return "resolve the user"

    def execute(self, scene: Scene) -> None:
        user = self._user
        passwd = users.parse_passwd(_database(scene, "/etc/passwd"))
        groups = users.parse_group(_database(scene, "/etc/group"))
        merge = user.supplemental_policy != "Strict"
        scene.credentials = users.resolve(user.user, user.gid, passwd, groups, user.supplemental, merge)


class UseCredentials(Step):
    """Credentials that are known already: those of the container's init, or numbers alone."""

    def __init__(self, credentials: Credentials) -> None:
        self._credentials = credentials

    def describe(self) -> str:
        return "use known credentials"

    def execute(self, scene: Scene) -> None:
        scene.credentials = self._credentials


def _database(scene: Scene, path: str) -> bytes:
    try:
        return openat2.read_regular_in_root(scene.root, scene.proc, path, _DATABASE_LIMIT)
    except (FileNotFoundError, NotADirectoryError):
        return b""


class OwnNull(Step):
    """Standard input from the container's /dev/null instead of the host's, which CRIU could not find."""

    def describe(self) -> str:
        return "open the null device"

    def execute(self, scene: Scene) -> None:
        try:
            fd = os.open("/dev/null", os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            return  # the image or a mount has something else there: the host's does as well
        try:
            info = os.fstat(fd)
            if stat.S_ISCHR(info.st_mode) and info.st_rdev == _NULL_DEVICE:
                os.set_blocking(fd, True)
                os.dup2(fd, 0)
        finally:
            os.close(fd)


class WorkingFolder(Step):
    """Enter the working directory; it lies inside the root or the start fails (CVE-2024-21626)."""

    def __init__(self, path: str, create: bool) -> None:
        self._path = path or "/"
        self._create = create

    def describe(self) -> str:
        return "enter the working directory"

    def execute(self, scene: Scene) -> None:
        root = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            if self._create:
                fd = openat2.make_folder_in_root(root, os.path.normpath(self._path))
            else:
                fd = openat2.open_in_root(root, self._path, os.O_PATH | os.O_DIRECTORY)
        except OSError as exc:
            text = _NO_WAY if exc.errno == errno.ELOOP else exc.strerror
            raise OSError(exc.errno, f"working_dir: {text}", self._path) from None
        os.fchdir(fd)
        os.close(fd)
        os.close(root)


class SetLimits(Step):
    """Resource limits and the OOM score, while the process may still raise them."""

    def __init__(self, rlimits: list[Rlimit], oom_score_adj: int | None, wish: bool) -> None:
        self._limits = [(limit.name, _resource(limit.name), limit.soft, limit.hard) for limit in rlimits]
        self._score = oom_score_adj
        self._wish = wish

    def describe(self) -> str:
        return "set resource limits"

    def execute(self, scene: Scene) -> None:
        for name, kind, soft, hard in self._limits:
            try:
                resource.setrlimit(kind, (_rlimit(soft), _rlimit(hard)))
            except (OSError, ValueError) as exc:
                raise OSError(getattr(exc, "errno", None) or errno.EPERM, f"{name}: {exc}") from None
        if self._score is None:
            return
        try:
            write_own(scene, "oom_score_adj", str(self._score).encode())
        except PermissionError:
            if not self._wish:
                raise


class SetScheduling(Step):
    """Which share of processors and disks it gets, while the process may still ask for more."""

    def __init__(self, scheduler: Scheduler | None, io_priority: int | None) -> None:
        self._scheduler = scheduler
        self._io_priority = io_priority

    def describe(self) -> str:
        return "set scheduler and I/O priority"

    def execute(self, scene: Scene) -> None:
        if self._io_priority is not None:
            scheduling.set_io_priority(self._io_priority)
        if self._scheduler is not None:
            wanted = self._scheduler
            scheduling.set_scheduler(
                wanted.policy,
                wanted.nice,
                wanted.priority,
                wanted.flags,
                wanted.runtime,
                wanted.deadline,
                wanted.period,
            )


def _resource(name: str) -> int:
    value = getattr(resource, name, None)
    if not name.startswith("RLIMIT_") or not isinstance(value, int):
        raise OSError(errno.EINVAL, "unknown resource limit", name)
    return value


def _rlimit(value: int) -> int:
    return resource.RLIM_INFINITY if value < 0 or value >= 2**63 - 1 else value


class SecurityLabels(Step):
    """AppArmor profile and SELinux label that execve(2) will switch to; keys get that label, too."""

    def __init__(self, apparmor: str, selinux: str) -> None:
        self._apparmor = apparmor
        self._selinux = selinux

    def describe(self) -> str:
        return "set the security label for exec"

    def execute(self, scene: Scene) -> None:
        if self._apparmor:
            self._write(scene, "attr/apparmor/exec", f"exec {self._apparmor}")
        if self._selinux:
            self._write(scene, "attr/exec", self._selinux)
            self._write(scene, "attr/keycreate", self._selinux)

    @staticmethod
    def _write(scene: Scene, name: str, content: str) -> None:
        resolve = openat2.RESOLVE_BENEATH | openat2.RESOLVE_NO_XDEV | openat2.RESOLVE_NO_MAGICLINKS
        fd = openat2.open_at(scene.proc, f"self/{name}", os.O_WRONLY, resolve)
        try:
            if libc.filesystem_type(fd) != mounts.PROC_SUPER_MAGIC:
                raise OSError(errno.EXDEV, "not on the proc file system", name)
            os.write(fd, content.encode())
        finally:
            os.close(fd)


class Become(Step):
    """Take on the credentials: exact capability sets, groups, IDs, in the one order that works."""

    def __init__(self, process: Process, last_capability: int, seccomp: prctl.SeccompFilter | None) -> None:
        wanted = process.capabilities
        known = (1 << last_capability + 1) - 1
        self._last = last_capability
        self._bounding = capabilities.mask(wanted.bounding) & known
        self._permitted = capabilities.mask(wanted.permitted) & known
        self._effective = capabilities.mask(wanted.effective) & known
        self._ambient = capabilities.mask(wanted.ambient) & known
        self._no_new_privs = process.no_new_privs
        # Without no_new_privs a filter takes CAP_SYS_ADMIN, so it must come before that is gone.
        self._seccomp = None if process.no_new_privs else seccomp

    def describe(self) -> str:
        return "take on the credentials"

    def execute(self, scene: Scene) -> None:
        if scene.credentials is None:
            raise OSError(errno.EINVAL, "the user has not been resolved")
        uid, gid, groups, _ = scene.credentials
        give_streams(uid)
        if self._seccomp is not None:
            self._seccomp.install()
        capabilities.limit_bounding(self._bounding, self._last)
        prctl.set_keep_capabilities(True)
        os.setgroups(groups)
        os.setresgid(gid, gid, gid)
        os.setresuid(uid, uid, uid)
        prctl.set_keep_capabilities(False)
        capabilities.set_sets(self._effective, self._permitted, self._ambient)
        capabilities.set_ambient(self._ambient)
        if self._no_new_privs:
            prctl.set_no_new_privileges()


def give_streams(uid: int) -> None:
    """Let the user open /dev/stdout and its like again; what isn't ours to give (/dev/null) stays."""
    for fd in (0, 1, 2):
        info = os.fstat(fd)
        if info.st_uid == uid or (info.st_rdev == _NULL_DEVICE and stat.S_ISCHR(info.st_mode)):
            continue
        with contextlib.suppress(PermissionError, OSError):
            os.fchown(fd, uid, -1)


class Execute(Step):
    """Find the program and become it."""

    def __init__(self, process: Process, seccomp: prctl.SeccompFilter | None) -> None:
        self._args = process.args
        self._env = process.env
        self._seccomp = seccomp if process.no_new_privs else None

    def describe(self) -> str:
        return "exec"

    def execute(self, scene: Scene) -> None:
        env = self._environment(scene)
        search = next((item[5:] for item in reversed(env) if item.startswith(b"PATH=")), b"")
        path = program.find(self._args[0], search)
        os.umask(_UMASK)
        announce(scene)
        if self._seccomp is not None:
            self._seccomp.install()
        try:
            program.execute(path, self._args, env)
        except OSError as exc:
            shown = os.fsdecode(path)
            raise OSError(exc.errno, f"exec {shown}: {os.strerror(exc.errno or 0).lower()}", shown) from None

    def _environment(self, scene: Scene) -> list[bytes]:
        env = list(self._env)
        if not any(item.startswith(b"PATH=") for item in env):
            env.append(b"PATH=" + program.DEFAULT_PATH)
        if not any(item.startswith(b"HOME=") for item in env):
            home = scene.credentials.home if scene.credentials is not None else ""
            if any(ord(char) < 32 for char in home):
                raise UserError("the home folder in passwd has a control character")
            env.append(b"HOME=" + (os.fsencode(home) or b"/"))
        return env


class ExecutePause(Step):
    """Become pause, from the descriptor."""

    def describe(self) -> str:
        return "exec pause"

    def execute(self, scene: Scene) -> None:
        announce(scene)
        os.execve(scene.pause, [b"/pause"], {})


def announce(scene: Scene) -> None:
    """Tell the monitor that only execve(2) is left, and who the process has become."""
    if scene.report is None:
        return
    scene.report.send(b"ready" + _encoder.encode(scene.credentials))
