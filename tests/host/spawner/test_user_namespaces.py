"""Pods with a user namespace of their own: whose files are whose, on the host and inside."""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path

import pytest

from minikubelet.linux import libc, mounts
from minikubelet.wire import messages as m
from tests.host.spawner.conftest import MakePod
from tests.host.spawner.harness import CAPABILITIES, Pod, RequestFailed, Spawner, standard_mounts, wait_until

FIRST, SECOND = 100_000, 300_000
LENGTH = 65_536


def ids(host_id: int, length: int = LENGTH) -> dict[str, object]:
    mapping = [m.IDMapping(container_id=0, host_id=host_id, length=length)]
    return {"uid_mappings": mapping, "gid_mappings": mapping}


def owner(path: Path) -> tuple[int, int]:
    info = path.lstat()
    return info.st_uid, info.st_gid


@pytest.fixture
def mapped(make_pod: MakePod) -> Pod:
    return make_pod("mapped", **ids(FIRST))


def test_the_map_is_the_pods(mapped: Pod) -> None:
    for name in ("uid_map", "gid_map"):
        assert mapped.output(name, "cat", f"/proc/self/{name}").split() == ["0", str(FIRST), str(LENGTH)]
    assert mapped.output("groups", "cat", "/proc/self/setgroups") == "allow"


def test_namespaces_belong_to_the_pods_user_namespace(make_pod: MakePod) -> None:
    pod = make_pod(start=False)
    started = pod.start(pid="pod", **ids(FIRST))
    for fd in pod.control.fds:
        os.close(fd)
    app = pod.run("app", "sleep", "1000", pid_namespace="pod")
    users = os.stat(f"/proc/{started.pid}/ns/user").st_ino
    assert users != os.stat("/proc/self/ns/user").st_ino
    assert os.stat(f"/proc/{app.pid}/ns/user").st_ino == users
    for pid, kinds in ((started.pid, ("net", "ipc", "uts", "pid")), (app.pid, ("mnt", "cgroup"))):
        for kind in kinds:
            assert owner_of_namespace(f"/proc/{pid}/ns/{kind}") == users, kind


def owner_of_namespace(path: str) -> int:
    space = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        users = fcntl.ioctl(space, 0xB701)  # NS_GET_USERNS, ioctl_ns(2)
        try:
            return os.fstat(users).st_ino
        finally:
            os.close(users)
    finally:
        os.close(space)


def test_image_files_are_roots_inside_and_untouched_outside(mapped: Pod, layers: Path) -> None:
    assert mapped.output("c", "ls", "-ln", "/etc").count(" 0        0 ") == 2
    assert owner(layers / "1/etc/passwd") == (0, 0)


def test_what_a_container_writes_has_mapped_owners(mapped: Pod) -> None:
    script = "echo x > /new; echo y >> /etc/passwd; ls -ln /new; echo z > /root/mine"
    assert " 0        0 " in mapped.output("c", "sh", "-c", script)
    mapped.output(
        "user",
        "sh",
        "-c",
        "echo x > /dev/shm/a; id; echo x > /tmp/b",
        process_settings={"user": m.User(user="web")},
        mounts=[*standard_mounts(), m.Mount(kind="tmpfs", target="/tmp", data="mode=1777")],
    )
    upper = mapped.folder / "containers/c/upper"
    for path in (upper, upper / "new", upper / "etc", upper / "etc/passwd", upper / "root/mine"):
        assert owner(path) == (FIRST, FIRST), path


def test_missing_folders_are_made_as_the_pods_root(mapped: Pod, tmp_path: Path) -> None:
    (tmp_path / "volume").mkdir()
    bind = m.Mount(kind="bind", source=str(tmp_path / "volume"), target="/data/deep/volume")
    mapped.output("c", "echo", mounts=[*standard_mounts(), bind], process_settings={"cwd": "/w/d"})
    upper = mapped.folder / "containers/c/upper"
    for name in ("data", "data/deep", "data/deep/volume", "w/d"):
        assert owner(upper / name) == (FIRST, FIRST), name


def test_a_process_is_nobody_on_the_host(mapped: Pod) -> None:
    app = mapped.run("app", "sleep", "1000", process_settings={"user": m.User(user="1000", gid=1001)})
    status = Path(f"/proc/{app.pid}/status").read_text()
    assert f"Uid:\t{FIRST + 1000}\t" in status
    assert f"Gid:\t{FIRST + 1001}\t" in status
    assert app.user.uid == 1000


def test_standard_streams_can_be_opened_again(mapped: Pod) -> None:
    script = "echo root > /dev/stdout"
    assert mapped.output("root", "sh", "-c", script) == "root"
    web = {"user": m.User(user="web")}
    assert mapped.output("web", "sh", "-c", "echo web > /dev/stdout", process_settings=web) == "web"
    mapped.run("app", "sleep", "1000")
    assert mapped.execute("app", "sh", "-c", "echo exec > /dev/stdout") == (0, b"exec\n")


