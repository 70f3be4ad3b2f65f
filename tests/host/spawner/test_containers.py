"""Containers: root, mounts, devices, credentials, exits, logs."""

from __future__ import annotations

import errno
import os
import signal
import struct
import time
from pathlib import Path

import msgspec
import psutil
import pytest

from minikubelet.linux import capabilities
from minikubelet.linux import mounts as kernel
from minikubelet.wire import messages as m
from tests.host.spawner.conftest import MakePod
from tests.host.spawner.harness import (
    CAPABILITIES,
    Pod,
    RequestFailed,
    fails,
    standard_mounts,
    wait_until,
)


def test_root_and_namespaces(pod: Pod) -> None:
    script = "ls /; hostname; echo pid $$; cat /proc/self/cgroup | tail -1; cat /etc/passwd | head -1"
    os.symlink("busybox", pod.layers / "1/bin/hostname")
    os.symlink("busybox", pod.layers / "1/bin/tail")
    lines = pod.output("c", "sh", "-c", script).split("\n")
    assert lines[:7] == ["bin", "dev", "etc", "proc", "root", "sys", "pod"]
    assert lines[7:] == ["pid 1", "0::/", "root:x:0:0:root:/root:/bin/sh"]


def test_writes_go_to_the_upper_folder_only(pod: Pod) -> None:
    pod.output("c", "sh", "-c", "echo new > /etc/new; rm /etc/group")
    assert (pod.folder / "containers/c/upper/etc/new").read_text() == "new\n"
    assert (pod.layers / "1/etc/group").exists()


def test_several_layers_uppermost_first(pod: Pod) -> None:
    for name, text in (("2", "two"), ("3", "three")):
        (pod.layers / name / "etc").mkdir(parents=True)
        (pod.layers / name / "etc/which").write_text(text)
    assert pod.output("c", "cat", "/etc/which", lowerdirs=["3", "2", "1"]) == "three"


def test_more_layers_than_a_page_of_options_holds(pod: Pod) -> None:
    names = [f"layer-with-a-rather-long-name-{number:04d}" for number in range(120)]
    for name in names:
        (pod.layers / name).mkdir()
        (pod.layers / name / name).write_text("")
    output = pod.output("c", "ls", "/", lowerdirs=[*names, "1"])
    assert set(names) <= set(output.split("\n"))


def test_read_only_root(pod: Pod) -> None:
    script = "echo x > /x || echo refused; echo y > /dev/shm/y && echo shm"
    assert pod.output("c", "sh", "-c", script, read_only_root=True).split("\n")[-2:] == ["refused", "shm"]


def test_standard_devices_work_and_are_the_real_ones(pod: Pod) -> None:
    script = (
        "dd if=/dev/zero of=/dev/null count=1 2>/dev/null; ls -l /dev/stdin /dev/ptmx; "
        "head -c 4 /dev/urandom >/dev/null && echo x >/dev/full"
    )
    pod.run("c", "sh", "-c", script)
    assert pod.exit_of("c").exit_code == 1  # no space on /dev/full
    assert "/dev/ptmx -> pts/ptmx" in pod.log("c")


def test_extra_devices(pod: Pod) -> None:
    devices = [m.Device(path="/dev/net/tun", kind="c", major=10, minor=200, mode=0o640, gid=7)]
    output = pod.output("c", "ls", "-ln", "/dev/net/tun", devices=devices).split()
    assert output[0] == "crw-r-----"
    assert output[2:6] == ["0", "7", "10,", "200"]


def test_shared_memory_is_the_pods(pod: Pod) -> None:
    pod.output("a", "sh", "-c", "echo hello > /dev/shm/a")
    assert pod.output("b", "cat", "/dev/shm/a") == "hello"


