"""AppArmor profiles, on a kernel that enforces them."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator

import pytest

from minikubelet.linux import apparmor
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


@pytest.fixture
def profile() -> Iterator[str]:
    """A profile that allows all but writing one file."""
    if not apparmor.enabled():
        pytest.skip("this kernel has no AppArmor: run scripts/test vm")
    if shutil.which("apparmor_parser") is None:
        pytest.skip("no apparmor_parser: install apparmor")
    parser = ("apparmor_parser", "--skip-cache")
    subprocess.run([*parser, "--replace"], input=PROFILE, text=True, check=True)
    yield NAME
    subprocess.run([*parser, "--remove"], input=PROFILE, text=True, check=True)


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
