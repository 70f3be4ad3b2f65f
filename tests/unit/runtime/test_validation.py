"""Wrong fields are refused by name."""

from __future__ import annotations

from typing import Any

import pytest

from minikubelet.base.errors import Code, NodeError
from minikubelet.runtime.models import (
    DNS,
    ContainerSecurity,
    DeviceConfig,
    ImageSpec,
    MountConfig,
    Namespaces,
    Port,
    SandboxMetadata,
    SandboxSecurity,
    SecurityProfile,
)
from minikubelet.runtime.validation import check_container, check_sandbox
from tests.unit.runtime.fakes import container_config, sandbox_config

LINUX = "config.linux"
SECURITY = "config.linux.security_context"

SANDBOX_ERRORS: list[tuple[dict[str, Any], str]] = [
    ({"metadata": SandboxMetadata(name="", uid="u", namespace="d")}, "config.metadata.name"),
    ({"metadata": SandboxMetadata(name="a\nb", uid="u", namespace="d")}, "config.metadata.name"),
    ({"metadata": SandboxMetadata(name="a", uid="u\0", namespace="d")}, "config.metadata.uid"),
    ({"hostname": "a b"}, "config.hostname"),
    ({"hostname": "a\nb"}, "config.hostname"),
    ({"hostname": "h" * 65}, "config.hostname"),
    ({"hostname": "ok\n"}, "config.hostname"),
    ({"log_directory": "var/log"}, "config.log_directory"),
    ({"log_directory": "/var/../etc"}, "config.log_directory"),
    ({"dns": DNS(servers=("1.1.1.1\nnameserver 6.6.6.6",))}, "config.dns_config.servers[0]"),
    ({"dns": DNS(searches=("ok", "a b"))}, "config.dns_config.searches[1]"),
    ({"dns": DNS(options=("",))}, "config.dns_config.options[0]"),
    ({"ports": (Port(container_port=0, host_port=5),)}, "config.port_mappings[0].container_port"),
    ({"cgroup_parent": "/a/../.."}, f"{LINUX}.cgroup_parent"),
    ({"cgroup_parent": "a\nb"}, f"{LINUX}.cgroup_parent"),
    ({"cgroup_parent": "/"}, f"{LINUX}.cgroup_parent"),
    ({"sysctls": {"kernel.core_pattern": "|/x"}}, f"{LINUX}.sysctls['kernel.core_pattern']"),
    ({"sysctls": {"net.a+kernel.core_pattern": "x"}}, f"{LINUX}.sysctls['net.a+kernel.core_pattern']"),
    ({"sysctls": {"net/core/somaxconn": "1"}}, f"{LINUX}.sysctls['net/core/somaxconn']"),
    ({"sysctls": {"net..core": "1"}}, f"{LINUX}.sysctls['net..core']"),
    ({"sysctls": {"net.core.somaxconn": "1\nx"}}, f"{LINUX}.sysctls['net.core.somaxconn']"),
    (
        {"sysctls": {"net.core.somaxconn": "1"}, "namespaces": Namespaces(network="node")},
        f"{LINUX}.sysctls['net.core.somaxconn']",
    ),
    (
        {"sysctls": {"fs.mqueue.msg_max": "1"}, "namespaces": Namespaces(ipc="node")},
        f"{LINUX}.sysctls['fs.mqueue.msg_max']",
    ),
    ({"namespaces": Namespaces(network="container")}, f"{SECURITY}.namespace_options.network"),
    ({"namespaces": Namespaces(pid="target")}, f"{SECURITY}.namespace_options.pid"),
    ({"namespaces": Namespaces(target_id="x")}, f"{SECURITY}.namespace_options.target_id"),
    ({"security": SandboxSecurity(run_as_group=5)}, f"{SECURITY}.run_as_group"),
    ({"security": SandboxSecurity(run_as_user=-1)}, f"{SECURITY}.run_as_user"),
    ({"security": SandboxSecurity(supplemental_groups=(1, 1 << 32))}, f"{SECURITY}.supplemental_groups[1]"),
    (
        {"security": SandboxSecurity(seccomp=SecurityProfile(kind="Localhost"))},
        f"{SECURITY}.seccomp.localhost_ref",
    ),
]


@pytest.mark.parametrize(("fields", "field"), SANDBOX_ERRORS)
def test_a_wrong_sandbox_field(fields: dict[str, Any], field: str) -> None:
    with pytest.raises(NodeError) as caught:
        check_sandbox(sandbox_config(**fields))
    assert (caught.value.code, caught.value.field) == (Code.INVALID_ARGUMENT, field)


def test_a_good_sandbox_is_accepted() -> None:
    check_sandbox(
        sandbox_config(
            hostname="web-0.example.org",
            log_directory="/var/log/pods/x",
            dns=DNS(servers=("10.0.0.10",), searches=("svc.cluster.local",), options=("ndots:5",)),
            ports=(Port(container_port=80, host_port=80, host_ip="127.0.0.1"), Port(container_port=81)),
            cgroup_parent="kubepods/burstable/pod1",
            sysctls={"net.ipv4.ip_local_port_range": "1024\t65000", "kernel.shm_rmid_forced": "1"},
            security=SandboxSecurity(run_as_user=0, run_as_group=0),
        )
    )