def test_bind_mounts_of_files_and_folders(pod: Pod, tmp_path: Path) -> None:
    source = tmp_path / "volume"
    source.mkdir()
    (source / "file").write_text("content\n")
    mounts = [
        *standard_mounts(),
        m.Mount(kind="bind", source=str(source), target="/data/deep/rw"),
        m.Mount(kind="bind", source=str(source), target="/data/ro", flags=["ro", "noexec"]),
        m.Mount(kind="bind", source=str(source / "file"), target="/etc/hosts"),
    ]
    script = (
        "cat /etc/hosts; echo more > /data/deep/rw/more; echo no > /data/ro/no || echo refused; "
        "grep /data/ro /proc/mounts"
    )
    output = pod.output("c", "sh", "-c", script, mounts=mounts)
    assert output.startswith("content\n")
    assert "refused" in output
    assert " ro,noexec" in output
    assert sorted(os.listdir(source)) == ["file", "more"]


def test_a_target_that_is_a_link_stays_inside_the_root(pod: Pod, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    os.symlink(str(outside), pod.layers / "1/evil")
    source = tmp_path / "volume"
    source.mkdir()
    mounts = [*standard_mounts(), m.Mount(kind="bind", source=str(source), target="/evil/sub")]
    assert f" {outside}/sub " in pod.output("c", "cat", "/proc/mounts", mounts=mounts)
    assert os.listdir(outside) == []


def test_a_proc_link_in_the_image_is_refused(pod: Pod) -> None:
    os.symlink("/tmp", pod.layers / "1/proc")
    failure = fails(pod, "echo")
    assert failure.number == errno.ELOOP
    assert "proc" in failure.step


def test_propagation_to_the_host_and_back(pod: Pod, tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    kernel.mount(str(shared), str(shared), "", 0x1000, "")  # MS_BIND
    try:
        fd = os.open(shared, os.O_PATH)
        kernel.set_attributes(fd, propagation=kernel.MS_SHARED)
        os.close(fd)
        table = [
            *standard_mounts(),
            m.Mount(kind="bind", source=str(shared), target="/both", propagation="rshared"),
        ]
        settings = {
            "capabilities": m.Capabilities(
                bounding=["CAP_SYS_ADMIN"], permitted=["CAP_SYS_ADMIN"], effective=["CAP_SYS_ADMIN"]
            )
        }
        script = "mkdir /both/in; mount -t tmpfs inside /both/in && echo done; sleep 1000"
        os.symlink("busybox", pod.layers / "1/bin/mkdir")
        pod.run("c", "sh", "-c", script, mounts=table, process_settings=settings)
        wait_until(lambda: "done" in pod.log("c"), "the mount")
        assert f"{shared}/in " in Path("/proc/self/mountinfo").read_text()
        kernel.unmount(f"{shared}/in")
        code, output = pod.execute("c", "cat", "/proc/mounts")
        assert code == 0
        assert b"/both/in" not in output
    finally:
        kernel.unmount(str(shared))
    assert "/both" not in Path("/proc/self/mountinfo").read_text()


def test_masked_and_read_only_paths(pod: Pod) -> None:
    script = (
        "ls /sys/firmware | head -3; cat /proc/keys; cat /proc/kcore; "
        "echo 1 > /proc/sys/kernel/domainname || echo refused"
    )
    assert pod.output("c", "sh", "-c", script).split("\n")[-1:] == ["refused"]
    assert pod.output("d", "cat", "/proc/timer_list") == ""


def test_a_false_null_device_is_not_used_as_a_mask(pod: Pod) -> None:
    """CVE-2025-31133: the image's /dev/null is no device, and no /dev is mounted over it."""
    (pod.layers / "1/dev").mkdir()
    os.symlink("/etc/passwd", pod.layers / "1/dev/null")
    mounts = [mount for mount in standard_mounts() if not mount.target.startswith("/dev")]
    failure = fails(pod, "echo", mounts=mounts)
    assert failure.step == "mask"
    (pod.layers / "1/dev/null").unlink()
    (pod.layers / "1/dev/null").write_text("")
    assert fails(pod, "echo", mounts=mounts).number == errno.ENODEV


def test_capabilities_are_exact(pod: Pod) -> None:
    pod.run("c", "sleep", "1000")
    code, status = pod.execute("c", "cat", "/proc/1/status")
    assert code == 0
    wanted = f"{capabilities.mask(CAPABILITIES):016x}"
    fields = dict(line.split(":\t", 1) for line in status.decode().splitlines() if ":\t" in line)
    assert [fields[f"Cap{kind}"] for kind in ("Inh", "Prm", "Eff", "Bnd", "Amb")] == [
        "0" * 16, wanted, wanted, wanted, "0" * 16,
    ]  # fmt: skip
    assert fields["SigIgn"].strip("0") == fields["SigBlk"].strip("0") == ""
    code, status = pod.execute("c", "grep", "Cap", "/proc/self/status")
    assert [line.split()[1] for line in status.decode().splitlines()] == [
        "0" * 16,
        wanted,
        wanted,
        wanted,
        "0" * 16,
    ]


def test_ambient_capabilities_of_a_user(pod: Pod) -> None:
    names = ["CAP_NET_BIND_SERVICE"]
    settings = {
        "capabilities": m.Capabilities(bounding=names, permitted=names, effective=names, ambient=names),
        "user": m.User(user="web"),
        "no_new_privs": True,
    }
    output = pod.output("c", "sh", "-c", "grep -E 'Cap|NoNew' /proc/self/status", process_settings=settings)
    assert [line.split()[1] for line in output.splitlines()] == [f"{1 << 10:016x}"] * 5 + ["1"]


@pytest.mark.parametrize(
    ("user", "expected"),
    [
        (m.User(user="web"), "uid=1000(web) gid=1001(web) groups=1001(web),1002(extra)"),
        (m.User(user="web", supplemental_policy="Strict"), "uid=1000(web) gid=1001(web) groups=1001(web)"),
        (m.User(user="1000:0"), "uid=1000(web) gid=0(root) groups=0(root),1002(extra)"),
        (m.User(user="4242", gid=4343, supplemental=[5, 6]), "uid=4242 gid=4343 groups=5,6,4343"),
        (m.User(), "uid=0(root) gid=0(root) groups=0(root)"),
    ],
)
def test_users(pod: Pod, user: m.User, expected: str) -> None:
    started = pod.run("c", "id", process_settings={"user": user})
    assert pod.exit_of("c").exit_code == 0
    words = [word.split("=", 1) for word in pod.log("c").split()]
    wanted = [word.split("=", 1) for word in expected.split()]
    assert words[:2] == wanted[:2]
    assert set(words[2][1].split(",")) == set(wanted[2][1].split(","))
    assert started.user.uid == int(expected.split("=")[1].split("(")[0].split()[0])


@pytest.mark.parametrize(
    ("user", "text"),
    [
        (m.User(user="nobody-here"), "unable to find user nobody-here: no matching entries in passwd file"),
        (m.User(user="4294967296"), "out of range"),
        (m.User(user="-1"), "out of range"),
        (m.User(user="web:nogroup"), "unable to find group nogroup: no matching entries in group file"),
    ],
)
def test_users_that_cannot_be(pod: Pod, user: m.User, text: str) -> None:
    failure = fails(pod, "echo", process_settings={"user": user})
    assert failure.step == "resolve the user"
    assert text in failure.detail


@pytest.mark.parametrize("kind", ["fifo", "device", "huge", "folder", "link"])
def test_a_passwd_that_is_no_passwd(pod: Pod, kind: str) -> None:
    path = pod.layers / "1/etc/passwd"
    path.unlink()
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "device":
        os.mknod(path, 0o020666, os.makedev(5, 1))
    elif kind == "huge":
        path.write_bytes(b"x" * (1 << 20) + b"x")
    elif kind == "folder":
        path.mkdir()
    else:
        os.symlink("/proc/1/root/etc/shadow", path)
    start = time.monotonic()
    failure = fails(pod, "echo", process_settings={"user": m.User(user="root")})
    assert failure.step == "resolve the user"
    assert time.monotonic() - start < 5


def test_home_path_and_environment(pod: Pod) -> None:
    settings = {"user": m.User(user="web"), "env": [b"A=1", b"B=\xff\xfe", b"EMPTY="]}
    pod.output("c", "env", process_settings=settings)
    lines = (pod.folder / "c.log").read_bytes().splitlines()
    assert {line.split(b" ", 3)[3] for line in lines} >= {b"A=1", b"B=\xff\xfe", b"EMPTY=", b"HOME=/home/web"}
    assert any(b"PATH=/usr/local/sbin:" in line for line in lines)


def test_a_home_with_a_newline_is_refused(pod: Pod) -> None:
    (pod.layers / "1/etc/passwd").write_text("root:x:0:0:root:/ro\rot:/bin/sh\n")
    assert "control character" in fails(pod, "echo").detail


def test_working_directory_is_made_and_stays_inside(pod: Pod) -> None:
    os.symlink("busybox", pod.layers / "1/bin/pwd")
    assert pod.output("c", "pwd", process_settings={"cwd": "/some/new/place"}) == "/some/new/place"
    for index, path in enumerate(("/proc/self/fd/7", "/proc/1/cwd", "/proc/self/root")):
        failure = fails(pod, "pwd", name=f"bad{index}", process_settings={"cwd": path})
        assert failure.step == "enter the working directory" and failure.path == path
        assert failure.detail.startswith("working_dir: ")
    assert failure.detail.startswith("working_dir: it leads through")


def test_no_descriptor_leaks_into_the_program(pod: Pod) -> None:
    pod.run("c", "sleep", "1000")
    _, output = pod.execute("c", "ls", "/proc/1/fd")
    assert output.split() == [b"0", b"1", b"2"]
    _, output = pod.execute("c", "sh", "-c", "ls /proc/$$/fd")
    assert set(output.split()) <= {b"0", b"1", b"2", b"3"}


def test_a_monitor_lets_no_descriptor_be_inherited(pod: Pod) -> None:
    """Not even a terminal's master, which comes out of the container."""
    pod.run("c", "sleep", "1000", process_settings={"tty": True})
    for info in Path(f"/proc/{pod.spawned.pid}/fdinfo").iterdir():
        try:
            flags = int(info.read_text().split("flags:")[1].split()[0], 8)
        except FileNotFoundError:  # closed meanwhile
            continue
        assert int(info.name) <= 2 or flags & os.O_CLOEXEC, (info.name, oct(flags))


def test_limits_and_scores(pod: Pod) -> None:
    settings = {"rlimits": [m.Rlimit(name="RLIMIT_NOFILE", soft=100, hard=200)], "oom_score_adj": 500}
    script = "ulimit -n; ulimit -Hn; cat /proc/self/oom_score_adj; umask"
    assert pod.output("c", "sh", "-c", script, process_settings=settings).split() == [
        "100",
        "200",
        "500",
        "0022",
    ]


def test_shares_of_processors_and_disks(pod: Pod) -> None:
    """Of the container's program and of execs; proc_pid_stat(5) has nice and policy."""
    settings = {
        "scheduler": m.Scheduler(policy=3, nice=7),
        "io_priority": 2 << 13 | 6,
        "capabilities": m.Capabilities(),  # what takes a capability is set while it is still there
    }
    started = pod.run("c", "sleep", "1000", process_settings=settings)
    stat = Path(f"/proc/{started.pid}/stat").read_text().rpartition(")")[2].split()
    assert (stat[16], stat[38]) == ("7", "3")
    assert psutil.Process(started.pid).ionice() == (psutil.IOPRIO_CLASS_BE, 6)
    script = "sed 's/.*) //' /proc/self/stat | cut -d' ' -f17,39"
    assert pod.execute("c", "sh", "-c", script, scheduler=m.Scheduler(policy=0, nice=3)) == (0, b"3 0\n")


def test_a_scheduler_that_the_kernel_refuses(pod: Pod) -> None:
    wanted = m.Scheduler(policy=1, priority=1000)
    failure = fails(pod, "echo", process_settings={"scheduler": wanted})
    assert (failure.step, failure.number) == ("set scheduler and I/O priority", errno.EINVAL)


def test_kernel_parameters_of_the_pods_namespaces(pod: Pod) -> None:
    host = Path("/proc/sys/net/core/somaxconn").read_text()
    wanted = {"net.core.somaxconn": "77", "kernel.msgmax": "9000"}
    output = pod.output("c", "cat", "/proc/sys/net/core/somaxconn", "/proc/sys/kernel/msgmax", sysctls=wanted)
    assert output.split() == ["77", "9000"]
    assert Path("/proc/sys/net/core/somaxconn").read_text() == host


def test_limits_that_do_not_exist_are_named(pod: Pod) -> None:
    limits = [m.Rlimit(name="RLIMIT_PATIENCE", soft=1, hard=1)]
    assert "RLIMIT_PATIENCE" in fails(pod, "echo", process_settings={"rlimits": limits}).path


@pytest.mark.parametrize(
    ("program", "number", "text"),
    [
        ("nothing", errno.ENOENT, 'exec: "nothing": executable file not found in $PATH'),
        ("/no/such", errno.ENOENT, 'exec: "/no/such": stat /no/such: no such file or directory'),
        ("/etc/passwd", errno.EACCES, 'exec: "/etc/passwd": permission denied'),
        ("/etc", errno.EISDIR, 'exec: "/etc": is a directory'),
        ("/bin/text", errno.ENOEXEC, "exec /bin/text: exec format error"),
        ("/bin/lost", errno.ENOENT, "exec /bin/lost: no such file or directory"),
    ],
)
def test_programs_that_do_not_start(pod: Pod, program: str, number: int, text: str) -> None:
    (pod.layers / "1/bin/text").write_text("no format at all")
    (pod.layers / "1/bin/lost").write_text("#!/no/interpreter\n")
    for name in ("text", "lost"):
        (pod.layers / "1/bin" / name).chmod(0o755)
    failure = fails(pod, program)
    assert (failure.step, failure.number, failure.detail) == ("exec", number, text)


def test_a_failed_start_can_be_retried_under_the_same_id(pod: Pod) -> None:
    fails(pod, "nothing", name="c")
    assert pod.output("c", "echo", "ok") == "ok"


@pytest.mark.parametrize(("script", "code"), [("exit 0", 0), ("exit 7", 7), ("exit 255", 255)])
def test_exit_codes(pod: Pod, script: str, code: int) -> None:
    pod.run("c", "sh", "-c", script)
    before = time.time_ns()
    status = pod.exit_of("c")
    assert (status.exit_code, status.signal, status.oom_killed) == (code, 0, False)
    assert abs(status.finished_at - before) < 5_000_000_000
    record = msgspec.json.decode((pod.run_dir / "exits/c").read_bytes(), type=m.ExitStatus)
    assert record == status


def test_signals_reach_the_init(pod: Pod) -> None:
    pod.run("c", "sh", "-c", "trap 'echo got it; exit 3' TERM; echo ready; while :; do sleep 0.05; done")
    wait_until(lambda: "ready" in pod.log("c"), "the trap")
    pod.done(m.SignalContainer(id=pod.control.next_id(), container_id="c", signal=signal.SIGTERM))
    assert pod.exit_of("c").exit_code == 3
    assert pod.log("c") == "ready\ngot it"
    pod.done(m.SignalContainer(id=pod.control.next_id(), container_id="c", signal=signal.SIGTERM))
    pod.done(m.SignalContainer(id=pod.control.next_id(), container_id="unknown", signal=signal.SIGTERM))


def test_kill_all(pod: Pod) -> None:
    pod.run("c", "sh", "-c", "sleep 1000 & sleep 1000")
    pod.done(m.SignalContainer(id=pod.control.next_id(), container_id="c", signal=9, all=True))
    status = pod.exit_of("c")
    assert (status.exit_code, status.signal, status.oom_killed) == (137, 9, False)


def test_leftovers_die_with_the_init_in_a_shared_pid_namespace(make_pod: MakePod) -> None:
    pod = make_pod(pid="pod")
    started = pod.run("c", "sh", "-c", "sleep 1000 & exit 4", pid_namespace="pod")
    assert started.pid
    assert pod.exit_of("c").exit_code == 4
    wait_until(lambda: not (pod.cgroup_folder() / "c").exists(), "the cgroup to be removed")


def test_pid_namespaces(make_pod: MakePod) -> None:
    pod = make_pod(pid="pod")
    pod.run("a", "sleep", "1000", pid_namespace="pod")
    assert "sleep" in pod.output("b", "sh", "-c", "cat /proc/*/comm", pid_namespace="pod")
    assert "pause" in pod.log("b")
    pod.run("own", "sleep", "999")
    assert pod.output("joined", "sh", "-c", "cat /proc/1/cmdline", pid_namespace="target:own").startswith(
        "sleep\x00999"
    )
    host = pod.output("host", "sh", "-c", "readlink /proc/self/ns/pid", pid_namespace="node")
    assert host == os.readlink("/proc/self/ns/pid")


def test_orphans_are_reaped_by_pause(make_pod: MakePod) -> None:
    pod = make_pod(pid="pod")
    script = (
        "i=0; while [ $i -lt 50 ]; do (sleep 0.01 &) ; i=$((i+1)); done; "
        "while grep -q -e '^Name:.sleep' -e zombie /proc/[0-9]*/status 2>/dev/null; do sleep 0.05; done; "
        "echo end"
    )
    assert pod.output("c", "sh", "-c", script, pid_namespace="pod") == "end"


def test_removed_containers_are_forgotten(pod: Pod) -> None:
    pod.run("c", "sleep", "1000")
    with pytest.raises(RequestFailed) as failed:
        pod.done(m.RemoveContainer(id=pod.control.next_id(), container_id="c"))
    assert failed.value.failure.number == errno.EBUSY
    pod.done(m.SignalContainer(id=pod.control.next_id(), container_id="c", signal=9))
    pod.exit_of("c")
    pod.done(m.RemoveContainer(id=pod.control.next_id(), container_id="c"))
    pod.done(m.RemoveContainer(id=pod.control.next_id(), container_id="c"))
    assert os.listdir(pod.run_dir / "exits") == []
    assert pod.control.ask(m.GetState(id=pod.control.next_id()), m.State).containers == []


def test_seccomp_filters_are_installed(pod: Pod) -> None:
    # Two instructions: mkdir(2), number 83 on x86-64, gets EPERM; the rest is allowed.
    def instruction(code: int, jt: int, jf: int, k: int) -> bytes:
        return struct.pack("HBBI", code, jt, jf, k)

    if os.uname().machine != "x86_64":
        pytest.skip("the filter's numbers are those of x86-64")
    program = instruction(0x20, 0, 0, 0) + instruction(0x15, 0, 1, 83)
    program += instruction(0x06, 0, 0, 0x00050000 | errno.EPERM) + instruction(0x06, 0, 0, 0x7FFF0000)
    os.symlink("busybox", pod.layers / "1/bin/mkdir")
    for index, no_new_privs in enumerate((True, False)):
        settings = {"seccomp": program, "no_new_privs": no_new_privs, "cwd": "/not/there/yet"}
        script = "mkdir /x || echo refused; grep Seccomp: /proc/self/status"
        lines = pod.output(f"c{index}", "sh", "-c", script, process_settings=settings).splitlines()
        assert lines[-2] == "refused"
        assert lines[-1].split() == ["Seccomp:", "2"]


def test_a_seccomp_program_that_is_none_is_an_error(pod: Pod) -> None:
    assert "seccomp" in fails(pod, "echo", process_settings={"seccomp": b"abc"}).step


def test_an_unknown_mount_kind_or_flag_is_an_error(pod: Pod) -> None:
    assert fails(pod, "echo", mounts=[m.Mount(kind="nfs", target="/x")]).number == errno.ENODEV
    assert (
        fails(pod, "echo", mounts=[m.Mount(kind="tmpfs", target="/x", flags=["bogus"])]).number
        == errno.EINVAL
    )
    assert fails(pod, "echo", mounts=[m.Mount(kind="tmpfs", target="/")]).number == errno.EINVAL
    missing = m.Mount(kind="bind", source="/no/such/source", target="/x")
    failure = fails(pod, "echo", mounts=[*standard_mounts(), missing])
    assert (failure.number, failure.path) == (errno.ENOENT, "/no/such/source")


def test_the_kernels_explanation_of_a_bad_option_is_passed_on(pod: Pod) -> None:
    failure = fails(pod, "echo", mounts=[m.Mount(kind="tmpfs", target="/x", data="size=rather-big")])
    assert "size" in failure.detail
    assert failure.step == "mount tmpfs on /x"
