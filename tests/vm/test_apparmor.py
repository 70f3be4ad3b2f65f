"""AppArmor profiles, on a kernel that enforces them."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator

import pytest

from minikubelet.linux import apparmor, apparmor_default
from tests.host.node import CrictlFailed, Node

NAME = "minikubelet-test"
PROFILE = f"""
profile {NAME} flags=(attach_disconnected,mediate_deleted) {{
  file,
  capability,
  network,
  signal,
  deny /tmp/secret w,
}}
"""
RUNTIME_DEFAULT, UNCONFINED, LOCALHOST = 0, 1, 2
PARSER = ("apparmor_parser", "--skip-cache")


@pytest.fixture(autouse=True)
def needs_apparmor() -> None:
    if not apparmor.enabled():
        pytest.skip("this kernel has no AppArmor: run scripts/test vm")
    if shutil.which("apparmor_parser") is None:
        pytest.skip("no apparmor_parser: install apparmor")


@pytest.fixture
def profile() -> Iterator[str]:
    """A profile that allows all but writing one file."""
    subprocess.run([*PARSER, "--replace"], input=PROFILE, text=True, check=True)
    yield NAME
    subprocess.run([*PARSER, "--remove"], input=PROFILE, text=True, check=True)


def confined(kind: int, name: str = "") -> dict[str, object]:
    return {"linux": {"security_context": {"apparmor": {"profile_type": kind, "localhost_ref": name}}}}


SCRIPT = """
exec 2>/dev/null
cat /proc/self/attr/current
touch /tmp/other && echo other
touch /tmp/secret && echo secret
"""


def test_a_loaded_profile_confines(node: Node, busybox: str, profile: str) -> None:
    pod = node.run_pod("confined")
    wanted = confined(LOCALHOST, profile)
    container = node.start_container(pod, "main", busybox, "sh", "-c", f"{SCRIPT}sleep 100000", **wanted)
    said = node.crictl("exec", "--sync", container, "sh", "-c", f"{SCRIPT}true")
    assert said.splitlines() == [f"{profile} (enforce)", "other"]


def test_others_are_not_confined(node: Node, busybox: str, profile: str) -> None:
    pod = node.run_pod("unconfined")
    wanted = confined(UNCONFINED)
    container = node.start_container(pod, "main", busybox, "sh", "-c", SCRIPT, **wanted)
    node.wait_exited(container)
    assert node.crictl("logs", container).splitlines()[-3:] == ["unconfined", "other", "secret"]


def test_a_profile_that_is_not_loaded_is_refused(node: Node, busybox: str, profile: str) -> None:
    pod = node.run_pod("refused")
    with pytest.raises(CrictlFailed, match="no-such-profile"):
        node.start_container(pod, "main", busybox, "true", **confined(LOCALHOST, "no-such-profile"))


DEFAULT = f"{apparmor_default.NAME} (enforce)"
KNOBS = """
cat /proc/self/attr/current
try() { name=$1; shift; "$@" 2>/dev/null && echo "$name"; }
sleep 1000 & child=$!
try write-own sh -c 'echo 0 > /proc/self/oom_score_adj'
try write-sysctl sh -c 'cat /proc/sys/kernel/domainname > /tmp/d; cat /tmp/d > /proc/sys/kernel/domainname'
try write-shm sh -c 'cat /proc/sys/kernel/shmmni > /tmp/n; cat /tmp/n > /proc/sys/kernel/shmmni'
try write-net sh -c 'echo 64 > /proc/sys/net/ipv4/ip_default_ttl'
mkdir -p /tmp/m
try mount mount -t tmpfs none /tmp/m
try signal kill $child
"""
OPEN_PROC: dict[str, object] = {
    "capabilities": {"add_capabilities": ["SYS_ADMIN"]},
    "masked_paths": ["/nothing"],
    "readonly_paths": ["/nothing"],
}
"""Nothing but the profile protects the knobs (of the pod's own namespaces)."""


def test_the_default_profile_keeps_the_kernels_knobs(node: Node, busybox: str) -> None:
    """No profile named, an exec into it, and beside it the same without confinement: only that may."""
    pod = node.run_pod("knobs")
    plain = {"linux": {"security_context": OPEN_PROC}}
    free = {"linux": {"security_context": {**OPEN_PROC, "apparmor": {"profile_type": UNCONFINED}}}}
    container = node.start_container(pod, "default", busybox, "sleep", "100000", **plain)
    said = node.crictl("exec", "--sync", container, "sh", "-c", KNOBS).splitlines()
    assert said == [DEFAULT, "write-own", "write-shm", "signal"]
    container = node.start_container(pod, "free", busybox, "sleep", "100000", **free)
    said = node.crictl("exec", "--sync", container, "sh", "-c", KNOBS).splitlines()
    assert said == [
        "unconfined", "write-own", "write-sysctl", "write-shm", "write-net", "mount", "signal",
    ]  # fmt: skip


def test_the_default_profile_comes_back_when_it_was_removed(node: Node, busybox: str) -> None:
    subprocess.run(
        [*PARSER, "--remove"], input=f"profile {apparmor_default.NAME} {{}}", text=True, check=True
    )
    pod = node.run_pod("again")
    container = node.start_container(
        pod, "main", busybox, "cat", "/proc/self/attr/current", **confined(RUNTIME_DEFAULT)
    )
    node.wait_exited(container)
    assert node.crictl("logs", container).splitlines() == [DEFAULT]


def test_a_privileged_container_is_not_confined(node: Node, busybox: str) -> None:
    privileged = {"linux": {"security_context": {"privileged": True}}}
    pod = node.run_pod("privileged", **privileged)
    container = node.start_container(pod, "main", busybox, "cat", "/proc/self/attr/current", **privileged)
    node.wait_exited(container)
    assert node.crictl("logs", container).splitlines() == ["unconfined"]