CONTAINER_ERRORS: list[tuple[dict[str, Any], str]] = [
    ({"command": ("a\0b",)}, "config.command[0]"),
    ({"args": ("ok", "a\0b")}, "config.args[1]"),
    ({"working_dir": "tmp"}, "config.working_dir"),
    ({"envs": (("A=B", b""),)}, "config.envs[0].key"),
    ({"envs": (("", b""),)}, "config.envs[0].key"),
    ({"envs": (("A", b"\0"),)}, "config.envs[0].value"),
    ({"log_path": "../escape.log"}, "config.log_path"),
    ({"log_path": "/etc/passwd"}, "config.log_path"),
    ({"log_path": "a\n.log"}, "config.log_path"),
    ({"mounts": (MountConfig(container_path="x", host_path="/"),)}, "config.mounts[0].container_path"),
    ({"mounts": (MountConfig(container_path="/x/../..", host_path="/"),)}, "config.mounts[0].container_path"),
    ({"mounts": (MountConfig(container_path="/x", host_path=""),)}, "config.mounts[0].host_path"),
    (
        {"mounts": (MountConfig(container_path="/x", host_path="/", options=("suid",)),)},
        "config.mounts[0].mount_options[0]",
    ),
    (
        {"mounts": (MountConfig(container_path="/x", host_path="/", recursive_read_only=True),)},
        "config.mounts[0].recursive_read_only",
    ),
    (
        {"devices": (DeviceConfig(container_path="/dev/x", host_path="/dev/null", permissions="rx"),)},
        "config.devices[0].permissions",
    ),
    ({"image": ImageSpec(image="a", runtime_handler="kata")}, "config.image.runtime_handler"),
    ({"namespaces": Namespaces(pid="node")}, f"{SECURITY}.namespace_options.pid"),
    ({"namespaces": Namespaces(network="node")}, f"{SECURITY}.namespace_options.network"),
    ({"namespaces": Namespaces(pid="target")}, f"{SECURITY}.namespace_options.target_id"),
    ({"security": ContainerSecurity(privileged=True)}, f"{SECURITY}.privileged"),
    ({"security": ContainerSecurity(run_as_group=1)}, f"{SECURITY}.run_as_group"),
    ({"security": ContainerSecurity(run_as_user=4294967296)}, f"{SECURITY}.run_as_user"),
    ({"security": ContainerSecurity(run_as_user=1, run_as_username="a")}, f"{SECURITY}.run_as_username"),
    ({"security": ContainerSecurity(run_as_username="a:b")}, f"{SECURITY}.run_as_username"),
    ({"security": ContainerSecurity(masked_paths=("proc",))}, f"{SECURITY}.masked_paths[0]"),
    (
        {"mounts": (MountConfig(container_path="/x", image=ImageSpec(image="a"), host_path="/"),)},
        "config.mounts[0].host_path",
    ),
    (
        {"mounts": (MountConfig(container_path="/x", image=ImageSpec(image="a\n")),)},
        "config.mounts[0].image.image",
    ),
    (
        {"mounts": (MountConfig(container_path="/x", image=ImageSpec(image="a", runtime_handler="kata")),)},
        "config.mounts[0].image.runtime_handler",
    ),
    (
        {"mounts": (MountConfig(container_path="/x", image=ImageSpec(image="a"), image_sub_path="a/../b"),)},
        "config.mounts[0].image_sub_path",
    ),
    (
        {"mounts": (MountConfig(container_path="/x", image=ImageSpec(image="a"), image_sub_path="/a"),)},
        "config.mounts[0].image_sub_path",
    ),
    (
        {
            "mounts": (
                MountConfig(container_path="/x", image=ImageSpec(image="a"), propagation="host-to-container"),
            )
        },
        "config.mounts[0].propagation",
    ),
]


@pytest.mark.parametrize(("fields", "field"), CONTAINER_ERRORS)
def test_a_wrong_container_field(fields: dict[str, Any], field: str) -> None:
    with pytest.raises(NodeError) as caught:
        check_container(container_config(**fields), sandbox_config())
    assert (caught.value.code, caught.value.field) == (Code.INVALID_ARGUMENT, field)


def test_a_stdin_that_is_closed_once_but_was_never_asked_for_means_nothing() -> None:
    """Kubernetes lets a container have stdinOnce without stdin."""
    check_container(container_config(stdin_once=True), sandbox_config())


def test_a_sub_path_of_an_image_beside_a_host_path_means_nothing() -> None:
    mount = MountConfig(container_path="/x", host_path="/tmp/volume/sub", image_sub_path="sub")
    check_container(container_config(mounts=(mount,)), sandbox_config())