def test_exec_is_in_the_user_namespace(mapped: Pod) -> None:
    mapped.run("app", "sleep", "1000")
    code, output = mapped.execute("app", "cat", "/proc/self/uid_map")
    assert (code, output.split()) == (0, [b"0", str(FIRST).encode(), str(LENGTH).encode()])
    code, output = mapped.execute("app", "sh", "-c", "id -u; grep CapEff /proc/self/status; echo > /f")
    lines = output.decode().split()
    assert (code, lines[0], lines[2]) == (0, "0", "00000000a80425fb")
    assert owner(mapped.folder / "containers/app/upper/f") == (FIRST, FIRST)
    web = m.User(user="web")
    assert mapped.execute("app", "id", "-u", user=web) == (0, b"1000\n")


def test_exec_sets_limits_it_could_not_set_inside(mapped: Pod) -> None:
    mapped.run("app", "sleep", "1000")
    limits = [m.Rlimit(name="RLIMIT_NOFILE", soft=100, hard=200)]
    code, output = mapped.execute("app", "cat", "/proc/self/limits", "/proc/self/oom_score_adj",
                                  rlimits=limits, oom_score_adj=77)  # fmt: skip
    assert code == 0
    assert output.decode().splitlines()[-1] == "77"
    assert any(line.split()[3:5] == ["100", "200"] for line in output.decode().splitlines())


def test_terminals(mapped: Pod) -> None:
    script = "ls -ln /dev/console; tty; echo > /dev/console"
    mapped.run("tty", "sh", "-c", script, process_settings={"tty": True})
    assert mapped.exit_of("tty").exit_code == 0
    text = mapped.log("tty")
    assert "/dev/pts/0" in text
    assert "0        5 " in text


def test_devices_work(mapped: Pod) -> None:
    device = m.Device(path="/dev/mine", kind="c", major=1, minor=5, mode=0o666)
    script = "head -c 3 /dev/zero > /dev/null; head -c 3 /dev/mine; echo; ls -ln /dev/null"
    text = mapped.output("c", "sh", "-c", script, devices=[device])
    assert text.splitlines()[0] == "\0\0\0"
    assert " 0        0 " in text


def test_mounts_stay_locked_for_a_container_that_may_mount(mapped: Pod) -> None:
    names = [*CAPABILITIES, "CAP_SYS_ADMIN"]
    wanted = m.Capabilities(bounding=names, permitted=names, effective=names)
    script = (
        "mount -t tmpfs x /root && echo mounts; umount /proc/timer_list || echo masked;"
        "mount -o remount,rw,bind /proc/sys || echo read-only"
    )
    text = mapped.output("c", "sh", "-c", script, process_settings={"capabilities": wanted})
    assert [line for line in text.splitlines() if ":" not in line] == ["mounts", "masked", "read-only"]


def test_sysctls_and_host_name(make_pod: MakePod) -> None:
    sysctls = {"net.core.somaxconn": "77", "kernel.shm_rmid_forced": "1", "fs.mqueue.msg_max": "11"}
    pod = make_pod(hostname="inner", sysctls=sysctls, **ids(FIRST))
    files = "/proc/sys/net/core/somaxconn /proc/sys/kernel/shm_rmid_forced /proc/sys/fs/mqueue/msg_max"
    output = pod.output("c", "sh", "-c", f"cat {files} /proc/sys/kernel/hostname")
    assert output.split() == ["77", "1", "11", "inner"]


def test_shared_memory_and_queues_are_the_pods_roots(mapped: Pod) -> None:
    writer = mapped.run("writer", "sh", "-c", "echo shared > /dev/shm/x; echo > /dev/mqueue/q; sleep 1000")
    queue = Path(f"/proc/{writer.pid}/root/dev/mqueue/q")
    wait_until(queue.exists, "the queue to be made")
    look = "cat /dev/shm/x && ls -ldn /dev/shm /dev/mqueue /dev/mqueue/q"
    text = mapped.execute("writer", "sh", "-c", look)[1].decode()
    assert text.splitlines()[0] == "shared"
    assert text.count(" 0        0 ") == 3, text
    assert mapped.output("reader", "cat", "/dev/shm/x") == "shared"


def test_an_id_mapped_volume(mapped: Pod, tmp_path: Path) -> None:
    volume = tmp_path / "volume"
    volume.mkdir()
    (volume / "given").write_text("content\n")
    os.chown(volume / "given", 1000, 1001)
    os.chmod(volume / "given", 0o600)
    bind = m.Mount(kind="bind", source=str(volume), target="/data", idmapped=True)
    script = "cat /data/given; ls -ln /data/given; echo > /data/made"
    text = mapped.output("c", "sh", "-c", script, mounts=[*standard_mounts(), bind])
    assert text.startswith("content\n")
    assert " 1000     1001 " in text
    assert owner(volume / "made") == (0, 0)


