"""SELinux labels of pods and containers, on a policy of the test's own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from minikubelet.base.errors import Code, NodeError, StepError
from minikubelet.linux import selinux
from minikubelet.runtime import labels
from minikubelet.runtime.create_container import create_container
from minikubelet.runtime.models import ContainerSecurity, MountConfig, SandboxSecurity, SELinux
from minikubelet.runtime.run_sandbox import run_sandbox
from tests.unit.runtime.fakes import FakeNode, container_config, sandbox_config

OPTIONS = SELinux(level="s0:c1,c2")


@pytest.fixture
def policy(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """SELinux is on and knows all contexts; returns the paths that are relabelled."""
    done: list[str] = []
    monkeypatch.setattr(labels, "enabled", lambda: True)
    monkeypatch.setattr(labels, "_contexts", lambda: (selinux.PROCESS, selinux.FILE))
    monkeypatch.setattr(selinux, "valid", lambda context: "unknown_t" not in context)
    monkeypatch.setattr(selinux, "relabel", lambda path, label: done.append(f"{path} {label}"))
    yield done


def test_without_selinux_nothing_is_labelled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(labels, "enabled", lambda: False)
    config = sandbox_config(security=SandboxSecurity(selinux=OPTIONS))
    assert labels.of_sandbox("pod", config) == labels.Labels()


def test_who_asks_for_nothing_gets_nothing(policy: list[str]) -> None:
    for options in (None, SELinux()):
        config = sandbox_config(security=SandboxSecurity(selinux=options))
        assert labels.of_sandbox("pod", config) == labels.Labels()


def test_options_are_put_over_the_policys_contexts(policy: list[str]) -> None:
    options = SELinux(user="u", role="r", type="t")
    found = labels.of_sandbox("pod", sandbox_config(security=SandboxSecurity(selinux=options)))
    level = selinux.own_level("pod")
    assert found == labels.Labels(f"u:r:t:{level}", f"u:object_r:container_file_t:{level}")
    privileged = SandboxSecurity(selinux=OPTIONS, privileged=True)
    found = labels.of_sandbox("pod", sandbox_config(security=privileged))
    assert found == labels.Labels("", "system_u:object_r:container_file_t:s0:c1,c2")


def test_what_the_policy_does_not_know_is_refused(policy: list[str]) -> None:
    config = sandbox_config(security=SandboxSecurity(selinux=SELinux(type="unknown_t")))
    with pytest.raises(NodeError, match="does not know 'system_u:system_r:unknown_t:") as caught:
        labels.of_sandbox("pod", config)
    assert caught.value.code is Code.INVALID_ARGUMENT
    assert caught.value.field == "config.linux.security_context.selinux_options"


async def test_a_container_has_its_pods_labels_or_its_own(
    node: FakeNode, policy: list[str], tmp_path: Path
) -> None:
    pod = sandbox_config(security=SandboxSecurity(selinux=OPTIONS))
    sandbox_id = await run_sandbox(node.context, pod, "")
    sandbox = node.context.sandbox(sandbox_id)
    file = "system_u:object_r:container_file_t"
    first = container_config()
    assert labels.of_container(sandbox, first) == labels.Labels(
        "system_u:system_r:container_t:s0:c1,c2", f"{file}:s0:c1,c2"
    )
    mounts = (
        MountConfig(container_path="/a", host_path=str(tmp_path), selinux_relabel=True),
        MountConfig(container_path="/b", host_path="/usr"),
    )
    own = ContainerSecurity(selinux=SELinux(level="s0:c7"))
    await create_container(node.context, sandbox_id, container_config(security=own, mounts=mounts))
    assert f"{tmp_path} {file}:s0:c7" in policy
    assert all(line.endswith(f"{file}:s0:c7") and "/usr" not in line for line in policy)
    names = {Path(line.split()[0]).name for line in policy}
    assert names >= {"hosts", "resolv.conf"}, "the pod's files are read by its containers"


async def test_a_label_that_cannot_be_set_is_an_error(
    node: FakeNode, policy: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: str, label: str) -> None:
        raise OSError(1, "is the host's", path)

    pod = sandbox_config(security=SandboxSecurity(selinux=OPTIONS))
    sandbox_id = await run_sandbox(node.context, pod, "")
    monkeypatch.setattr(selinux, "relabel", refuse)
    mounts = (MountConfig(container_path="/a", host_path="/usr", selinux_relabel=True),)
    with pytest.raises(StepError, match="relabel"):
        await create_container(node.context, sandbox_id, container_config(mounts=mounts))
    assert node.context.store.load()[0].containers == {}
