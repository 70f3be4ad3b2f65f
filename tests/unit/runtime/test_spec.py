"""What a container is started with."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from minikubelet.base.errors import Code, NodeError
from minikubelet.linux import capabilities as linux_capabilities
from minikubelet.linux import seccomp
from minikubelet.runtime import container_spec, mounts, resources, security, signals
from minikubelet.runtime.files import pod_hostname, write_pod_files
from minikubelet.runtime.models import (
    DNS,
    Container,
    ContainerSecurity,
    DeviceConfig,
    LinuxResources,
    MountConfig,
    Namespaces,
    Sandbox,
    SandboxConfig,
    SecurityProfile,
)
from minikubelet.wire.messages import Capabilities
from tests.unit.runtime.fakes import IMAGE, IMAGE_ID, container_config, sandbox_config

FACTS = container_spec.image_facts(IMAGE)


def container(sandbox: SandboxConfig | None = None, **fields: Any) -> Container:
    return Container(
        id="c",
        sandbox=Sandbox(id="s", config=sandbox or sandbox_config(), created_at=1, cgroup="/pod"),
        config=container_config(**fields),
        created_at=1,
        image_id=IMAGE_ID,
        image=FACTS,
        stop_signal="SIGTERM",
        log_path="",
        cgroup="/pod/c",
    )


@pytest.mark.parametrize(
    ("command", "args", "expected"),
    [
        ((), (), [b"/app", b"serve"]),
        ((), ("x",), [b"/app", b"x"]),
        (("/sh",), (), [b"/sh"]),
        (("/sh",), ("-c", "é"), [b"/sh", b"-c", "é".encode()]),
    ],
)
def test_command_and_args(command: tuple[str, ...], args: tuple[str, ...], expected: list[bytes]) -> None:
    assert container_spec.arguments(container_config(command=command, args=args), FACTS) == expected


def test_no_command_at_all() -> None:
    from minikubelet.runtime.models import ImageFacts

    with pytest.raises(NodeError) as caught:
        container_spec.arguments(container_config(), ImageFacts(layers=("1",)))
    assert caught.value.field == "config.command"


def test_environment_is_the_images_under_the_requests() -> None:
    made = container(envs=(("A", b"\xff"), ("B", b"1"), ("B", b"2")), tty=True)
    assert container_spec.environment(made) == [
        b"HOSTNAME=pod", b"TERM=xterm", b"PATH=/bin", b"A=\xff", b"B=2",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("secure", "user", "gid"),
    [
        (ContainerSecurity(), "web:1000", -1),
        (ContainerSecurity(run_as_user=5), "5", -1),
        (ContainerSecurity(run_as_user=5, run_as_group=6), "5", 6),
        (ContainerSecurity(run_as_username="bob"), "bob", -1),
    ],
)
def test_user(secure: ContainerSecurity, user: str, gid: int) -> None:
    made = container_spec.user(secure, FACTS)
    assert (made.user, made.gid) == (user, gid)


@pytest.mark.parametrize(
    ("sandbox_pid", "pid", "expected"),
    [
        ("pod", "pod", "pod"),
        ("pod", "container", "container"),
        ("container", "pod", "container"),
        ("container", "container", "container"),
        ("node", "pod", "node"),
        ("node", "node", "node"),
    ],
)
def test_pid_namespace_never_falls_back_to_the_hosts(sandbox_pid: str, pid: str, expected: str) -> None:
    made = container(sandbox_config(namespaces=Namespaces(pid=sandbox_pid)), namespaces=Namespaces(pid=pid))
    assert container_spec.pid_namespace(made.config, made.sandbox) == expected


class TestMounts:
    def test_standard_ones_come_first(self) -> None:
        made = mounts.container_mounts(container_config(), sandbox_config(), "/run/pod")
        assert [mount.target for mount in made] == [
            "/proc", "/dev", "/dev/pts", "/dev/shm", "/dev/mqueue", "/sys", "/sys/fs/cgroup",
            "/etc/hosts", "/etc/hostname", "/etc/resolv.conf",
        ]  # fmt: skip
        assert all("ro" in mount.flags for mount in made if mount.target.startswith("/sys"))

    def test_the_requests_replace_them_and_are_sorted_by_depth(self, tmp_path: Path) -> None:
        (tmp_path / "link").symlink_to(tmp_path)
        config = container_config(
            mounts=(
                MountConfig(container_path="/a/b/", host_path=str(tmp_path), readonly=True),
                MountConfig(container_path="/a", host_path=f"{tmp_path}/link", propagation="bidirectional"),
                MountConfig(container_path="/etc/hosts", host_path=str(tmp_path)),
                MountConfig(
                    container_path="/r", host_path=str(tmp_path), readonly=True, recursive_read_only=True
                ),
            )
        )
        made = mounts.container_mounts(config, sandbox_config(), "/run/pod")
        assert [mount.target for mount in made if mount.target == "/etc/hosts"] == ["/etc/hosts"]
        wanted = {mount.target: mount for mount in made[-4:]}
        assert list(wanted) == ["/a", "/r", "/a/b", "/etc/hosts"]
        assert (wanted["/a"].source, wanted["/a"].propagation) == (str(tmp_path), "rshared")
        assert wanted["/a/b"].flags == ["ro"]
        assert wanted["/r"].flags == ["rro"]

    def test_a_missing_host_path_becomes_a_folder(self, tmp_path: Path) -> None:
        missing = tmp_path / "not/there"
        config = container_config(mounts=(MountConfig(container_path="/a", host_path=str(missing)),))
        made = mounts.container_mounts(config, sandbox_config(), "/run/pod")
        assert str(missing) in [mount.source for mount in made] and missing.is_dir()

    def test_a_host_path_that_cannot_be_names_its_field(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        (tmp_path / "dangling").symlink_to(tmp_path / "gone")
        for path in (tmp_path / "file/below", tmp_path / "dangling"):
            config = container_config(mounts=(MountConfig(container_path="/a", host_path=str(path)),))
            with pytest.raises(NodeError) as caught:
                mounts.container_mounts(config, sandbox_config(), "/run/pod")
            assert caught.value.field == "config.mounts[0].host_path"
        assert not (tmp_path / "gone").exists()

    def test_the_hosts_ipc_brings_the_hosts_shm(self) -> None:
        spaces = sandbox_config(namespaces=Namespaces(ipc="node"))
        made = mounts.container_mounts(container_config(), spaces, "/run/pod")
        (shm,) = [mount for mount in made if mount.target == "/dev/shm"]
        assert (shm.kind, shm.source) == ("bind", "/dev/shm")

    def test_a_device_is_checked_on_the_host(self, tmp_path: Path) -> None:
        good = DeviceConfig(container_path="/dev/mine", host_path="/dev/null", permissions="r")
        (device,) = mounts.container_devices(container_config(devices=(good,)))
        assert (device.path, device.kind, device.major, device.minor) == ("/dev/mine", "c", 1, 3)
        (tmp_path / "file").touch()
        bad = DeviceConfig(container_path="/dev/mine", host_path=str(tmp_path / "file"))
        with pytest.raises(NodeError, match="not a device"):
            mounts.container_devices(container_config(devices=(bad,)))


class TestCapabilities:
    def test_the_default_set_is_exact(self) -> None:
        made = security.container_capabilities(ContainerSecurity())
        assert set(made.bounding) == set(security.DEFAULT_CAPABILITIES)
        assert made.bounding == made.permitted == made.effective
        assert made.ambient == []

    def test_add_and_drop(self) -> None:
        made = security.container_capabilities(
            ContainerSecurity(add_capabilities=("net_bind_service",), drop_capabilities=("ALL",))
        )
        assert made.bounding == ["CAP_NET_BIND_SERVICE"]
        made = security.container_capabilities(ContainerSecurity(drop_capabilities=("CAP_CHOWN",)))
        assert "CAP_CHOWN" not in made.bounding

    def test_ambient_ones_are_granted(self) -> None:
        secure = ContainerSecurity(drop_capabilities=("ALL",), add_ambient_capabilities=("CHOWN",))
        made = security.container_capabilities(secure)
        assert made == Capabilities(
            bounding=["CAP_CHOWN"], permitted=["CAP_CHOWN"], effective=["CAP_CHOWN"], ambient=["CAP_CHOWN"]
        )

    def test_an_unknown_one_names_its_field(self) -> None:
        with pytest.raises(NodeError) as caught:
            security.container_capabilities(ContainerSecurity(add_capabilities=("CHOWN", "FLY")))
        assert caught.value.field.endswith("capabilities.add_capabilities[1]")

    def test_what_the_host_lacks_is_refused(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(security, "host_capabilities", lambda: ("CAP_CHOWN",))
        with pytest.raises(NodeError) as caught:
            security.container_capabilities(ContainerSecurity(add_capabilities=("SYS_TIME",)))
        assert caught.value.code is Code.FAILED_PRECONDITION

    def test_known_names(self) -> None:
        assert set(security.DEFAULT_CAPABILITIES) <= set(linux_capabilities.NAMES)


class TestSeccomp:
    NONE = Capabilities()

    def test_no_profile_unconfined_and_privileged_have_no_filter(self) -> None:
        default = SecurityProfile(kind="RuntimeDefault")
        assert security.seccomp_filter(None, False, self.NONE) == b""
        assert security.seccomp_filter(SecurityProfile(kind="Unconfined"), False, self.NONE) == b""
        assert security.seccomp_filter(default, True, self.NONE) == b""

    @pytest.mark.parametrize(
        "content", [None, b"", b"{}", b"null", b"[]", b'{"defaultAction": "SCMP_ACT_ALOW"}', b"{" * 100000]
    )
    def test_an_unusable_profile_is_never_unconfined(self, tmp_path: Path, content: bytes | None) -> None:
        path = tmp_path / "profile.json"
        if content is not None:
            path.write_bytes(content)
        profile = SecurityProfile(kind="Localhost", localhost_ref=str(path))
        with pytest.raises(NodeError):
            security.seccomp_filter(profile, False, self.NONE)

    def test_a_fifo_does_not_hang(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "fifo")
        profile = SecurityProfile(kind="Localhost", localhost_ref=str(tmp_path / "fifo"))
        with pytest.raises(NodeError, match="not a regular file"):
            security.seccomp_filter(profile, False, self.NONE)


class TestResources:
    HYBRID = resources.Enforcement(frozenset(), allow_unenforced=False)
    FULL = resources.Enforcement(frozenset({"memory", "cpu", "pids", "cpuset"}), allow_unenforced=False)

    def test_everything_where_the_controllers_are(self) -> None:
        files = self.FULL.files(
            LinuxResources(memory_limit=1 << 20, cpu_quota=50000, cpu_shares=1024, unified={"pids.max": "7"}),
            "",
        )
        assert files["memory.max"] == str(1 << 20)
        assert files["cpu.max"] == "50000 100000"
        assert files["pids.max"] == "7"
        assert "cpu.weight" in files

    @pytest.mark.parametrize(
        "limit",
        [
            LinuxResources(memory_limit=1),
            LinuxResources(cpu_quota=5000),
            LinuxResources(unified={"pids.max": "5"}),
        ],
    )
    def test_limits_are_refused_without_them(self, limit: LinuxResources) -> None:
        with pytest.raises(NodeError) as caught:
            self.HYBRID.files(limit, "")
        assert caught.value.code is Code.FAILED_PRECONDITION
        allowing = resources.Enforcement(frozenset(), allow_unenforced=True)
        assert allowing.files(limit, "") == {}

    def test_wishes_are_skipped(self) -> None:
        assert self.HYBRID.files(LinuxResources(cpu_shares=512), "") == {}

    @pytest.mark.parametrize(
        ("wrong", "field"),
        [
            (LinuxResources(oom_score_adj=1001), "config.linux.resources.oom_score_adj"),
            (LinuxResources(cpu_shares=-1), "config.linux.resources.cpu_shares"),
            (LinuxResources(unified={"cgroup.procs": "1"}), "config.linux.resources.unified"),
        ],
    )
    def test_impossible_values(self, wrong: LinuxResources, field: str) -> None:
        with pytest.raises(NodeError) as caught:
            self.FULL.files(wrong, "")
        assert (caught.value.code, caught.value.field) == (Code.INVALID_ARGUMENT, field)

    def test_an_update_changes_what_it_names(self) -> None:
        merged = resources.merge(
            LinuxResources(memory_limit=5, cpu_shares=2, unified={"a.b": "1"}),
            LinuxResources(cpu_shares=7, unified={"c.d": "2"}),
        )
        assert merged == LinuxResources(memory_limit=5, cpu_shares=7, unified={"a.b": "1", "c.d": "2"})


@pytest.mark.parametrize(
    ("name", "number", "canonical"),
    [
        ("SIGTERM", 15, "SIGTERM"),
        ("term", 15, "SIGTERM"),
        ("9", 9, "SIGKILL"),
        ("SIGRTMIN+3", 37, "SIGRTMIN+3"),
        ("RTMAX-1", 63, "SIGRTMAX-1"),
        ("SIGPOLL", 29, "SIGIO"),
    ],
)
def test_signals(name: str, number: int, canonical: str) -> None:
    assert signals.number(name) == number
    assert signals.canonical(name) == canonical


@pytest.mark.parametrize("name", ["", "SIGNOPE", "0", "65", "RTMIN-40"])
def test_no_signals(name: str) -> None:
    with pytest.raises(ValueError, match=r"signal|Linux"):
        signals.canonical(name)


def test_pod_files(tmp_path: Path) -> None:
    config = sandbox_config(
        hostname="web", dns=DNS(servers=("9.9.9.9", "1.1.1.1"), searches=("a.b", "c"), options=("ndots:2",))
    )
    write_pod_files(str(tmp_path), config, pod_hostname(config))
    assert (tmp_path / "hostname").read_text() == "web\n"
    assert (tmp_path / "resolv.conf").read_text() == (
        "search a.b c\nnameserver 9.9.9.9\nnameserver 1.1.1.1\noptions ndots:2\n"
    )
    assert "localhost" in (tmp_path / "hosts").read_text()


def test_the_hosts_network_brings_the_hosts_name() -> None:
    config = sandbox_config(hostname="web", namespaces=Namespaces(network="node"))
    assert pod_hostname(config) == os.uname().nodename


def test_what_is_compiled_ahead_is_what_pods_need(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = []

    def compile_profile(profile: object, capabilities: tuple[str, ...]) -> bytes:
        compiled.append(capabilities)
        return b"filter"

    monkeypatch.setattr(seccomp, "compile_profile", compile_profile)
    security._default_filter.cache_clear()
    try:
        security.warm_up()
        ahead = list(compiled)
        profile = SecurityProfile(kind="RuntimeDefault")
        for wanted in (ContainerSecurity(drop_capabilities=("ALL",)), ContainerSecurity()):
            granted = security.container_capabilities(wanted)
            assert security.seccomp_filter(profile, False, granted) == b"filter"
        assert len(ahead) == 2
        assert compiled == ahead
    finally:
        security._default_filter.cache_clear()


def test_without_libseccomp_the_daemon_starts_all_the_same(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def compile_profile(profile: object, capabilities: tuple[str, ...]) -> bytes:
        raise NodeError(Code.FAILED_PRECONDITION, "no libseccomp")

    monkeypatch.setattr(seccomp, "compile_profile", compile_profile)
    security._default_filter.cache_clear()
    with caplog.at_level("INFO"):
        security.warm_up()
    assert "no libseccomp" in caplog.text
