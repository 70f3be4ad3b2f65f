"""CRI messages to the model and back."""

from __future__ import annotations

import pytest

from minikubelet.base.errors import Code, NodeError
from minikubelet.cri import enums, from_proto, to_proto
from minikubelet.criapi import api_pb2 as api
from minikubelet.runtime.models import (
    Container,
    ImageFacts,
    LinuxResources,
    Sandbox,
    SandboxStatus,
    SecurityProfile,
)
from minikubelet.wire.messages import ResolvedUser


def pod_config() -> api.PodSandboxConfig:
    return api.PodSandboxConfig(
        metadata=api.PodSandboxMetadata(name="web", uid="u1", namespace="default", attempt=2),
        hostname="web-0",
        log_directory="/logs",
        dns_config=api.DNSConfig(servers=["9.9.9.9"], searches=["a.b"], options=["ndots:5"]),
        port_mappings=[
            api.PortMapping(protocol=api.UDP, container_port=53, host_port=5353, host_ip="127.0.0.1")
        ],
        labels={"k": "v"},
        annotations={"a/b": "c\nd"},
        linux=api.LinuxPodSandboxConfig(
            cgroup_parent="kubepods/pod1",
            sysctls={"net.core.somaxconn": "5"},
            security_context=api.LinuxSandboxSecurityContext(
                namespace_options=api.NamespaceOption(pid=api.CONTAINER, ipc=api.NODE),
                run_as_user=api.Int64Value(value=0),
                supplemental_groups=[5],
                supplemental_groups_policy=api.Strict,
                seccomp=api.SecurityProfile(profile_type=api.SecurityProfile.RuntimeDefault),
            ),
        ),
    )


def container_config() -> api.ContainerConfig:
    return api.ContainerConfig(
        metadata=api.ContainerMetadata(name="app", attempt=3),
        image=api.ImageSpec(image="sha256:ab", user_specified_image="app:1"),
        command=["/app"],
        args=["-v"],
        working_dir="/srv",
        envs=[api.KeyValue(key="A", value=b"\xff")],
        mounts=[
            api.Mount(
                container_path="/data",
                host_path="/srv",
                readonly=True,
                propagation=api.PROPAGATION_HOST_TO_CONTAINER,
                mount_options=["noexec"],
            )
        ],
        devices=[api.Device(container_path="/dev/x", host_path="/dev/null", permissions="r")],
        labels={"l": "1"},
        annotations={"n": "2"},
        log_path="app/0.log",
        tty=True,
        stop_signal=api.SIGNAL_SIGRTMINPLUS3,
        linux=api.LinuxContainerConfig(
            resources=api.LinuxContainerResources(
                cpu_shares=5,
                memory_limit_in_bytes=9,
                unified={"pids.max": "3"},
                hugepage_limits=[api.HugepageLimit(page_size="2MB", limit=7)],
            ),
            security_context=api.LinuxContainerSecurityContext(
                capabilities=api.Capability(add_capabilities=["CHOWN"]), run_as_username="bob"
            ),
        ),
    )


def test_a_sandbox_keeps_everything() -> None:
    config = from_proto.sandbox_config(pod_config())
    assert (config.metadata.name, config.metadata.attempt) == ("web", 2)
    assert config.annotations == {"a/b": "c\nd"}
    assert (config.ports[0].protocol, config.ports[0].host_ip) == ("UDP", "127.0.0.1")
    assert (config.namespaces.network, config.namespaces.pid, config.namespaces.ipc) == (
        "pod",
        "container",
        "node",
    )
    assert config.security.run_as_user == 0
    assert config.security.run_as_group is None
    assert config.security.supplemental_policy == "Strict"
    assert config.security.seccomp == SecurityProfile(kind="RuntimeDefault")
    assert config.dns is not None
    assert config.dns.searches == ("a.b",)

    sandbox = Sandbox(id="s", config=config, created_at=7, cgroup="/x", runtime_handler="h")
    item = to_proto.sandbox_item(sandbox)
    assert item.metadata == pod_config().metadata
    assert (dict(item.labels), dict(item.annotations)) == ({"k": "v"}, {"a/b": "c\nd"})
    assert item.state == api.SANDBOX_NOTREADY
    assert item.runtime_handler == "h"


def test_a_ready_sandbox_has_its_addresses() -> None:
    config = from_proto.sandbox_config(pod_config())
    sandbox = Sandbox(id="s", config=config, created_at=7, cgroup="/x")
    sandbox.status = SandboxStatus(ready_at=1, ips=("10.0.0.2", "fd00::2"))
    status = to_proto.sandbox_status(sandbox)
    assert status.state == api.SANDBOX_READY
    assert status.network.ip == "10.0.0.2"
    assert [address.ip for address in status.network.additional_ips] == ["fd00::2"]
    assert status.linux.namespaces.options.ipc == api.NODE
    sandbox.status.stopped_at = 2
    assert to_proto.sandbox_status(sandbox).network.ip == ""


