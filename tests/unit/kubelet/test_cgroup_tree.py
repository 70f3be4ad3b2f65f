"""The cgroups of pods on a folder that looks like cgroup2, and what pods ask for as a whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from minikubelet.base.errors import StepError
from minikubelet.kubelet import demands
from minikubelet.kubelet import resources as made_resources
from minikubelet.kubelet.cgroups import values
from minikubelet.kubelet.cgroups.tree import CgroupTree
from minikubelet.kubelet.metrics.instruments import Instruments
from minikubelet.kubelet.resource_config import CgroupConfig, ReservedConfig, ResourceConfig
from minikubelet.kubelet.resources import oom_score_adj, qos_class, sandbox_resources
from minikubelet.linux.cgroup.mount import CgroupMount
from tests.unit.kubelet.harness import make_pod

GIB = 1 << 30
MIB = 1 << 20
FILES = (
    *("cpu.weight", "cpu.max", "memory.max", "memory.low", "memory.min", "pids.max"),
    "cgroup.subtree_control",
)


class FakeKernel(CgroupTree):
    """A tree on plain folders: the kernel's files appear with the folder, as they would."""

    def _write(self, path: str, content: dict[str, str]) -> None:
        folder = Path(self._mount.path + path)
        for each in [*reversed(folder.parents), folder]:
            if str(each).startswith(self._mount.path) and not each.is_dir():
                each.mkdir()
        for name in FILES:
            (folder / name).touch()
        (folder / "cgroup.controllers").write_text("cpu memory pids")
        super()._write(path, content)


def resources(**amounts: str) -> dict[str, Any]:
    return {"resources": {"requests": amounts, "limits": amounts}}


def asks(**amounts: str) -> dict[str, Any]:
    return {"resources": {"requests": amounts}}


def tree(folder: Path, controllers: frozenset[str] = values.NEEDED, **config: Any) -> CgroupTree:
    (folder / "cgroup.controllers").write_text("cpu memory pids")
    (folder / "cgroup.subtree_control").touch()
    return FakeKernel(CgroupConfig(**config), CgroupMount(str(folder), "unified", controllers))


def test_each_qos_class_has_its_place_and_its_values(tmp_path: Path) -> None:
    made = tree(tmp_path, pod_pids_limit=77)
    made.start({"cpu": 2000, "memory": 8 * GIB, "pid": 4000})
    whole = tmp_path / "kubepods"
    assert (whole / "memory.max").read_text() == str(8 * GIB)
    assert (whole / "pids.max").read_text() == "4000"
    assert (whole / "besteffort/cpu.weight").read_text() == "1"

    sure = make_pod("sure", {"name": "a", **resources(cpu="500m", memory="64Mi")})
    made.ensure(sure)
    assert made.parent(sure) == f"/kubepods/pod{sure.uid}"
    own = whole / f"pod{sure.uid}"
    assert (own / "cpu.max").read_text() == "50000 100000"
    assert (own / "memory.max").read_text() == str(64 * MIB)
    assert (own / "pids.max").read_text() == "77"

    some = make_pod("some", {"name": "a", **asks(cpu="1")}, {"name": "b", **resources(memory="1Mi")})
    made.ensure(some)
    own = whole / f"burstable/pod{some.uid}"
    assert (own / "cpu.max").read_text() == "max 100000"
    assert (own / "memory.max").read_text() == "max"  # one container has no limit
    assert (own / "cpu.weight").read_text() == (whole / "burstable/cpu.weight").read_text() == "39"

    least = make_pod("least")
    made.ensure(least)
    assert (whole / f"besteffort/pod{least.uid}/cpu.weight").read_text() == "1"


