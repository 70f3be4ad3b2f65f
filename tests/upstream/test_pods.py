"""Static pods under the upstream kubelet: they come up, are probed, die, come back and go."""

from __future__ import annotations

from pathlib import Path

from tests.upstream.site import Site
from tests.upstream_kubelet import is_ready, wait_for

EVERYTHING = """
terminationGracePeriodSeconds: 5
initContainers:
- name: first
  image: BUSYBOX
  command: [sh, -c, "echo first >/shared/order"]
  volumeMounts: [{name: shared, mountPath: /shared}]
- name: sidecar
  image: BUSYBOX
  restartPolicy: Always
  command: [sh, -c, "echo sidecar >>/shared/order; sleep 1; touch /shared/up; exec sleep 1000"]
  startupProbe: {exec: {command: [test, -e, /shared/up]}, periodSeconds: 1, failureThreshold: 60}
  volumeMounts: [{name: shared, mountPath: /shared}]
- name: second
  image: BUSYBOX
  command: [sh, -c, "test -e /shared/up && echo second >>/shared/order"]
  volumeMounts: [{name: shared, mountPath: /shared}]
containers:
- name: app
  image: AGNHOST
  args: [netexec, --http-port=8080]
  startupProbe: {httpGet: {path: /healthz, port: 8080}, periodSeconds: 1, failureThreshold: 60}
  livenessProbe: {tcpSocket: {port: http}, periodSeconds: 1, timeoutSeconds: 20}
  readinessProbe:
    httpGet: {path: /healthz, port: http, httpHeaders: [{name: X-It, value: is}]}
    periodSeconds: 1
  ports: [{name: http, containerPort: 8080}]
  lifecycle: {postStart: {exec: {command: [sh, -c, "echo $(hostname) >/shared/hook"]}}}
  volumeMounts: [{name: shared, mountPath: /shared}]
- name: grpc
  image: AGNHOST
  args: [grpc-health-checking, --port=5000, --http-port=8090]
  readinessProbe: {grpc: {port: 5000}, periodSeconds: 1}
  startupProbe: {grpc: {port: 5000}, periodSeconds: 1, failureThreshold: 60}
  livenessProbe: {grpc: {port: 5000}, periodSeconds: 1, timeoutSeconds: 20}
volumes:
- {name: shared, emptyDir: {}}
"""


def test_init_containers_sidecars_and_every_kind_of_probe(site: Site) -> None:
    pod = site.ready("everything", EVERYTHING)
    assert site.run("everything", "cat", "/shared/order").split() == ["first", "sidecar", "second"]
    assert site.run("everything", "cat", "/shared/hook") == "everything-host"
    status = pod["status"]
    assert status["phase"] == "Running"
    first, sidecar, second = status["initContainerStatuses"]
    assert [each["state"]["terminated"]["exitCode"] for each in (first, second)] == [0, 0]
    assert "running" in sidecar["state"] and sidecar["started"] is True
    assert all(each["ready"] and each["restartCount"] == 0 for each in status["containerStatuses"])
    assert status["podIP"] == site.node.pod_ip(site.node.crictl("pods", "--quiet", "--no-trunc"))


def restarts(site: Site, pod: str) -> int:
    """How often its container was started anew; 0 as long as there is none."""
    return int(site.container(pod).get("restartCount", 0))


def test_what_dies_comes_back(site: Site) -> None:
    spec = """
    containers:
    - {name: app, image: BUSYBOX, command: [sh, -c, "echo up; exec sleep 1000"]}
    - {name: other, image: BUSYBOX, command: [sleep, "1000"]}
    """
    site.ready("dies", spec)
    first, other = site.container_id("dies"), site.container_id("dies", "other")
    site.node.crictl("stop", "--timeout", "0", first)
    pod = site.kubelet.wait_pod("dies", "restarted", lambda _: restarts(site, "dies") == 1)
    site.kubelet.wait_ready("dies")
    status = site.container("dies")
    assert status["lastState"]["terminated"]["exitCode"] == 137
    assert status["lastState"]["terminated"]["containerID"] == f"minikubelet://{first}"
    assert site.container_id("dies") != first
    assert site.container_id("dies", "other") == other
    assert pod["status"]["phase"] == "Running"
    wait_for("the new one's log", lambda: site.logs("dies") == "up\n")
    assert site.logs("dies", query="previous=true") == "up\n"


def test_a_sandbox_that_dies_is_made_anew(site: Site) -> None:
    site.ready("sandbox", "containers: [{name: app, image: BUSYBOX, command: [sleep, '1000']}]")
    (sandbox,) = site.node.json("pods", "--state", "ready")["items"]
    site.node.crictl("stopp", sandbox["id"])

    def ready() -> list[str]:
        return [each["id"] for each in site.node.json("pods", "--state", "ready")["items"]]

    wait_for("another sandbox", lambda: ready() not in ([], [sandbox["id"]]))
    site.kubelet.wait_ready("sandbox")


def test_liveness_restarts_and_readiness_only_tells(site: Site) -> None:
    spec = """
    containers:
    - name: app
      image: BUSYBOX
      command: [sh, -c, "touch /tmp/alive /tmp/ready; exec sleep 1000"]
      startupProbe: {exec: {command: [test, -e, /tmp/ready]}, periodSeconds: 1, failureThreshold: 60}
      livenessProbe: {exec: {command: [test, -e, /tmp/alive]}, failureThreshold: 1, TIMES}
      readinessProbe: {exec: {command: [test, -e, /tmp/ready]}, failureThreshold: 1, TIMES}
    """.replace("TIMES", "periodSeconds: 1, timeoutSeconds: 20")
    site.ready("probed", spec)
    site.run("probed", "rm", "/tmp/ready")
    site.kubelet.wait_pod("probed", "not ready", lambda pod: not is_ready(pod))
    assert restarts(site, "probed") == 0
    site.run("probed", "touch", "/tmp/ready")
    site.kubelet.wait_ready("probed")
    site.run("probed", "rm", "/tmp/alive")
    site.kubelet.wait_pod("probed", "restarted", lambda _: restarts(site, "probed") == 1)
    site.kubelet.wait_ready("probed")


