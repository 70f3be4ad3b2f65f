"""A plain, blocking client of spawner and monitor, and the smallest container there is."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TypeVar

import pytest

from minikubelet.linux import interpreter, pidfd
from minikubelet.spawner import cgroups
from minikubelet.wire import channel
from minikubelet.wire import messages as m

TIMEOUT = 10.0 * float(os.environ.get("MINIKUBELET_PATIENCE", "1"))
"""Seconds until something that should happen counts as not happening."""
CAPABILITIES = [
    "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FSETID", "CAP_FOWNER", "CAP_MKNOD", "CAP_NET_RAW", "CAP_SETGID",
    "CAP_SETUID", "CAP_SETFCAP", "CAP_SETPCAP", "CAP_NET_BIND_SERVICE", "CAP_SYS_CHROOT", "CAP_KILL",
    "CAP_AUDIT_WRITE",
]  # fmt: skip
MASKED = [
    "/proc/acpi",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/scsi",
    "/sys/firmware",
]
READ_ONLY = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]
Body = TypeVar("Body", bound=m.Message)
Event = TypeVar("Event", bound=m.Message)


class RequestFailed(Exception):
    """The monitor answered with a Failure."""

    def __init__(self, failure: m.Failure) -> None:
        super().__init__(f"{failure.step} {failure.path} {failure.number} {failure.detail}")
        self.failure = failure


class Connection:
    """One connection to a spawner or monitor; events that arrive in between are kept."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.events: list[m.AnyMessage] = []
        self.fds: list[int] = []
        self._number = 0
        sock.settimeout(TIMEOUT)

    def next_id(self) -> int:
        self._number += 1
        return self._number

    def ask(self, request: m.Message, expected: type[Body], fds: list[int] | None = None) -> Body:
        """Send, wait for the answer; its descriptors are in ``self.fds``."""
        channel.send(self.sock, request, fds or [])
        while True:
            message, got = channel.receive(self.sock)
            if not isinstance(message, m.Reply):
                self.events.append(message)
                continue
            assert message.id == getattr(request, "id")  # noqa: B009
            self.fds = got
            if isinstance(message.body, m.Failure):
                raise RequestFailed(message.body)
            assert isinstance(message.body, expected), message.body
            return message.body

    def wait_for(self, kind: type[Event], **fields: str) -> Event:
        """The first event of ``kind`` with ``fields``."""
        while True:
            for event in self.events:
                if isinstance(event, kind) and all(getattr(event, k) == v for k, v in fields.items()):
                    self.events.remove(event)
                    return event
            message, fds = channel.receive(self.sock)
            assert not fds
            self.events.append(message)

    def close(self) -> None:
        self.sock.close()


class Spawner:
    """A real spawner process, started as the daemon does it."""

    def __init__(self, boot: str = "") -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        binary = interpreter.protected_interpreter()
        fd = theirs.fileno()
        self.process = subprocess.Popen(
            [sys.executable, "-I", "-c", _PATH + boot + _BOOT, "minikubelet.spawner", "--fd", str(fd)],
            executable=f"/proc/self/fd/{binary}",
            pass_fds=(fd, binary),
        )
        os.close(binary)
        theirs.close()
        self.connection = Connection(ours)

    def spawn(self, sandbox_id: str, run_dir: Path) -> tuple[m.MonitorSpawned, int, Connection]:
        """(answer, pidfd, control connection) of a new monitor."""
        connection = self.connection
        request = m.SpawnMonitor(id=connection.next_id(), sandbox_id=sandbox_id, run_dir=str(run_dir))
        body = connection.ask(request, m.MonitorSpawned)
        pidfd, control = connection.fds
        return body, pidfd, Connection(socket.socket(fileno=control))

    def close(self) -> None:
        self.connection.close()
        assert self.process.wait(TIMEOUT) == 0


