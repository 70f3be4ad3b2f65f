"""CPUs given out one by one: which ones, to whom, and that a restart doesn't give them out again."""

from __future__ import annotations

from pathlib import Path

import pytest

from minikubelet.kubelet.allocatable import format_cpus
from minikubelet.kubelet.cpumanager import manager
from minikubelet.kubelet.cpumanager.manager import CpuManager
from minikubelet.kubelet.cpumanager.topology import NotAligned, NotEnough, Place, Topology, read_topology
from minikubelet.kubelet.objects import Pod
from minikubelet.kubelet.resource_config import DeviceConfig, ReservedConfig, ResourceConfig
from tests.unit.kubelet.harness import make_pod

# Two sockets of two cores of two threads: CPUs 0-3 are first threads, 4-7 the second ones.
MACHINE = Topology({cpu: Place((cpu % 4) // 2, 0, cpu % 2) for cpu in range(8)})


def made(folder: Path, *options: str, **reserved: object) -> CpuManager:
    config = ResourceConfig(reserved=ReservedConfig(**(reserved or {"kube_reserved": {"cpu": "1"}})))  # type: ignore[arg-type]
    config.devices.cpu_manager_policy_options = dict.fromkeys(options, True)
    return CpuManager(config, str(folder), MACHINE)


def sure(name: str, cpu: str, **spec: object) -> Pod:
    amounts = {"cpu": cpu, "memory": "1Mi"}
    return make_pod(name, {"name": "app", "resources": {"limits": amounts}}, **spec)


def test_whole_sockets_then_cores_then_the_fullest_core() -> None:
    everything = MACHINE.cpus
    assert MACHINE.take(everything, 4) == {0, 1, 4, 5}
    assert MACHINE.take(everything, 2) == {0, 4}
    assert MACHINE.take(everything - {0}, 1) == {4}
    assert MACHINE.take(everything, 5) == {0, 1, 4, 5, 2}
    assert MACHINE.take(everything, 0) == frozenset()
    with pytest.raises(NotEnough, match="requested=9, available=8"):
        MACHINE.take(everything, 9)


def test_only_whole_cpus_of_guaranteed_pods_are_exclusive() -> None:
    burstable = make_pod("a", {"name": "app", "resources": {"requests": {"cpu": "2"}}})
    pods = [sure("a", "2"), sure("a", "1500m"), burstable]
    assert [manager.exclusive_cpus(pod, pod.spec.containers[0]) for pod in pods] == [2, 0, 0]


def test_given_cpus_leave_the_shared_ones_and_come_back(tmp_path: Path) -> None:
    cpus = made(tmp_path)
    assert cpus.reserved == {0} and cpus.shared == MACHINE.cpus
    pod, other = sure("one", "2"), make_pod("shares")
    cpus.allocate(pod)
    cpus.allocate(other)
    own = cpus.exclusive(pod.uid, "app")
    assert len(own) == 2 and not own & cpus.shared and 0 in cpus.shared
    assert cpus.cpuset(other.uid, "app") == format_cpus(MACHINE.cpus - own)
    again = made(tmp_path)
    assert again.exclusive(pod.uid, "app") == own, "a restart keeps them"
    again.keep_only([other.uid])
    assert again.shared == MACHINE.cpus


def test_too_many_give_nothing(tmp_path: Path) -> None:
    cpus = made(tmp_path)
    amounts = {"limits": {"cpu": "4", "memory": "1Mi"}}
    pod = make_pod("big", {"name": "a", "resources": amounts}, {"name": "b", "resources": amounts})
    with pytest.raises(NotEnough, match="requested=4, available=3"):
        cpus.allocate(pod)
    assert cpus.shared == MACHINE.cpus and not cpus.exclusive(pod.uid, "a")


def test_containers_reuse_what_their_init_containers_had(tmp_path: Path) -> None:
    cpus = made(tmp_path)
    amounts = {"limits": {"cpu": "4", "memory": "1Mi"}}
    pod = sure("web", "3", initContainers=[{"name": "init", "resources": amounts}])
    cpus.allocate(pod)
    init, app = cpus.exclusive(pod.uid, "init"), cpus.exclusive(pod.uid, "app")
    assert len(init) == 4 and len(app) == 3 and app < init


@pytest.mark.parametrize("damage", ["{", '{"policyName":"static","defaultCpuSet":"0-7","checksum":1}', ""])
def test_a_state_that_cannot_be_relied_on_is_dropped(tmp_path: Path, damage: str) -> None:
    cpus = made(tmp_path)
    pod = sure("one", "2")
    cpus.allocate(pod)
    (tmp_path / "cpu_manager_state").write_text(damage)
    assert made(tmp_path).shared == MACHINE.cpus


def test_another_machine_or_reservation_begins_anew(tmp_path: Path) -> None:
    pod = sure("one", "2")
    cpus = made(tmp_path)
    cpus.allocate(pod)
    own = format_cpus(cpus.exclusive(pod.uid, "app"))
    assert made(tmp_path, reserved_system_cpus=own).shared == MACHINE.cpus


def test_full_cores_or_nothing(tmp_path: Path) -> None:
    """``full-pcpus-only``: CPU 0 is reserved, so nobody gets its sibling 4 alone."""
    cpus = made(tmp_path, manager.FULL_CORES)
    with pytest.raises(NotAligned, match="requested 3 cpus not multiple cpus per core = 2"):
        cpus.allocate(sure("odd", "3"))
    pod, other, late = sure("one", "4"), sure("two", "2"), sure("late", "2")
    cpus.allocate(pod)
    cpus.allocate(other)
    given = cpus.exclusive(pod.uid, "app") | cpus.exclusive(other.uid, "app")
    assert given == MACHINE.cpus - {0, 4}
    assert MACHINE.siblings(cpus.exclusive(other.uid, "app")) == cpus.exclusive(other.uid, "app")
    with pytest.raises(NotAligned, match="physical CPUs = 0, requested CPUs = 2, CPUs per core = 2"):
        cpus.allocate(late)
    assert not cpus.exclusive(late.uid, "app") and cpus.shared == {0, 4}


def test_reserved_cpus_for_nobody(tmp_path: Path) -> None:
    """``strict-cpu-reservation``."""
    cpus = made(tmp_path, manager.STRICT, reserved_system_cpus="0,4")
    assert cpus.shared == MACHINE.cpus - {0, 4} == cpus.allocatable
    shares, pod = make_pod("shares"), sure("one", "2")
    cpus.allocate(pod)
    own = cpus.exclusive(pod.uid, "app")
    assert cpus.cpuset(shares.uid, "app") == format_cpus(MACHINE.cpus - {0, 4} - own)
    again = made(tmp_path, manager.STRICT, reserved_system_cpus="0,4")
    assert again.exclusive(pod.uid, "app") == own, "a restart keeps them"
    again.allocate(sure("rest", "4"))
    assert again.cpuset(shares.uid, "app") == "0,4", "nothing else is left"
    assert made(tmp_path, reserved_system_cpus="0,4").shared == MACHINE.cpus, "another policy begins anew"


def test_something_must_be_reserved(tmp_path: Path) -> None:
    config = ResourceConfig(devices=DeviceConfig(cpu_manager_policy="static"))
    with pytest.raises(ValueError, match="reservedSystemCPUs"):
        manager.make(config, str(tmp_path), lambda: MACHINE)
    config.reserved.reserved_system_cpus = "0,98-99"
    with pytest.raises(ValueError, match="no CPU 98-99 online"):
        manager.make(config, str(tmp_path), lambda: MACHINE)
    config.devices.cpu_manager_policy = "none"
    assert manager.make(config, str(tmp_path), lambda: MACHINE) is None
    config.devices.cpu_manager_policy = "other"
    with pytest.raises(ValueError, match="unknown"):
        manager.make(config, str(tmp_path), lambda: MACHINE)


def test_this_machine_has_cpus() -> None:
    assert read_topology().cpus