def test_a_volume_that_is_not_mapped_is_nobodys(mapped: Pod, tmp_path: Path) -> None:
    volume = tmp_path / "volume"
    volume.mkdir()
    bind = m.Mount(kind="bind", source=str(volume), target="/data")
    script = "ls -ldn /data; echo > /data/made || echo refused"
    text = mapped.output("c", "sh", "-c", script, mounts=[*standard_mounts(), bind])
    assert " 65534    65534 " in text
    assert "refused" in text.splitlines()  # stderr may come after it


def test_a_volume_that_cant_be_mapped_is_refused(mapped: Pod) -> None:
    bind = m.Mount(kind="bind", source="/proc", target="/data", idmapped=True)
    with pytest.raises(RequestFailed) as failed:
        mapped.run("c", "echo", mounts=[*standard_mounts(), bind])
    assert failed.value.failure.number == errno.EINVAL
    assert "no ID-mapped mounts" in failed.value.failure.detail


def test_two_ranges_share_the_layers(make_pod: MakePod, layers: Path) -> None:
    first, second = make_pod("first", **ids(FIRST)), make_pod("second", **ids(SECOND))
    plain = make_pod("plain")
    for pod, root in ((first, FIRST), (second, SECOND), (plain, 0)):
        pod.run("app", "sh", "-c", "echo > /mark; sleep 1000")
        code, output = pod.execute("app", "sh", "-c", "ls -ln /etc/passwd && echo >> /etc/group")
        assert code == 0
        assert b" 0        0 " in output
        assert owner(pod.folder / "containers/app/upper/etc/group") == (root, root)
    assert (layers / "1/etc/group").read_text().endswith("web\n")


def test_a_small_range(make_pod: MakePod) -> None:
    pod = make_pod("small", **ids(FIRST, 1))
    assert pod.output("c", "sh", "-c", "id -u; ls -ldn /dev/pts").startswith("0\n")
    with pytest.raises(RequestFailed) as failed:
        pod.run("user", "id", process_settings={"user": m.User(user="web")})
    assert failed.value.failure.step == "take on the credentials"


def test_wrong_mappings_are_refused(make_pod: MakePod) -> None:
    pod = make_pod(start=False)
    with pytest.raises(RequestFailed) as failed:
        pod.start(uid_mappings=[m.IDMapping(container_id=0, host_id=FIRST, length=LENGTH)])
    assert failed.value.failure.step == "map the IDs of the user namespace"


def test_the_kernels_refusal_of_a_mapping_ends_pause(make_pod: MakePod) -> None:
    pod = make_pod(start=False)
    with pytest.raises(RequestFailed) as failed:
        pod.start(**ids(2**32 - 10, 100))
    assert failed.value.failure.step == "map the IDs of the user namespace"
    assert failed.value.failure.number == errno.EINVAL


def test_where_detached_mounts_cant_be_copied(tmp_path: Path, layers: Path) -> None:
    """As before Linux 6.15: pause keeps the shared memory in a mount namespace of its own."""
    old = "import minikubelet.spawner.host as host; host._copies_detached = lambda mount: False; "
    own = Spawner(boot=old)
    pod = Pod(own, tmp_path / "old", "old", layers)
    pod.start(**ids(FIRST))
    for fd in pod.control.fds:
        os.close(fd)
    assert pod.output("w", "sh", "-c", "echo shared > /dev/shm/x") == ""
    assert pod.output("r", "sh", "-c", "cat /dev/shm/x; cat /proc/self/uid_map").split() == [
        "shared",
        "0",
        str(FIRST),
        str(LENGTH),
    ]
    pod.shutdown()
    pod.cgroup_folder().parent.rmdir()
    own.close()


def test_a_new_connection_finds_the_pod_usable(mapped: Pod) -> None:
    """As after a daemon's restart."""
    mapped.run("app", "sleep", "1000")
    mapped.control.close()
    mapped.control = mapped.reconnect()
    mapped.control.ask(m.GetState(id=mapped.control.next_id()), m.State)
    assert mapped.execute("app", "id", "-u") == (0, b"0\n")
    assert mapped.output("later", "cat", "/proc/self/uid_map").split()[1] == str(FIRST)


def test_what_the_host_mounts_arrives_in_a_volume_that_wants_it(mapped: Pod, tmp_path: Path) -> None:
    volume = tmp_path / "volume"
    (volume / "late").mkdir(parents=True)
    mounts.mount("tmpfs", str(volume), "tmpfs", 0, "")
    (volume / "late").mkdir()
    try:
        mounts.set_attributes(libc.AT_FDCWD, str(volume), propagation=mounts.MS_SHARED)
        bind = m.Mount(kind="bind", source=str(volume), target="/data", propagation="rslave")
        mapped.run("app", "sleep", "1000", mounts=[*standard_mounts(), bind])
        mounts.mount("tmpfs", str(volume / "late"), "tmpfs", 0, "")
        (volume / "late/file").write_text("arrived")
        assert mapped.execute("app", "cat", "/data/late/file") == (0, b"arrived")
    finally:
        mounts.unmount(str(volume))
