"""Plans: which steps, in which order; what is refused before anything is done."""

from __future__ import annotations

import errno

import pytest

from minikubelet.base.errors import StepError
from minikubelet.linux.namespaces import CLONE_NEWNET
from minikubelet.linux.users import Credentials
from minikubelet.spawner.steps.namespaces import sysctl_path
from minikubelet.spawner.steps.plans import Machine, exec_plan, init_plan, pause_plan
from minikubelet.wire import messages as m

MACHINE = Machine("x86_64", 40)


def container(**settings: object) -> m.StartContainer:
    fields: dict[str, object] = {
        "lowerdirs": ["1"],
        "layers_dir": "/layers",
        "upperdir": "/u",
        "workdir": "/w",
        "process": m.Process(args=[b"sh"]),
        "cgroup": m.CgroupSettings(path="/c"),
        **settings,
    }
    return m.StartContainer(id=1, container_id="c", **fields)  # type: ignore[arg-type]


def described(request: m.StartContainer) -> list[str]:
    return [step.describe() for step in init_plan(request, MACHINE, CLONE_NEWNET, fetch_shm=False)]


def test_order_of_a_containers_steps() -> None:
    request = container(
        read_only_root=True,
        mounts=[m.Mount(kind="proc", target="/proc"), m.Mount(kind="bind", source="/s", target="/t")],
        devices=[m.Device(path="/dev/fuse", kind="c", major=10, minor=229)],
        masked_paths=["/proc/kcore"],
        read_only_paths=["/proc/sys"],
        process=m.Process(args=[b"sh"], tty=True, oom_score_adj=5, apparmor="p", rlimits=[]),
    )
    assert described(request) == [
        "join the namespaces of the pod",
        "make a cgroup namespace",
        "start a session",
        "open the mount source",
        "cut the mount namespace from the host's",
        "mount the overlay on",
        "mount proc on /proc",
        "mount bind on /t",
        "make the device",
        "open the terminal",
        "resolve the user",
        "mask",
        "make read-only",
        "pivot into the root",
        "enter the working directory",
        "make the root read-only",
        "set resource limits",
        "set the security label for exec",
        "take on the credentials",
        "exec",
    ]


def test_order_in_a_pod_with_a_user_namespace() -> None:
    """The host's rights last until mounts and limits are done."""
    process = m.Process(args=[b"sh"], tty=True, oom_score_adj=5, rlimits=[])
    request = container(mounts=[m.Mount(kind="proc", target="/proc")], process=process)
    steps = init_plan(request, MACHINE, CLONE_NEWNET, fetch_shm=False, users=True)
    assert [step.describe() for step in steps] == [
        "join the namespaces of the pod",
        "make a cgroup namespace",
        "start a session",
        "open the mount source",
        "cut the mount namespace from the host's",
        "mount the overlay on",
        "give the streams to the pod's root",
        "act as the pod's root",
        "mount proc on /proc",
        "open the terminal",
        "resolve the user",
        "mask",
        "make read-only",
        "pivot into the root",
        "enter the working directory",
        "set resource limits",
        "enter the user namespace",
        "take on the credentials",
        "exec",
    ]


def test_order_of_an_exec_into_a_user_namespace() -> None:
    process = m.Process(args=[b"sh"], oom_score_adj=5)
    steps = exec_plan(process, MACHINE, Credentials(0, 0, (0,), "/root"), users=True)
    assert [step.describe() for step in steps] == [
        "set resource limits",
        "give the streams to the pod's root",
        "join the namespaces of the container",
        "become root in the user namespace",
        "start a session",
        "open the root",
        "use known credentials",
        "enter the working directory",
        "take on the credentials",
        "exec",
    ]


def test_order_of_a_pause_with_a_user_namespace() -> None:
    request = m.StartSandbox(id=1, hostname="h", process=m.Process(args=[b"/pause"], oom_score_adj=-998))
    steps = pause_plan(request, MACHINE, own_root=False, unshared=CLONE_NEWNET)
    assert [step.describe() for step in steps] == [
        "start a session",
        "wait for the IDs of the user namespace",
        "make the pod's namespaces",
        "set the host name 'h'",
        "enter an empty root",
        "use known credentials",
        "take on the credentials",
        "exec pause",
    ]


