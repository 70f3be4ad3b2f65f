"""What a kubelet counts of its work, as /metrics shows it: over the fake runtime."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from minikubelet.base import clock
from minikubelet.base.errors import Code, NodeError
from minikubelet.kubelet.metrics.allocation import AllocationInstruments, resize_families
from minikubelet.kubelet.metrics.families import render
from minikubelet.kubelet.metrics.images import size_class
from minikubelet.kubelet.metrics.instruments import Instruments
from minikubelet.kubelet.metrics.starts import StartInstruments, StartMeter, covered
from minikubelet.kubelet.objects import Pod, PodStatus
from minikubelet.kubelet.objects.podstatus import PodCondition
from minikubelet.kubelet.sinks import MemorySink
from tests.unit.kubelet.harness import IMAGE, Harness, make_pod


def shown(harness: Harness) -> list[str]:
    return render(harness.kubelet._counted.families()).splitlines()


async def test_how_images_were_had(harness: Harness) -> None:
    harness.cri.images.clear()
    harness.cri.add_image(IMAGE, here=False)
    name = "kubelet_image_manager_ensure_image_requests_total"
    async with harness.running():
        harness.source.set(make_pod())
        await harness.ready()
        never = make_pod("never", {"name": "app", "image": "example.org/not:1", "imagePullPolicy": "Never"})
        always = make_pod("always", {"name": "app", "imagePullPolicy": "Always"})
        wrong = make_pod("wrong", {"name": "app", "image": "Not:An:Image", "imagePullPolicy": "IfNotPresent"})
        there = make_pod("there")
        harness.source.set(make_pod(), never, always, wrong, there)
        await harness.ready("always")
        await harness.ready("there")
        await harness.until(
            lambda: (
                harness.container(pod="never").state.waiting and harness.container(pod="wrong").state.waiting
            )
        )
        found = [line for line in shown(harness) if line.startswith(name)]
        size = 'kubelet_image_pull_duration_seconds_count{image_size_in_bytes="0-10MB"} 2'
        assert size in shown(harness)
    for policy, present, pull in (
        ("ifnotpresent", "false", "true"),
        ("ifnotpresent", "true", "false"),
        ("always", "unknown", "true"),
        ("never", "false", "unknown"),
        ("ifnotpresent", "unknown", "unknown"),
    ):
        labels = f'pull_policy="{policy}",present_locally="{present}",pull_required="{pull}"'
        assert any(line.startswith(f"{name}{{{labels}}} ") for line in found), (labels, found)
    assert [size_class(each) for each in (0, 10 << 20, 1 << 30, 200 << 30)] == [
        *("0-10MB", "10MB-100MB", "1GB-5GB", "GT100GB")
    ]


async def test_pods_that_are_refused_and_pods_that_come_again(harness: Harness) -> None:
    async with harness.running():
        old, new = make_pod(), make_pod("web", {"name": "app", "args": ["new"]})
        new.metadata.uid = old.uid
        greedy = make_pod("greedy", {"name": "app", "resources": {"requests": {"cpu": "100k"}}})
        harness.source.set(old, greedy)
        await harness.ready()
        await harness.until(lambda: harness.pod("greedy").status.phase == "Failed")
        assert 'kubelet_restarted_pods_total{static="true"} 1' not in shown(harness)
        harness.source.set(new, greedy)
        await harness.until(lambda: harness.newest_args() == ["new"])
        lines = shown(harness)
    assert 'kubelet_admission_rejections_total{reason="OutOfcpu"} 1' in lines
    assert 'kubelet_restarted_pods_total{static="true"} 1' in lines
    assert "kubelet_pod_worker_start_duration_seconds_count 3" in lines


def test_pods_with_user_namespaces_and_handlers() -> None:
    counted = Instruments()
    with counted.starting_pod("fast", user_namespace=True):
        pass
    with pytest.raises(NodeError), counted.starting_pod("fast", user_namespace=True):
        raise NodeError(Code.INTERNAL, "no")
    lines = render(counted.families()).splitlines()
    assert "kubelet_started_pods_total 2" in lines
    assert "kubelet_started_user_namespaced_pods_total 2" in lines
    assert "kubelet_started_user_namespaced_pods_errors_total 1" in lines
    assert 'kubelet_run_podsandbox_errors_total{runtime_handler="fast"} 1' in lines
    assert 'kubelet_run_podsandbox_duration_seconds_count{runtime_handler="fast"} 2' in lines


def test_reasons_that_anybody_can_make_up_are_one() -> None:
    counted = AllocationInstruments()
    for reason in ("OutOfcpu", "OutOfexample.org/gpu", "NodePorts"):
        counted.rejected(reason)
    assert set(counted.rejections.values) == {("OutOfcpu",), ("OutOfExtendedResources",), ("Other",)}


async def test_pods_without_a_manifest_are_counted_when_they_are_found(harness: Harness) -> None:
    async with harness.running():
        harness.source.set(make_pod())
        await harness.ready()
        assert "kubelet_orphaned_runtime_pods_total 0" in shown(harness)
    async with harness.running():
        harness.source.set()
        await harness.until(lambda: not harness.cri.sandboxes)
        assert "kubelet_orphaned_runtime_pods_total 1" in shown(harness)


async def test_the_stream_of_events_and_volumes(harness: Harness) -> None:
    volumes = [{"name": "data", "emptyDir": {}}]
    async with harness.running():
        harness.source.set(make_pod(volumes=volumes))
        await harness.ready()
        lines = shown(harness)
    assert "kubelet_evented_pleg_connection_success_count 1" in lines
    labels = 'volume_plugin="kubernetes.io/empty-dir",operation_name="volume_mount",status="success"'
    counted = f'storage_operation_duration_seconds_count{{{labels},migrated="false"}} '
    assert any(line.startswith(counted) for line in lines)


async def test_a_sleep_that_is_longer_than_the_grace_period(harness: Harness) -> None:
    hook = {"name": "app", "lifecycle": {"preStop": {"sleep": {"seconds": 60}}}}
    async with harness.running():
        harness.source.set(make_pod("web", hook, terminationGracePeriodSeconds=1))
        await harness.ready()
        harness.source.set()
        await harness.until(lambda: not harness.kubelet.pods())
        assert "kubelet_sleep_action_terminated_early_total 1" in shown(harness)


async def test_resizes_are_counted_by_what_becomes_of_the_amount(harness: Harness) -> None:
    def sized(cpu: str, limit: str) -> Pod:
        resources = {"requests": {"cpu": cpu, "memory": "64Mi"}, "limits": {"memory": limit}}
        return make_pod("web", {"name": "app", "resources": resources})

    async with harness.running():
        harness.source.set(sized("100m", "1Gi"))
        await harness.ready()
        harness.source.set(sized("200m", "512Mi"))
        await harness.until(lambda: "ResizeCompleted" in harness.reasons())
        lines = shown(harness)
    name = "kubelet_container_requested_resizes_total"
    assert f'{name}{{resource="cpu",requirement="requests",operation="increase"}} 1' in lines
    assert f'{name}{{resource="memory",requirement="limits",operation="decrease"}} 1' in lines
    assert 'kubelet_pod_resize_duration_milliseconds_count{success="true"} 1' in lines


def test_resizes_that_wait() -> None:
    conditions = [
        PodCondition(type="PodResizePending", status="True", reason="Deferred"),
        PodCondition(type="PodResizeInProgress", status="True"),
    ]
    text = render(resize_families([Pod(status=PodStatus(conditions=conditions)), Pod()]))
    assert 'kubelet_pod_pending_resizes{reason="deferred"} 1\n' in text
    assert "kubelet_pod_in_progress_resizes 1\n" in text


def test_spans_that_overlap_count_once() -> None:
    assert covered([]) == 0
    assert covered([(0, 2), (1, 3), (1.5, 1.6), (5, 6)]) == 4


class Hours:
    """A monotonic clock that tests set."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def with_status(pod: Pod, phase: str, **states: dict[str, Any]) -> Pod:
    """The pod, its containers in the states that are given by name."""
    rest = {"ready": False, "restartCount": 0, "image": IMAGE, "imageID": ""}
    statuses = {name: {"name": name, "state": state, **rest} for name, state in states.items()}
    status = {
        "phase": phase,
        "initContainerStatuses": [statuses[each.name] for each in pod.spec.init_containers],
        "containerStatuses": [statuses[each.name] for each in pod.spec.containers],
    }
    return msgspec.structs.replace(pod, status=msgspec.convert(status, PodStatus))