# The package may be run from a checkout that is not installed; -I keeps the current folder off the path.
_PATH = f"import sys; sys.path.insert(0, {str(Path(__file__).resolve().parents[3])!r}); "
_BOOT = "from minikubelet.spawner.__main__ import main; sys.exit(main(sys.argv[2:]))"


def make_image(folder: Path) -> Path:
    """A layer with busybox and a few files, as an unpacked layer folder ``<folder>/1``."""
    layer = folder / "1"
    (layer / "bin").mkdir(parents=True)
    shutil.copy(
        "/bin/busybox" if os.path.exists("/bin/busybox") else "/usr/bin/busybox", layer / "bin/busybox"
    )
    for name in (
        "sh",
        "cat",
        "id",
        "sleep",
        "ls",
        "echo",
        "mount",
        "env",
        "grep",
        "yes",
        "head",
        "tty",
        "stty",
        "dd",
    ):
        os.symlink("busybox", layer / "bin" / name)
    (layer / "etc").mkdir()
    (layer / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\nweb:x:1000:1001::/home/web:/bin/sh\n")
    (layer / "etc/group").write_text("root:x:0:\nweb:x:1001:\nextra:x:1002:web\n")
    (layer / "root").mkdir()
    return layer


def process(*args: str | bytes, **settings: object) -> m.Process:
    """A process with the usual capabilities."""
    wanted = {"bounding": CAPABILITIES, "permitted": CAPABILITIES, "effective": CAPABILITIES}
    fields: dict[str, object] = {"capabilities": m.Capabilities(**wanted), **settings}
    return m.Process(args=[a.encode() if isinstance(a, str) else a for a in args], **fields)  # type: ignore[arg-type]


def standard_mounts() -> list[m.Mount]:
    """What upstream runtimes mount in every container."""
    return [
        m.Mount(kind="proc", target="/proc", flags=["nosuid", "noexec", "nodev"]),
        m.Mount(kind="tmpfs", target="/dev", flags=["nosuid", "strictatime"], data="mode=755,size=65536k"),
        m.Mount(
            kind="devpts",
            target="/dev/pts",
            flags=["nosuid", "noexec"],
            data="newinstance,ptmxmode=0666,mode=0620,gid=5",
        ),
        m.Mount(kind="mqueue", target="/dev/mqueue", flags=["nosuid", "noexec", "nodev"], optional=True),
        m.Mount(kind="sysfs", target="/sys", flags=["nosuid", "noexec", "nodev", "ro"]),
        m.Mount(
            kind="cgroup2", target="/sys/fs/cgroup", flags=["nosuid", "noexec", "nodev", "relatime", "ro"]
        ),
        m.Mount(kind="shm", target="/dev/shm"),
    ]


class Pod:
    """A pod under test: its folders, its monitor, and short ways to start things."""

    def __init__(self, spawner: Spawner, folder: Path, name: str, layers: Path) -> None:
        self.name = name
        self.folder = folder
        self.layers = layers
        self.ended = False
        self.run_dir = folder / "run"
        self.run_dir.mkdir(parents=True, mode=0o700)
        self.cgroup = f"/minikubelet-test-{os.getpid()}/{name}"
        self.spawned, self.pidfd, self.control = spawner.spawn(name, self.run_dir)

    def start(self, **settings: object) -> m.SandboxStarted:
        fields: dict[str, object] = {
            "hostname": "pod",
            "cgroups": [m.CgroupSettings(path=self.cgroup)],
            "process": process(),
            **settings,
        }
        request = m.StartSandbox(id=self.control.next_id(), **fields)  # type: ignore[arg-type]
        return self.control.ask(request, m.SandboxStarted)

    def container_request(self, name: str, *args: str | bytes, **settings: object) -> m.StartContainer:
        base = self.folder / "containers" / name
        for part in ("upper", "work"):
            (base / part).mkdir(parents=True, exist_ok=True)
        extra = settings.pop("process_settings", {})
        assert isinstance(extra, dict)
        fields: dict[str, object] = {
            "lowerdirs": ["1"],
            "layers_dir": str(self.layers),
            "upperdir": str(base / "upper"),
            "workdir": str(base / "work"),
            "mounts": standard_mounts(),
            "masked_paths": MASKED,
            "read_only_paths": READ_ONLY,
            "process": process(*args, **extra),
            "cgroup": m.CgroupSettings(path=f"{self.cgroup}/{name}"),
            "log_path": str(self.folder / f"{name}.log"),
            **settings,
        }
        return m.StartContainer(id=self.control.next_id(), container_id=name, **fields)  # type: ignore[arg-type]

    def run(self, name: str, *args: str | bytes, **settings: object) -> m.ContainerStarted:
        return self.control.ask(self.container_request(name, *args, **settings), m.ContainerStarted)

    def exit_of(self, name: str) -> m.ExitStatus:
        return self.control.wait_for(m.ContainerExited, container_id=name).status

    def log(self, name: str) -> str:
        """The content of the log without time stamps and tags."""
        text = (self.folder / f"{name}.log").read_text(errors="surrogateescape")
        lines = text[: text.rfind("\n") + 1].splitlines()  # the last may be half written
        return "\n".join(line.split(" ", 3)[3] for line in lines)

    def output(self, name: str, *args: str | bytes, **settings: object) -> str:
        """Run to the end, expect success, return the log."""
        self.run(name, *args, **settings)
        status = self.exit_of(name)
        assert status.exit_code == 0, (status, self.log(name))
        return self.log(name)

    def execute(self, container: str, *args: str | bytes, **settings: object) -> tuple[int, bytes]:
        """Exec without terminal: exit code and combined output."""
        reader, writer = os.pipe()
        null = os.open("/dev/null", os.O_RDWR)
        number = self.control.next_id()
        name = f"e{number}"
        request = m.StartExec(
            id=number, exec_id=name, container_id=container, process=process(*args, **settings)
        )
        try:
            self.control.ask(request, m.ContainerStarted, [null, writer, writer])
        finally:
            os.close(null)
            os.close(writer)
        output = b""
        while chunk := os.read(reader, 65536):
            output += chunk
        os.close(reader)
        return self.control.wait_for(m.ExecExited, exec_id=name).status.exit_code, output

    def done(self, request: m.Message, connection: Connection | None = None) -> None:
        (connection or self.control).ask(request, m.Done)

    def reconnect(self) -> Connection:
        """A new connection through the socket's name, as a restarted daemon makes it."""
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        folder = os.open(self.run_dir, os.O_PATH)
        sock.connect(f"/proc/self/fd/{folder}/monitor.sock")
        os.close(folder)
        return Connection(sock)

    def shutdown(self) -> None:
        """End the pod and see that the monitor is gone."""
        self.ended = True
        self.done(m.Shutdown(id=self.control.next_id()))
        self.control.close()
        wait_until(lambda: not is_alive(self.spawned.pid, self.spawned.start_ticks), "the monitor to end")
        os.close(self.pidfd)

    def cgroup_folder(self) -> Path:
        return Path(cgroups.mount_point() + self.cgroup)


def is_alive(pid: int, ticks: int) -> bool:
    """Whether the very process is there and no zombie."""
    if pidfd.start_ticks(pid) != ticks:
        return False
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def wait_until(condition: object, what: str, seconds: float = TIMEOUT) -> None:
    """Poll ``condition()``; an AssertionError names ``what`` did not happen."""
    assert callable(condition)
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"waited {seconds} s for {what}"
        time.sleep(0.005)


def fails(pod: Pod, *args: str | bytes, name: str = "bad", **settings: object) -> m.Failure:
    """The failure of a container that must not start; nothing of it may be left."""
    with pytest.raises(RequestFailed) as failed:
        pod.run(name, *args, **settings)
    wait_until(lambda: not (pod.cgroup_folder() / name).exists(), "the cgroup to be removed")
    return failed.value.failure