def test_memory_that_lesser_pods_are_kept_off(tmp_path: Path) -> None:
    made = tree(tmp_path, qos_reserved={"memory": 50})
    made.start({"memory": 8 * GIB}, memory=6 * GIB)
    limits = [tmp_path / f"kubepods/{name}/memory.max" for name in ("burstable", "besteffort")]
    assert [each.read_text() for each in limits] == [str(6 * GIB)] * 2
    sure = make_pod("sure", {"name": "a", **resources(cpu="1", memory="2Gi")})
    some = make_pod("some", {"name": "a", **asks(memory="1Gi")})
    for pod in (sure, some, make_pod("least")):
        made.ensure(pod)
    assert [int(each.read_text()) for each in limits] == [5 * GIB, 5 * GIB - GIB // 2]
    (tmp_path / "kubepods/besteffort/memory.current").write_text(str(5 * GIB))
    made.ensure(make_pod("more", {"name": "a", **asks(memory="2Gi")}))
    assert [int(each.read_text()) for each in limits] == [5 * GIB, 5 * GIB], "nobody is killed for it"
    folder = tmp_path / f"kubepods/pod{sure.uid}"
    for name in [*FILES, "cgroup.controllers"]:
        (folder / name).unlink()  # rmdir(2) of a real cgroup needs no such thing
    made.remove(sure.uid)
    assert int(limits[0].read_text()) == 6 * GIB
    for each in limits:
        each.write_text("")
    plain = tree(tmp_path)
    plain.start({"memory": 8 * GIB}, memory=6 * GIB)
    plain.ensure(some)
    assert [each.read_text() for each in limits] == ["max", "max"]


def test_memory_that_the_kernel_leaves_alone_is_so_from_the_top(tmp_path: Path) -> None:
    made = tree(tmp_path, memory_qos=True, memory_reservation_policy="TieredReservation")
    made.start({"memory": 8 * GIB})
    for pod in (
        make_pod("sure", {"name": "a", **resources(cpu="1", memory="2Gi")}),
        make_pod("some", {"name": "a", **asks(memory="1Gi")}),
    ):
        made.ensure(pod)
    assert (tmp_path / "kubepods/memory.min").read_text() == str(3 * GIB)
    assert (tmp_path / "kubepods/memory.max").read_text() == str(8 * GIB)
    assert (tmp_path / "kubepods/burstable/memory.low").read_text() == str(GIB)


def test_daemons_get_what_is_reserved_for_them(tmp_path: Path) -> None:
    made = tree(tmp_path)
    system = tmp_path / "system.slice"
    amounts = {"cpu": 1000, "memory": GIB, "pid": 500, "ephemeral-storage": GIB}
    with pytest.raises(StepError, match="limit the cgroup"):
        made.limit_existing(
            "/system.slice", values.reserved_files(amounts, compressible=False, guarded=False)
        )
    system.mkdir()
    for name in FILES:
        (system / name).touch()
    made.limit_existing("/system.slice", values.reserved_files(amounts, compressible=True, guarded=True))
    assert (system / "cpu.weight").read_text() == "39"
    assert (system / "memory.max").read_text() == (system / "pids.max").read_text() == ""
    made.limit_existing("/system.slice", values.reserved_files(amounts, compressible=False, guarded=True))
    assert (system / "memory.max").read_text() == (system / "memory.min").read_text() == str(GIB)
    assert (system / "pids.max").read_text() == "500"
    assert "memory.min" not in values.reserved_files(amounts, compressible=False, guarded=False)


def test_how_long_cgroups_take_is_told(tmp_path: Path) -> None:
    (tmp_path / "cgroup.controllers").write_text("cpu memory pids")
    (tmp_path / "cgroup.subtree_control").touch()
    seconds = Instruments().cgroup_seconds
    made = FakeKernel(CgroupConfig(), CgroupMount(str(tmp_path), "unified", values.NEEDED), "", seconds)
    made.start({})
    pod = make_pod()
    made.ensure(pod)
    made.ensure(pod)
    folder = tmp_path / f"kubepods/besteffort/pod{pod.uid}"
    for name in [*FILES, "cgroup.controllers"]:
        (folder / name).unlink()  # rmdir(2) of a real cgroup needs no such thing
    made.remove(pod.uid)
    counts = {
        sample.labels["operation_type"]: sample.value
        for sample in seconds.family().samples
        if sample.suffix == "_count"
    }
    # The folders of this kernel are there before they are made.
    assert counts == {"update": 5, "destroy": 1}


@pytest.mark.parametrize(
    ("milli_cpu", "weight"), [(0, "1"), (1, "1"), (100, "4"), (1000, "39"), (10000, "391"), (10**9, "10000")]
)
def test_weights_are_in_proportion_to_requests(milli_cpu: int, weight: str) -> None:
    assert values.weight(milli_cpu) == weight


def test_the_weight_of_burstable_pods_goes_with_them(tmp_path: Path) -> None:
    made = tree(tmp_path)
    made.start({})
    pods = [make_pod(name, {"name": "a", **asks(cpu="1")}) for name in ("one", "two")]
    weights = []
    for pod in pods:
        made.ensure(pod)
        weights.append(int((tmp_path / "kubepods/burstable/cpu.weight").read_text()))
    assert weights == [39, 79]
    folder = tmp_path / f"kubepods/burstable/pod{pods[1].uid}"
    for name in [*FILES, "cgroup.controllers"]:
        (folder / name).unlink()  # rmdir(2) of a real cgroup needs no such thing
    made.remove(pods[1].uid)
    assert not folder.exists()
    assert int((tmp_path / "kubepods/burstable/cpu.weight").read_text()) == weights[0]


def test_a_restart_does_not_forget_the_weight_of_running_pods(tmp_path: Path) -> None:
    made = tree(tmp_path)
    made.start({})
    pod = make_pod("one", {"name": "a", **asks(cpu="2")})
    made.ensure(pod)
    weight = (tmp_path / "kubepods/burstable/cpu.weight").read_text()
    again = tree(tmp_path)
    again.start({})
    assert (tmp_path / "kubepods/burstable/cpu.weight").read_text() == weight != "1"
    again.ensure(pod)
    assert (tmp_path / "kubepods/burstable/cpu.weight").read_text() == weight


def test_cgroups_of_pods_long_gone_are_swept(tmp_path: Path) -> None:
    made = tree(tmp_path)
    made.start({})
    for name in ("kubepods/podgone", "kubepods/burstable/podgone2", "kubepods/podkept", "kubepods/other"):
        (tmp_path / name).mkdir()
    busy = tmp_path / "kubepods/podbusy"
    busy.mkdir()
    (busy / "cgroup.events").write_text("populated 1\n")
    assert made.sweep({"kept"}) == 2
    left = sorted(each.name for each in (tmp_path / "kubepods").iterdir() if each.is_dir())
    assert left == ["besteffort", "burstable", "other", "podbusy", "podkept"]


def test_a_host_without_controllers_is_said_and_left_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made = CgroupTree(CgroupConfig(), CgroupMount(str(tmp_path), "hybrid", frozenset({"cpu"})))
    made.start({"memory": 1})
    pod = make_pod()
    made.ensure(pod)
    made.remove(pod.uid)
    assert made.parent(pod) == "" and not list(tmp_path.iterdir())
    assert "cgroupsPerQOS is off: cgroup2 lacks memory, pids here" in caplog.text


def test_a_given_parent_is_passed_on(tmp_path: Path) -> None:
    made = CgroupTree(CgroupConfig(), CgroupMount(str(tmp_path), "unified", values.NEEDED), "/mine")
    made.start({})
    assert made.parent(make_pod()) == "/mine" and not list(tmp_path.iterdir())


def test_systemd_gets_the_names_of_slices(tmp_path: Path) -> None:
    made = tree(tmp_path)
    made.start({}, systemd=True)
    pod = make_pod()
    pod.metadata.uid = "1-2-3"
    assert made.parent(pod) == "kubepods-besteffort-pod1_2_3.slice"
    assert not (tmp_path / "kubepods").exists()


def test_init_containers_count_by_the_largest_and_sidecars_stay() -> None:
    pod = make_pod(
        "web",
        {"name": "a", **asks(cpu="100m", memory="100Mi")},
        {"name": "b", **asks(cpu="200m")},
        initContainers=[
            {"name": "first", **asks(cpu="250m")},
            {"name": "side", "restartPolicy": "Always", **asks(cpu="100m", memory="10Mi")},
            {"name": "big", **asks(cpu="350m", memory="50Mi")},
        ],
    )
    # 400m of the lasting ones; 450m while "big" runs beside the sidecar
    assert demands.pod_requests(pod) == {"cpu": 450, "memory": 110 * MIB}


def test_resources_of_the_pod_as_a_whole() -> None:
    pod = make_pod(
        "web",
        {"name": "a", **asks(memory="100Mi")},
        {"name": "b"},
        resources={"requests": {"memory": "300Mi"}, "limits": {"cpu": "1", "memory": "400Mi"}},
        overhead={"cpu": "250m", "memory": "20Mi"},
    )
    assert qos_class(pod) == "Burstable"
    assert demands.pod_requests(pod) == {"cpu": 1250, "memory": 320 * MIB}
    files = values.pod_files(pod, CgroupConfig())
    assert files["cpu.max"] == "125000 100000" and files["memory.max"] == str(420 * MIB)
    # a: 100Mi and half of the 200Mi that nobody claims
    assert oom_score_adj(pod, pod.spec.containers[0], 1000 * MIB) == 800
    assert oom_score_adj(pod, pod.spec.containers[1], 1000 * MIB) == 900
    assert sandbox_resources(pod).memory_limit_in_bytes == 400 * MIB


def test_memory_qos_and_quota_follow_the_settings() -> None:
    pod = make_pod("web", {"name": "a", **resources(cpu="1", memory="64Mi")})
    files = values.pod_files(
        pod, CgroupConfig(memory_qos=True, memory_reservation_policy="TieredReservation", cpu_cfs_quota=False)
    )
    assert files["memory.min"] == str(64 * MIB)
    assert files["cpu.max"] == "max 100000"


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (CgroupConfig(), {"memory.oom.group": "1", "memory.swap.max": "0"}),
        (CgroupConfig(single_process_oom_kill=True), {"memory.swap.max": "0"}),
        (
            CgroupConfig(swap_behavior="LimitedSwap", single_process_oom_kill=True),
            {"memory.swap.max": str(GIB // 10)},
        ),
        (
            CgroupConfig(memory_qos=True, memory_reservation_policy="TieredReservation"),
            {
                "memory.oom.group": "1",
                "memory.swap.max": "0",
                "memory.low": str(100 * MIB),
                "memory.high": str((100 + 90) * MIB),
            },
        ),
    ],
)
def test_what_cri_has_no_field_for_goes_by_file(
    monkeypatch: pytest.MonkeyPatch, config: CgroupConfig, expected: dict[str, str]
) -> None:
    for name, value in (("memory_is_controlled", True), ("swap_is_controlled", True)):
        monkeypatch.setattr(made_resources, name, lambda value=value: value)
    monkeypatch.setattr(made_resources, "node_memory", lambda: 1000 * MIB)
    monkeypatch.setattr(made_resources, "node_swap", lambda: GIB)
    amounts = {"requests": {"memory": "100Mi"}, "limits": {"memory": "200Mi"}}
    pod = make_pod("web", {"name": "a", "resources": amounts})
    node = ResourceConfig(cgroups=config)
    assert dict(made_resources.linux_resources(pod, pod.spec.containers[0], node).unified) == expected


def test_without_qos_cgroups_pods_go_below_the_cgroup_root(tmp_path: Path) -> None:
    pod = make_pod("web")
    for root, parent in (("/", ""), ("/node", "/node"), ("node/", "/node")):
        made = tree(tmp_path, cgroups_per_qos=False, cgroup_root=root)
        made.start({"cpu": 2000})
        assert made.parent(pod) == parent
    assert tree(tmp_path, cgroup_root="/node").parent(pod) == "", "until it has been made"
    assert sorted(each.name for each in tmp_path.iterdir() if each.is_dir()) == []


def test_guaranteed_and_critical_pods_have_no_swap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(made_resources, "memory_is_controlled", lambda: True)
    monkeypatch.setattr(made_resources, "swap_is_controlled", lambda: True)
    monkeypatch.setattr(made_resources, "node_swap", lambda: GIB)
    config = CgroupConfig(swap_behavior="LimitedSwap")
    some = {"name": "a", **asks(memory="100Mi")}
    for pod in (
        make_pod("sure", {"name": "a", **resources(cpu="1", memory="64Mi")}),
        make_pod("critical", some, priorityClassName="system-node-critical"),
        make_pod("least"),
    ):
        node = ResourceConfig(cgroups=config)
        made = made_resources.linux_resources(pod, pod.spec.containers[0], node)
        assert made.unified["memory.swap.max"] == "0"


def test_a_container_without_a_limit_is_slowed_down_below_what_pods_have(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(made_resources, "memory_is_controlled", lambda: True)
    monkeypatch.setattr(made_resources, "node_memory", lambda: 1000 * MIB)
    reserved = ReservedConfig(kube_reserved={"memory": "60Mi"}, system_reserved={"memory": "40Mi"})
    node = ResourceConfig(cgroups=CgroupConfig(memory_qos=True), reserved=reserved)
    pod = make_pod("some", {"name": "a", **asks(memory="100Mi")})
    made = made_resources.linux_resources(pod, pod.spec.containers[0], node)
    assert made.unified["memory.high"] == str((100 + 720) * MIB)


def test_all_pods_together_are_promised_what_each_of_them_is(tmp_path: Path) -> None:
    made = tree(tmp_path, memory_qos=True, memory_reservation_policy="TieredReservation")
    made.start({"memory": GIB})
    sure = make_pod("sure", {"name": "a", **resources(cpu="1", memory="40Mi")})
    for pod in (sure, make_pod("some", {"name": "a", **asks(memory="32Mi")}), make_pod("least")):
        made.ensure(pod)
    whole = tmp_path / "kubepods"
    assert (whole / "memory.min").read_text() == str(72 * MIB)
    assert (whole / "burstable/memory.low").read_text() == str(32 * MIB)
    for name in [*FILES, "cgroup.controllers"]:
        (whole / f"pod{sure.uid}" / name).unlink()  # rmdir(2) of a real cgroup needs no such thing
    made.remove(sure.uid)
    assert (whole / "memory.min").read_text() == str(32 * MIB)
    assert (whole / "memory.max").read_text() == str(GIB)


def test_a_pod_with_cpus_of_its_own_has_no_quota(tmp_path: Path) -> None:
    made = tree(tmp_path, cpu_cfs_quota_period=0.05)
    made.start({})
    pod = make_pod("sure", {"name": "a", **resources(cpu="1", memory="64Mi")})
    made.throttled = lambda pod: False
    made.ensure(pod)
    assert (tmp_path / f"kubepods/pod{pod.uid}/cpu.max").read_text() == "max 50000"
    made.throttled = lambda pod: True
    made.ensure(pod)
    assert (tmp_path / f"kubepods/pod{pod.uid}/cpu.max").read_text() == "50000 50000"