def test_a_start_without_pulls_and_init_containers(monkeypatch: pytest.MonkeyPatch) -> None:
    hours = Hours()
    monkeypatch.setattr(clock, "monotonic", hours)
    counted = StartInstruments()
    meter = StartMeter(MemorySink(), counted)
    running, waiting = {"running": {"startedAt": "2026-01-01T00:00:00Z"}}, {"waiting": {"reason": "x"}}
    ended = {"terminated": {"exitCode": 0}}
    for volumes in ([], [{"name": "data", "hostPath": {"path": "/"}}]):
        pod = make_pod("web", initContainers=[{"name": "setup"}], volumes=volumes)
        meter.update(with_status(pod, "Pending", setup=waiting, app=waiting))
        hours.now += 4
        meter.pulled(pod.uid, 3)
        meter.update(with_status(pod, "Pending", setup=running, app=waiting))
        hours.now += 10
        meter.update(with_status(pod, "Pending", setup=ended, app=waiting))
        hours.now += 1
        meter.update(with_status(pod, "Running", setup=ended, app=running))
        hours.now += 50
        meter.update(with_status(pod, "Running", setup=ended, app=running))
    text = render(counted.families())
    assert "kubelet_pod_start_total_duration_seconds_sum 30\n" in text
    assert "kubelet_pod_start_total_duration_seconds_count 2\n" in text
    assert "kubelet_pod_start_sli_duration_seconds_sum 2\n" in text
    assert "kubelet_pod_start_sli_duration_seconds_count 1\n" in text, "host paths are nobody's fault"
    assert "kubelet_first_network_pod_start_sli_duration_seconds 2\n" in text


async def test_a_shutdown_has_a_beginning_and_an_end(harness: Harness) -> None:
    harness.config.resources.shutdown.grace_period = 10.0
    async with harness.running() as kubelet:
        harness.source.set(make_pod(terminationGracePeriodSeconds=1))
        await harness.ready()
        kubelet.power_off()
        assert kubelet._counted.shutdown_began.values == {(): 0.0}
    began, ended = kubelet._counted.shutdown_began.values[()], kubelet._counted.shutdown_ended.values[()]
    assert 0 < began < ended
