"""User namespaces: what is accepted, what is refused by name, and what the monitor is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from minikubelet.base.errors import Code, NodeError
from minikubelet.runtime import mounts
from minikubelet.runtime.models import (
    ContainerConfig,
    ContainerSecurity,
    IDMap,
    MountConfig,
    Namespaces,
    SandboxSecurity,
    UserNamespace,
)
from minikubelet.runtime.validation import check_container, check_sandbox
from tests.unit.runtime.fakes import container_config, sandbox_config

SECURITY = "config.linux.security_context"
SPACES = f"{SECURITY}.namespace_options"
OPTIONS = f"{SPACES}.userns_options"
LAST = 2**32 - 1


def ids(host_id: int = 100_000, length: int = 65_536, container_id: int = 0) -> tuple[IDMap, ...]:
    return (IDMap(host_id=host_id, container_id=container_id, length=length),)


POD = UserNamespace(mode="pod", uids=ids(), gids=ids(200_000))
OTHER = UserNamespace(mode="pod", uids=ids(), gids=ids(300_000))
NODE = UserNamespace(mode="node")
SANDBOX = sandbox_config(namespaces=Namespaces(users=POD))


def pod(**fields: Any) -> Namespaces:
    return Namespaces(users=UserNamespace(**{"mode": "pod", "uids": ids(), "gids": ids(), **fields}))


@pytest.mark.parametrize(
    ("spaces", "field"),
    [
        (pod(mode="container"), f"{OPTIONS}.mode"),
        (pod(mode="target"), f"{OPTIONS}.mode"),
        (pod(uids=()), f"{OPTIONS}.uids"),
        (pod(gids=()), f"{OPTIONS}.gids"),
        (pod(uids=ids() + ids(2000)), f"{OPTIONS}.uids"),
        (pod(gids=ids() + ids(2000)), f"{OPTIONS}.gids"),
        (pod(uids=ids(container_id=1)), f"{OPTIONS}.uids[0].container_id"),
        (pod(gids=ids(container_id=1)), f"{OPTIONS}.gids[0].container_id"),
        (pod(uids=ids(host_id=0)), f"{OPTIONS}.uids[0].host_id"),
        (pod(gids=ids(length=0)), f"{OPTIONS}.gids[0].length"),
        (pod(uids=ids(host_id=LAST - 9, length=10)), f"{OPTIONS}.uids[0].length"),
        (pod(uids=ids(length=LAST)), f"{OPTIONS}.uids[0].length"),
        (Namespaces(users=UserNamespace(mode="node", uids=ids())), f"{OPTIONS}.uids"),
        (Namespaces(users=UserNamespace(mode="node", gids=ids())), f"{OPTIONS}.gids"),
        (Namespaces(users=POD, network="node"), f"{SPACES}.network"),
        (Namespaces(users=POD, ipc="node"), f"{SPACES}.ipc"),
        (Namespaces(users=POD, pid="node"), f"{SPACES}.pid"),
    ],
)
def test_a_wrong_wish_of_a_sandbox(spaces: Namespaces, field: str) -> None:
    with pytest.raises(NodeError) as caught:
        check_sandbox(sandbox_config(namespaces=spaces))
    assert (caught.value.code, caught.value.field) == (Code.INVALID_ARGUMENT, field)


@pytest.mark.parametrize(
    ("security", "field"),
    [
        (SandboxSecurity(run_as_user=65_536), f"{SECURITY}.run_as_user"),
        (SandboxSecurity(run_as_user=1, run_as_group=65_536), f"{SECURITY}.run_as_group"),
        (SandboxSecurity(supplemental_groups=(1, 70_000)), f"{SECURITY}.supplemental_groups[1]"),
    ],
)
def test_ids_that_the_pod_does_not_have(security: SandboxSecurity, field: str) -> None:
    with pytest.raises(NodeError) as caught:
        check_sandbox(sandbox_config(namespaces=Namespaces(users=POD), security=security))
    assert (caught.value.code, caught.value.field) == (Code.INVALID_ARGUMENT, field)


def test_what_is_accepted() -> None:
    check_sandbox(sandbox_config(namespaces=Namespaces(users=NODE)))
    check_sandbox(sandbox_config(namespaces=pod(uids=ids(LAST - 10, 10))))
    check_sandbox(SANDBOX)
    for users in (POD, None):
        check_container(container_config(namespaces=Namespaces(users=users)), SANDBOX)
    for users in (NODE, None):
        check_container(container_config(namespaces=Namespaces(users=users)), sandbox_config())


def volume(**fields: Any) -> tuple[MountConfig, ...]:
    maps = {"uid_mappings": POD.uids, "gid_mappings": POD.gids}
    return (MountConfig(container_path="/x", host_path="/", **{**maps, **fields}),)


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"namespaces": Namespaces(users=NODE)}, OPTIONS),
        ({"namespaces": Namespaces(users=OTHER)}, OPTIONS),
        ({"namespaces": pod(uids=())}, f"{OPTIONS}.uids"),
        ({"mounts": volume(uid_mappings=ids(5))}, "config.mounts[0].uidMappings"),
        ({"mounts": volume(gid_mappings=())}, "config.mounts[0].gidMappings"),
        ({"mounts": volume(propagation="bidirectional")}, "config.mounts[0].propagation"),
        ({"security": ContainerSecurity(run_as_user=70_000)}, f"{SECURITY}.run_as_user"),
    ],
)
def test_a_wrong_wish_of_a_container(fields: dict[str, Any], field: str) -> None:
    with pytest.raises(NodeError) as caught:
        check_container(container_config(**fields), SANDBOX)
    assert (caught.value.code, caught.value.field) == (Code.INVALID_ARGUMENT, field)


@pytest.mark.parametrize(
    ("config", "field"),
    [
        (container_config(namespaces=Namespaces(users=POD)), OPTIONS),
        (container_config(mounts=volume()), "config.mounts[0].uidMappings"),
    ],
)
def test_a_wish_that_the_pod_does_not_share(config: ContainerConfig, field: str) -> None:
    with pytest.raises(NodeError) as caught:
        check_container(config, sandbox_config())
    assert (caught.value.code, caught.value.field) == (Code.INVALID_ARGUMENT, field)


def test_which_mounts_are_mapped(tmp_path: Path) -> None:
    plain = MountConfig(container_path="/plain", host_path=str(tmp_path))
    given = MountConfig(
        container_path="/given", host_path=str(tmp_path), uid_mappings=POD.uids, gid_mappings=POD.gids
    )
    made = mounts.container_mounts(container_config(mounts=(plain, given)), SANDBOX, "/run/pod")
    assert {mount.target for mount in made if mount.idmapped} == {
        "/etc/hosts",
        "/etc/hostname",
        "/etc/resolv.conf",
        "/given",
    }
    made = mounts.container_mounts(container_config(), sandbox_config(), "/run/pod")
    assert not any(mount.idmapped for mount in made)