def test_a_container_keeps_everything() -> None:
    source = container_config()
    config = from_proto.container_config(source)
    assert config.envs == (("A", b"\xff"),)
    assert config.stop_signal == "SIGRTMIN+3"
    sandbox = Sandbox(id="s", config=from_proto.sandbox_config(pod_config()), created_at=1, cgroup="/x")
    container = Container(
        id="c",
        sandbox=sandbox,
        config=config,
        created_at=5,
        image_id="sha256:ab",
        image=ImageFacts(layers=("1",)),
        stop_signal="SIGRTMIN+3",
        log_path="/logs/app/0.log",
        cgroup="/x/c",
    )
    status = to_proto.container_status(container)
    assert status.state == api.CONTAINER_CREATED
    assert status.metadata == source.metadata
    assert list(status.mounts) == list(source.mounts)
    assert status.resources.linux == source.linux.resources
    assert status.image == source.image
    assert status.stop_signal == api.SIGNAL_SIGRTMINPLUS3
    assert status.log_path == "/logs/app/0.log"
    assert not status.HasField("user")

    container.status.started_at = 6
    container.status.user = ResolvedUser(uid=1, gid=2, groups=[2, 3])
    container.status.resources = LinuxResources(cpu_shares=8)
    running = to_proto.container_status(container)
    assert running.state == api.CONTAINER_RUNNING
    assert running.user.linux.supplemental_groups == [2, 3]
    assert running.resources.linux.cpu_shares == 8
    container.status.finished_at = 9
    container.status.reason = "OOMKilled"
    ended = to_proto.container_status(container)
    assert (ended.state, ended.reason) == (api.CONTAINER_EXITED, "OOMKilled")


def test_a_pods_users_and_mapped_mounts_are_reported() -> None:
    mapping = api.IDMapping(host_id=65536, container_id=0, length=65536)
    users = api.UserNamespace(mode=api.POD, uids=[mapping], gids=[mapping])
    pod = pod_config()
    pod.linux.security_context.namespace_options.userns_options.CopyFrom(users)
    sandbox = Sandbox(id="s", config=from_proto.sandbox_config(pod), created_at=1, cgroup="/x")
    options = to_proto.sandbox_status(sandbox).linux.namespaces.options
    assert options == pod.linux.security_context.namespace_options
    source = container_config()
    source.mounts[0].uidMappings.append(mapping)
    source.mounts[0].gidMappings.append(mapping)
    (mount,) = from_proto.container_config(source).mounts
    assert to_proto.mount(mount) == source.mounts[0]


def test_an_image_volume_tells_its_image() -> None:
    source = container_config()
    source.mounts.add(container_path="/model", image=api.ImageSpec(image="model:latest"))
    container = Container(
        id="c",
        sandbox=Sandbox(id="s", config=from_proto.sandbox_config(pod_config()), created_at=1, cgroup="/x"),
        config=from_proto.container_config(source),
        created_at=5,
        image_id="sha256:ab",
        image=ImageFacts(layers=("1",), volumes=(("2",),), volume_ids=("sha256:cd",)),
        stop_signal="SIGTERM",
        log_path="",
        cgroup="/x/c",
    )
    mounts = to_proto.container_status(container).mounts
    assert [(each.image.image, each.image.image_ref) for each in mounts] == [
        ("", ""),
        ("model:latest", "sha256:cd"),
    ]


def test_every_signal_has_a_word_and_back() -> None:
    assert set(enums.SIGNAL) == set(api.Signal.values())
    assert enums.SIGNAL[api.SIGNAL_SIGRTMAXMINUS14] == "SIGRTMAX-14"
    assert enums.SIGNAL_NUMBER["SIGTERM"] == api.SIGNAL_SIGTERM


def test_unknown_enumeration_values_name_the_field() -> None:
    sandbox = pod_config()
    sandbox.port_mappings[0].protocol = 9  # type: ignore[assignment]
    with pytest.raises(NodeError) as caught:
        from_proto.sandbox_config(sandbox)
    assert caught.value.field == "config.port_mappings[0].protocol"
    container = container_config()
    container.mounts[0].propagation = 9  # type: ignore[assignment]
    with pytest.raises(NodeError) as caught:
        from_proto.container_config(container)
    assert caught.value.field == "config.mounts[0].propagation"


@pytest.mark.parametrize(
    ("text", "profile"),
    [
        ("runtime/default", SecurityProfile(kind="RuntimeDefault")),
        ("unconfined", SecurityProfile(kind="Unconfined")),
        ("localhost//p.json", SecurityProfile(kind="Localhost", localhost_ref="/p.json")),
    ],
)
def test_deprecated_profile_strings(text: str, profile: SecurityProfile) -> None:
    container = container_config()
    container.linux.security_context.seccomp_profile_path = text
    assert from_proto.container_config(container).security.seccomp == profile


def test_a_misspelt_profile_is_an_error() -> None:
    container = container_config()
    container.linux.security_context.seccomp_profile_path = "runtime/defualt"
    with pytest.raises(NodeError, match="seccomp_profile_path"):
        from_proto.container_config(container)


def test_missing_metadata_and_windows() -> None:
    with pytest.raises(NodeError, match=r"config\.metadata"):
        from_proto.sandbox_config(api.PodSandboxConfig())
    with pytest.raises(NodeError, match=r"config\.metadata"):
        from_proto.container_config(api.ContainerConfig())
    config = pod_config()
    config.windows.SetInParent()
    with pytest.raises(NodeError) as caught:
        from_proto.sandbox_config(config)
    assert caught.value.code is Code.UNIMPLEMENTED


def test_the_newest_container_comes_first() -> None:
    sandbox = Sandbox(id="s", config=from_proto.sandbox_config(pod_config()), created_at=1, cgroup="/x")
    config = from_proto.container_config(container_config())
    containers = [
        Container(
            id=str(created_at),
            sandbox=sandbox,
            config=config,
            created_at=created_at,
            image_id="sha256:ab",
            image=ImageFacts(layers=("1",)),
            stop_signal="SIGTERM",
            log_path="",
            cgroup="/x/c",
        )
        for created_at in (5, 9, 7)
    ]
    assert [each.id for each in to_proto.container_statuses(containers)] == ["9", "7", "5"]