def test_order_of_an_execs_steps() -> None:
    process = m.Process(args=[b"sh"])
    known = Credentials(0, 0, (0,), "/root")
    last = ["enter the working directory", "take on the credentials", "exec"]
    first = ["join the namespaces of the container", "start a session", "open the root"]
    assert [s.describe() for s in exec_plan(process, MACHINE, known)] == [
        *first,
        "use known credentials",
        *last,
    ]
    assert [s.describe() for s in exec_plan(process, MACHINE, None)] == [*first, "resolve the user", *last]


def test_order_of_pauses_steps() -> None:
    request = m.StartSandbox(id=1, hostname="h", sysctls={"net.a": "1"}, process=m.Process(args=[]))
    steps = [step.describe() for step in pause_plan(request, MACHINE, own_root=False)]
    assert steps == [
        "start a session",
        "set the host name 'h'",
        "set sysctl net.a",
        "enter an empty root",
        "use known credentials",
        "take on the credentials",
        "exec pause",
    ]


@pytest.mark.parametrize(
    ("settings", "number"),
    [
        ({"mounts": [m.Mount(kind="ext4", target="/x")]}, errno.ENODEV),
        ({"mounts": [m.Mount(kind="tmpfs", target="/x", flags=["suid"])]}, errno.EINVAL),
        ({"mounts": [m.Mount(kind="tmpfs", target="/x", propagation="odd")]}, errno.EINVAL),
        ({"mounts": [m.Mount(kind="tmpfs", target="x")]}, errno.EINVAL),
        ({"mounts": [m.Mount(kind="tmpfs", target="//")]}, errno.EINVAL),
        ({"mounts": [m.Mount(kind="tmpfs", target="/x", idmapped=True)]}, errno.EINVAL),
        ({"devices": [m.Device(path="/dev/x", kind="q", major=1, minor=1)]}, errno.EINVAL),
        ({"devices": [m.Device(path="dev/x", kind="c", major=1, minor=1)]}, errno.EINVAL),
        ({"process": m.Process(args=[])}, errno.EINVAL),
        ({"process": m.Process(args=[b""])}, errno.EINVAL),
        ({"process": m.Process(args=[b"x"], seccomp=b"1234567")}, errno.EINVAL),
        ({"process": m.Process(args=[b"x"], capabilities=m.Capabilities(bounding=["CAP_X"]))}, errno.EINVAL),
    ],
)
def test_what_is_refused_before_the_clone(settings: dict[str, object], number: int) -> None:
    with pytest.raises(StepError) as refused:
        init_plan(container(**settings), MACHINE, 0, fetch_shm=False)
    assert refused.value.number == number


def test_pause_needs_a_numeric_user() -> None:
    request = m.StartSandbox(id=1, process=m.Process(args=[], user=m.User(user="web")))
    with pytest.raises(StepError, match="unable to find user web"):
        pause_plan(request, MACHINE, own_root=False)


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("kernel.shmmax", "kernel/shmmax"),
        ("net.ipv4.conf.eth0/1.forwarding", "net/ipv4/conf/eth0.1/forwarding"),
        ("net/ipv4/conf/eth0.1/forwarding", "net/ipv4/conf/eth0.1/forwarding"),
    ],
)
def test_sysctl_paths(name: str, path: str) -> None:
    assert sysctl_path(name) == path


@pytest.mark.parametrize("name", ["", "/", "a..b", "a/../b", "net.ipv4.", "//etc", "./x"])
def test_sysctl_names_that_are_none(name: str) -> None:
    with pytest.raises(OSError):
        sysctl_path(name)


def test_image_volumes_are_opened_out_of_the_hosts_sight_and_below_the_root() -> None:
    image = m.Mount(kind="image", target="/data", layers=["2", "1"], flags=["ro"])
    steps = described(container(mounts=[image]))
    opened = steps.index("open the image volume")
    assert (
        steps.index("cut the mount namespace from the host's") < opened < steps.index("mount the overlay on")
    )
    assert opened < steps.index("mount image on /data")
    assert "open the image volume" not in described(container())


def test_an_image_volume_without_layers_is_refused() -> None:
    with pytest.raises(StepError, match="an image without layers"):
        described(container(mounts=[m.Mount(kind="image", target="/data")]))