def test_exec_probes_time_out(site: Site) -> None:
    site.write(
        "slow",
        """
        containers:
        - name: app
          image: BUSYBOX
          command: [sleep, "1000"]
          livenessProbe:
            exec: {command: [sleep, "100"]}
            timeoutSeconds: 1
            periodSeconds: 1
            failureThreshold: 1
        """,
    )
    site.kubelet.wait_pod("slow", "restarted", lambda _: restarts(site, "slow") >= 1)


def test_hooks_run_and_the_pod_goes_with_its_manifest(site: Site, tmp_path: Path) -> None:
    spec = f"""
    terminationGracePeriodSeconds: 30
    containers:
    - name: app
      image: BUSYBOX
      command: [sh, -c]
      args: ["trap 'echo term >>/out/events; exit 0' TERM; touch /out/up; while :; do sleep 0.1; done"]
      lifecycle:
        postStart: {{exec: {{command: [sh, -c, "echo postStart >>/out/events"]}}}}
        preStop: {{exec: {{command: [sh, -c, "sleep 0.5; echo preStop >>/out/events"]}}}}
      volumeMounts: [{{name: out, mountPath: /out}}]
    volumes: [{{name: out, hostPath: {{path: {tmp_path}}}}}]
    """
    site.ready("hooks", spec)
    container = site.container_id("hooks")
    wait_for("the trap is set", (tmp_path / "up").exists)
    site.kubelet.remove("hooks")
    site.kubelet.wait_gone("hooks")
    assert (tmp_path / "events").read_text().split() == ["postStart", "preStop", "term"]
    assert container not in site.node.crictl("ps", "--quiet", "--no-trunc")


def test_pods_that_end(site: Site) -> None:
    script = "echo gone >/dev/termination-log; exit {}"
    for name, code, policy in (("well", 0, "OnFailure"), ("badly", 3, "Never")):
        site.write(
            name,
            f"""
            restartPolicy: {policy}
            containers: [{{name: app, image: BUSYBOX, command: [sh, -c, "{script.format(code)}"]}}]
            """,
        )
    site.kubelet.wait_pod("well", "Succeeded", lambda pod: pod["status"]["phase"] == "Succeeded")
    site.kubelet.wait_pod("badly", "Failed", lambda pod: pod["status"]["phase"] == "Failed")
    ended = site.container("badly")["state"]["terminated"]
    assert (ended["exitCode"], ended["reason"], ended["message"]) == (3, "Error", "gone\n")
    assert site.container("well")["state"]["terminated"]["reason"] == "Completed"


def test_why_a_container_waits(site: Site, images: dict[str, str]) -> None:
    nowhere = images["BUSYBOX"].replace("busybox:1", "no-such-image:1")
    containers = {
        "crashes": "{name: app, image: BUSYBOX, command: [sh, -c, 'exit 1']}",
        "missing": f"{{name: app, image: '{nowhere}'}}",
        "never": f"{{name: app, image: '{nowhere}', imagePullPolicy: Never}}",
        "wrong": "{name: app, image: BUSYBOX, command: [/no/such/program]}",
    }
    for name, container in containers.items():
        site.write(name, f"containers: [{container}]")

    def reason(pod: str) -> str:
        return str(site.container(pod).get("state", {}).get("waiting", {}).get("reason", ""))

    wait_for("backoff", lambda: reason("crashes") == "CrashLoopBackOff")
    wait_for("no image", lambda: reason("missing") == "ImagePullBackOff")
    wait_for("never pulled", lambda: reason("never") == "ErrImageNeverPull")
    wait_for("no program", lambda: reason("wrong") in ("CrashLoopBackOff", "RunContainerError"))
    ended = wait_for("its end", lambda: site.container("wrong").get("lastState", {}).get("terminated"))
    assert (ended["exitCode"], ended["reason"]) == (128, "StartError")
    assert "/no/such/program" in ended["message"]


def test_pods_outlive_the_kubelet_and_the_daemon(site: Site) -> None:
    site.ready("stays", "containers: [{name: app, image: BUSYBOX, command: [sleep, '1000']}]")
    container = site.container_id("stays")
    site.kubelet.restart()
    site.kubelet.wait_ready("stays")
    assert site.container_id("stays") == container
    site.node.stop()
    site.node.start()
    site.node.stop()
    site.node.start()
    site.kubelet.remove("stays")
    site.kubelet.wait_gone("stays")
    site.ready("after", "containers: [{name: app, image: BUSYBOX, command: [sleep, '1000']}]")


def test_a_manifest_that_changes_replaces_its_pod(site: Site) -> None:
    spec = (
        "terminationGracePeriodSeconds: 0\ncontainers: [{name: app, image: BUSYBOX, command: [sleep, '%s']}]"
    )
    old = site.ready("changes", spec % "1000")
    site.write("changes", spec % "2000")
    uid = old["metadata"]["uid"]
    site.kubelet.wait_pod("changes", "replaced", lambda pod: pod["metadata"]["uid"] != uid and is_ready(pod))
    assert "sleep 2000" in site.run("changes", "ps", "-o", "args")
