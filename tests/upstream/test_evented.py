"""The upstream kubelet with the feature gates that lean on more of CRI: our events, our statistics."""

from __future__ import annotations

import functools
import re

from tests.host.node import wait_for
from tests.upstream.site import Site

SETTINGS = {
    "featureGates": {"EventedPLEG": True, "PodAndContainerStatsFromCRI": True},
    "logging": {"verbosity": 4},
}
"""Of this module's kubelet. With events it lists pods every 300 s only: nothing else tells it of an exit."""

DIES = """
containers:
- {name: app, image: BUSYBOX, command: [sleep, "1000"]}
- {name: other, image: BUSYBOX, command: [sleep, "1000"]}
"""


def metric(site: Site, name: str) -> float:
    """The sum over a metric's labels; 0 if there is none."""
    text = site.kubelet.get("/metrics").decode()
    return sum(float(value) for value in re.findall(rf"^{name}(?:{{.*}})? (\S+)$", text, re.MULTILINE))


def _restarted(site: Site, name: str, count: int) -> bool:
    return bool(site.container("evented", name).get("restartCount") == count)


def test_events_tell_of_exits(site: Site) -> None:
    site.ready("evented", DIES)
    relists = metric(site, "kubelet_pleg_relist_duration_seconds_count")
    for name, count in (("app", 1), ("other", 1), ("app", 2)):  # the last one after a back-off of 10 s
        site.node.crictl("stop", "--timeout", "0", site.container_id("evented", name))
        restarted = functools.partial(_restarted, site, name, count)
        wait_for(f"restart {count} of {name}", restarted)
        site.kubelet.wait_ready("evented")
    assert metric(site, "kubelet_pleg_relist_duration_seconds_count") - relists <= 2
    assert metric(site, "kubelet_evented_pleg_connection_success_count") == 1
    assert metric(site, "kubelet_evented_pleg_connection_error_count") == 0
    assert metric(site, "kubelet_pleg_discard_events") == 0
    log = site.kubelet.log_file.read_text()
    assert "Fall back to Generic PLEG" not in log
    assert "nil PodSandboxStatus" not in log


def test_pods_that_end_and_go(site: Site) -> None:
    site.write("ends", "restartPolicy: Never\ncontainers: [{name: app, image: BUSYBOX, command: ['true']}]")
    site.kubelet.wait_pod("ends", "Succeeded", lambda pod: pod["status"]["phase"] == "Succeeded")
    site.ready("goes", DIES)
    site.kubelet.remove("goes")
    site.kubelet.wait_gone("goes")


def test_statistics_and_metrics_are_the_runtimes(site: Site) -> None:
    site.ready("stats", DIES)

    def find() -> dict[str, dict[str, object]]:
        pods = site.kubelet.json("/stats/summary").get("pods") or []
        return {each["podRef"]["name"]: each for each in pods}

    def whole() -> dict[str, object]:
        stats = find().get("stats-host", {})
        measured = stats.get("containers", [])
        assert isinstance(measured, list)
        return stats if sorted(each["name"] for each in measured) == ["app", "other"] else {}

    stats = wait_for("statistics of the pod with both containers", whole)
    containers = stats["containers"]
    assert isinstance(containers, list)
    assert all(each["cpu"]["usageCoreNanoSeconds"] > 0 for each in containers)
    assert all("rootfs" in each and "logs" in each for each in containers)
    network = stats["network"]
    assert isinstance(network, dict) and network["name"] == "eth0"
    text = site.kubelet.get("/metrics/cadvisor").decode()
    ours = re.findall(
        r'^container_processes\{.*container="(\w+)".*pod="stats-host".*\} (\d+)', text, re.MULTILINE
    )
    assert dict(ours) == {"app": "1", "other": "1"}


def test_the_kubelet_goes_on_after_the_stream_broke(site: Site) -> None:
    """Upstream's tries five times at once and then lists again as without events, over any runtime."""
    site.ready("again", DIES)
    site.node.stop()
    site.node.start()
    site.node.crictl("stop", "--timeout", "0", site.container_id("again"))
    site.kubelet.wait_pod("again", "restarted", lambda _: site.container("again").get("restartCount") == 1)
