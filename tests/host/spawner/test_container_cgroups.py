"""The cgroup of a container: settings, where it may be, and the filter of its devices."""

from __future__ import annotations

import errno
import os

import pytest

from minikubelet.linux.cgroup.device import DEFAULT_RULES, DeviceRule, program
from minikubelet.wire import messages as m
from tests.host.spawner.harness import Pod, RequestFailed, fails


def test_cgroup_settings_are_written_and_errors_name_the_file(pod: Pod) -> None:
    settings = m.CgroupSettings(path=f"{pod.cgroup}/c", files={"cgroup.max.depth": "3"})
    pod.run("c", "sleep", "1000", cgroup=settings)
    assert (pod.cgroup_folder() / "c/cgroup.max.depth").read_text() == "3\n"
    settings = m.CgroupSettings(path=f"{pod.cgroup}/bad", files={"cgroup.nothing": "3"})
    failure = fails(pod, "echo", cgroup=settings)
    assert failure.path.endswith("/bad/cgroup.nothing")


@pytest.mark.parametrize("path", ["relative", "/a/../../b", "/.."])
def test_cgroups_never_escape(pod: Pod, path: str) -> None:
    with pytest.raises(RequestFailed) as failed:
        pod.run("c", "echo", cgroup=m.CgroupSettings(path=path))
    assert failed.value.failure.number == errno.EINVAL


def test_device_filters_hold_for_init_and_exec(pod: Pod) -> None:
    os.symlink("busybox", pod.layers / "1/bin/mknod")
    for name, rules in (
        ("default", DEFAULT_RULES),
        ("more", [*DEFAULT_RULES, DeviceRule(True, "c", 10, 200, "rwm")]),
    ):
        settings = m.CgroupSettings(path=f"{pod.cgroup}/{name}", device_program=program(rules))
        devices = [m.Device(path="/dev/loopback", kind="c", major=1, minor=1)]  # /dev/mem
        pod.run(name, "sleep", "1000", cgroup=settings, devices=devices)
        code, output = pod.execute(name, "sh", "-c", "echo x > /dev/null; head -c 1 /dev/loopback")
        assert code == 1
        assert b"Operation not permitted" in output
        code, output = pod.execute(name, "sh", "-c", "mknod /tun c 10 200 && : < /tun")
        assert (b"Operation not permitted" in output) == (name == "default")


def test_a_device_program_the_kernel_refuses_is_explained(pod: Pod) -> None:
    settings = m.CgroupSettings(path=f"{pod.cgroup}/bad", device_program=bytes(16))
    failure = fails(pod, "echo", cgroup=settings)
    assert (failure.step, failure.number) == ("filter the devices", errno.EINVAL)
