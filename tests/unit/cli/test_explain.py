"""`explain`: each way of not being Ready in plain words."""

from __future__ import annotations

from typing import Any

import pytest

from minikubelet.cli.explain import explain, render
from tests.unit.cli.pods import NOW, ago, pod, running, status, terminated, waiting

Json = dict[str, Any]


def event(reason: str, message: str, container: str = "", seconds: int = 10) -> Json:
    about = {"fieldPath": f"spec.containers{{{container}}}"} if container else {}
    return {
        "type": "Warning",
        "reason": reason,
        "message": message,
        "involvedObject": about,
        "lastTimestamp": ago(seconds),
    }


def told(subject: Json, *events: Json, log: list[str] | None = None) -> str:
    headline, findings = explain(subject, list(events), lambda container, previous: log or [], NOW)
    return render(headline, findings)


def with_container(subject: Json, **fields: Any) -> Json:
    """The pod with its container "c" declared."""
    subject["spec"]["containers"] = [{"name": "c", "image": "registry.test/app:1", **fields}]
    return subject


def test_a_ready_pod() -> None:
    shown = told(pod(running(), conditions={"Ready": "True"}))
    assert shown.startswith("Pod web is Ready") and shown.count("\n") == 1


@pytest.mark.parametrize(
    ("message", "advice"),
    [
        ("registry.test: 401 Unauthorized", "Check the credentials"),
        ("registry.test/app:1: not found", "Check the image's name and tag"),
        ("lookup registry.test: no such host", "this machine's DNS"),
        ("connect to registry.test: Connection refused", "Check that the registry runs"),
        ("can't connect: Name or service not known", "this machine's DNS"),
        ("certificate verify failed", "the registry's CA"),
        ("no image for platform linux/amd64 in the index", "isn't built for this machine's processor"),
        ("the signature validation failed: pull r/a@sha256:1403: not found", "Sign the image"),
        (
            "pull r.test/app:1: nothing for linux/amd64; the index has linux/arm64/v8",
            "this machine's processor",
        ),
        ("pull r.test/app:1: the image is for linux/s390x, not for linux/amd64", "this machine's processor"),
        ("r/app: no match for platform in manifest: not found", "this machine's processor"),
        ("registry.test/platform/app:1: not found", "Check the image's name and tag"),
        ("something about sha256:140140440", "minikubelet image pull registry.test/app:1"),
    ],
)
def test_an_image_that_cant_be_pulled(message: str, advice: str) -> None:
    subject = with_container(pod(waiting("ImagePullBackOff"), phase="Pending"))
    shown = told(subject, event("Failed", f"Failed to pull image: {message}", "c"))
    assert 'The image of container "c" can\'t be pulled: registry.test/app:1' in shown
    assert message in shown
    assert f"-> {advice}" in shown or advice in shown.partition("->")[2]


def test_a_crash_loop_with_its_exit_code_and_last_lines() -> None:
    last = {"terminated": {"exitCode": 127, "reason": "Error", "finishedAt": ago(20)}}
    looping = waiting("CrashLoopBackOff", restarts=3, last=last)
    looping["state"]["waiting"]["message"] = "back-off 40s restarting failed container=c pod=p"
    shown = told(with_container(pod(looping)), log=["sh: foo: not found"])
    assert 'Container "c" keeps ending: restarted 3 times, last ended 20s ago with exit code 127' in shown
    assert "the command was not found" in shown
    assert "40s between two tries" in shown
    assert "| sh: foo: not found" in shown
    assert "-> Check command, args" in shown


def test_out_of_memory_names_the_limit() -> None:
    last = {"terminated": {"exitCode": 137, "reason": "OOMKilled", "finishedAt": ago(5)}}
    subject = with_container(
        pod(waiting("CrashLoopBackOff", restarts=1, last=last)), resources={"limits": {"memory": "64Mi"}}
    )
    shown = told(subject)
    assert "it used more memory than its limit (OOMKilled)" in shown
    assert "-> Raise resources.limits.memory (now 64Mi)" in shown


def test_a_liveness_probe_that_kills() -> None:
    last = {"terminated": {"exitCode": 137, "reason": "Error", "finishedAt": ago(5)}}
    shown = told(
        with_container(pod(waiting("CrashLoopBackOff", restarts=2, last=last))),
        event("Unhealthy", "Liveness probe failed: HTTP probe failed with statuscode: 500", "c", 12),
        event("Killing", "Container c failed liveness probe, will be restarted", "c", 11),
    )
    assert "Container c failed liveness probe" in shown
    assert "HTTP probe failed with statuscode: 500" in shown


def test_success_is_no_reason_to_start_again() -> None:
    last = {"terminated": {"exitCode": 0, "reason": "Completed", "finishedAt": ago(5)}}
    shown = told(with_container(pod(waiting("CrashLoopBackOff", restarts=1, last=last))))
    assert "-> For work that ends, set restartPolicy: OnFailure or Never." in shown


@pytest.mark.parametrize(
    ("message", "advice"),
    [
        ("dial tcp 10.0.0.5:8080: connect: connection refused", "Nothing listens on that port"),
        ("HTTP probe failed with statuscode: 404", "check the probe's path"),
        ("context deadline exceeded", "timeoutSeconds (1)"),
        (
            'timeout: failed to connect service "10.0.0.5:81" within 1s: context deadline exceeded',
            "Nothing answers by gRPC there",
        ),
        (
            'Get "https://10.0.0.5/": tls: first record does not look like a TLS handshake',
            "check the probe's scheme",
        ),
        ("HTTP probe failed with statuscode: 400", "check the probe's scheme"),
        ("HTTP probe failed with statuscode: 401", "wants to know who asks"),
        ("HTTP probe failed with statuscode: 503", "check the probe's path"),
        (
            "errored and resulted in unknown state: exec 'pg_isready': executable file not found in $PATH",
            "That program is not in the image",
        ),
        ("dial tcp: unknown", "Check the probe's fields"),
    ],
)
def test_a_failing_readiness_probe_with_its_last_output(message: str, advice: str) -> None:
    subject = with_container(
        pod(running(ready=False), conditions={"Ready": "False"}),
        readinessProbe={"httpGet": {"path": "/healthz", "port": 8080}, "periodSeconds": 5},
    )
    shown = told(subject, event("Unhealthy", f"Readiness probe failed: {message}", "c"))
    assert "runs, but its readiness probe doesn't succeed" in shown
    assert "HTTP GET /healthz on port 8080, every 5s" in shown
    assert f"it last said: Readiness probe failed: {message}" in shown
    assert advice in shown


def test_a_startup_probe_that_has_not_succeeded() -> None:
    starting = running(ready=False)
    starting["started"] = False
    shown = told(with_container(pod(starting), startupProbe={"exec": {"command": ["cat", "/ok"]}}))
    assert "its startup probe hasn't succeeded yet" in shown
    assert "exec cat /ok" in shown


def test_only_the_init_container_that_blocks_is_told_of() -> None:
    first = status("first", running={"startedAt": ago(90)})
    shown = told(pod(waiting("PodInitializing"), init=[first, waiting("PodInitializing", "second")]))
    assert 'Init container "first" has been at work for 90s' in shown
    assert "second" not in shown and '"c"' not in shown


def test_a_failed_init_container() -> None:
    shown = told(pod(waiting("PodInitializing"), init=[terminated(1, "Error", "first")]), log=["no database"])
    assert 'Container "first" ended 20s ago with exit code 1' in shown
    assert "| no database" in shown


@pytest.mark.parametrize("kind", ["configmap", "secret"])
def test_a_missing_object(kind: str) -> None:
    subject = pod(waiting("ContainerCreating"), phase="Pending")
    message = f'MountVolume.SetUp failed for volume "v" : {kind} "settings" not found'
    subject["status"]["conditions"] = [{"type": "PodReadyToStartContainers", "status": "False"}]
    shown = told(subject, event("FailedMount", message))
    assert "A volume can't be set up" in shown
    assert f'-> Put the {kind} "settings" into the manifest folder' in shown


def test_a_config_error_and_a_start_error() -> None:
    wrong = waiting("CreateContainerConfigError")
    wrong["state"]["waiting"]["message"] = 'secret "key" not found'
    assert '-> Put the secret "key" into the manifest folder' in told(with_container(pod(wrong)))
    wrong = waiting("RunContainerError")
    wrong["state"]["waiting"]["message"] = 'exec "/no/such": no such file or directory'
    assert "-> Check command, args and workingDir" in told(with_container(pod(wrong)))


def test_a_failed_pod_says_who_ended_it() -> None:
    subject = pod(terminated(137, "Error"), phase="Failed")
    subject["status"] |= {"reason": "Evicted", "message": "The node was low on resource: memory."}
    shown = told(subject)
    assert "Pod web has failed" in shown
    assert "The node ended it: Evicted" in shown and "low on resource: memory" in shown


def test_a_pod_that_is_being_removed() -> None:
    subject = pod(running())
    subject["metadata"] |= {"deletionTimestamp": ago(3), "deletionGracePeriodSeconds": 30}
    shown = told(subject)
    assert "is being removed" in shown and "still running: c; they are killed 30s after" in shown


def test_a_gate_that_is_not_met() -> None:
    subject = pod(running(), conditions={"Ready": "False"})
    subject["spec"]["readinessGates"] = [{"conditionType": "example.com/fed"}]
    assert 'Readiness gate "example.com/fed" is not met' in told(subject)


def test_nothing_that_steers_a_terminal_gets_through() -> None:
    wrong = waiting("CreateContainerError")
    wrong["state"]["waiting"]["message"] = "\x1b[2Jgone"
    assert "\x1b" not in told(with_container(pod(wrong)))


def test_a_volume_that_lacks_its_object_is_told_of_even_when_the_sandbox_is_up() -> None:
    subject = pod(
        waiting("ContainerCreating"), conditions={"PodReadyToStartContainers": "True"}, phase="Pending"
    )
    missing = event("FailedMount", 'MountVolume.SetUp failed for volume "v" : configmap "site" not found')
    shown = told(subject, missing)
    assert "A volume can't be set up" in shown
    assert '-> Put the configmap "site" into the manifest folder' in shown
    assert "A volume" not in told(pod(running(), conditions={"PodReadyToStartContainers": "True"}), missing)


def test_a_program_that_is_not_in_the_image() -> None:
    state = terminated(128, "StartError")
    state["state"]["terminated"]["message"] = "exec 'serve': executable file not found in $PATH"
    assert "-> Check command, args and workingDir" in told(with_container(pod(state)))


def test_a_hook_that_ends_its_container() -> None:
    subject = with_container(pod(waiting("CrashLoopBackOff")))
    subject["status"]["containerStatuses"][0]["lastState"] = terminated(0)["state"]
    shown = told(subject, event("FailedPostStartHook", "PostStartHook failed: connection refused", "c"))
    assert "because its postStart hook failed: PostStartHook failed: connection refused" in shown
    assert "restartPolicy" not in shown


def test_one_container_that_is_done_while_another_goes_on() -> None:
    subject = pod(terminated(0, "Completed", "first"), running("second"), conditions={"Ready": "False"})
    subject["spec"]["restartPolicy"] = "Never"
    assert '"first" has ended with success and won\'t be started again' in told(subject)


def test_a_host_path_that_is_not_there() -> None:
    missing = "config.mounts[0].host_path: '/srv/db' does not exist on the host"
    state = waiting("CreateContainerError")
    state["state"]["waiting"]["message"] = missing
    assert "-> Make that path on this machine" in told(with_container(pod(state)))


@pytest.mark.parametrize(
    ("fault", "advice"),
    [
        ("/srv/db is not a directory", "Make that folder on this machine, or set"),
        ("/etc/app.conf is not a file", "FileOrCreate"),
        ("/run/docker.sock is not a socket file", "Start the program that listens on that socket"),
        ("/dev/ttyUSB0 is not a character device", "Plug that device in"),
        ("something else", "Check the volume in the manifest"),
    ],
)
def test_a_host_path_of_another_type(fault: str, advice: str) -> None:
    subject = pod(phase="Pending", conditions={"PodReadyToStartContainers": "False"})
    message = f'MountVolume.SetUp failed for volume "v" : hostPath type check failed: {fault}'
    assert advice in told(subject, event("FailedMount", message)).partition("->")[2]


def test_a_failing_command_is_told_with_its_last_output_and_what_it_must_do() -> None:
    subject = with_container(
        pod(running(ready=False), conditions={"Ready": "False"}),
        readinessProbe={"exec": {"command": ["test", "-e", "/warm"]}},
    )
    shown = told(subject, event("Unhealthy", "Readiness probe failed: not warm yet\n\n", "c"))
    assert "  it last said: Readiness probe failed: not warm yet\n  ->" in shown
    assert "-> That command must end with exit code 0" in shown


def test_a_command_that_fails_without_a_word() -> None:
    subject = with_container(
        pod(running(ready=False), conditions={"Ready": "False"}),
        readinessProbe={"exec": {"command": ["test", "-e", "/warm"]}},
    )
    shown = told(subject, event("Unhealthy", "Readiness probe failed: ", "c"))
    assert "  it last said: Readiness probe failed: (no output)\n" in shown


def test_a_program_that_ends_without_a_word() -> None:
    last = {"terminated": {"exitCode": 1, "reason": "Error", "finishedAt": ago(20)}}
    shown = told(with_container(pod(waiting("CrashLoopBackOff", restarts=3, last=last))))
    assert "it wrote nothing" in shown and "minikubelet logs" not in shown
    failed = with_container(pod(terminated(1, "Error"), phase="Failed"))
    assert "-> All that it wrote: minikubelet logs web -c c" in told(failed, log=["bad config"])


@pytest.mark.parametrize(
    ("line", "advice"),
    [
        ("wget: bad address 'db:80'", "containers of one pod meet at localhost"),
        ("wget: bad address 'example.com'", "For names outside, check its DNS servers"),
        ("bind(): Address already in use", "Two programs want one port"),
        ("touch: /x: Read-only file system", "mount an emptyDir there"),
        ("open /data/x: Permission denied", "check runAsUser, fsGroup"),
        ("exec format error", "isn't built for this machine's processor"),
        ("bye", "minikubelet logs web -c c"),
    ],
)
def test_what_a_program_wrote_before_it_ended_leads_to_advice(line: str, advice: str) -> None:
    last = {"terminated": {"exitCode": 1, "reason": "Error", "finishedAt": ago(20)}}
    shown = told(with_container(pod(waiting("CrashLoopBackOff", restarts=3, last=last))), log=[line])
    assert advice in shown.partition("->")[2]


@pytest.mark.parametrize(
    ("message", "advice"),
    [
        (
            "config.linux.security_context.seccomp: '/x/nope.json' can't be read: No such file",
            "localhostProfile",
        ),
        ("apparmor: profile nope was asked for, but this host has no AppArmor", "apparmor_parser"),
        ("exec '/app': exec format error (ENOEXEC)", "this machine's processor"),
        ("enter the working directory '/etc/passwd': Not a directory (ENOTDIR)", "Check workingDir"),
        ("this host can't enforce memory.max=1", "--unenforced-limits=allow"),
    ],
)
def test_advice_for_what_cant_be_started_fits_its_message(message: str, advice: str) -> None:
    wrong = waiting("CreateContainerError")
    wrong["state"]["waiting"]["message"] = message
    assert advice in told(with_container(pod(wrong))).partition("->")[2]


@pytest.mark.parametrize(
    ("message", "advice"),
    [
        ('failed to lookup RuntimeClass kata: runtimeclass "kata" not found', "take runtimeClassName out"),
        ("this host can't enforce memory.max=33554432", "--unenforced-limits=allow"),
        ("host port 80/tcp is in use", "choose another hostPort"),
        ("something else", "minikubelet check"),
    ],
)
def test_advice_for_a_sandbox_fits_its_message(message: str, advice: str) -> None:
    subject = pod(phase="Pending", conditions={"PodReadyToStartContainers": "False"})
    shown = told(subject, event("FailedCreatePodSandBox", f"Failed to create pod sandbox: {message}"))
    assert advice in shown.partition("->")[2]


@pytest.mark.parametrize(
    ("reason", "advice"),
    [
        ("NodePorts", "choose another hostPort"),
        ("SysctlForbidden", "--allowed-unsafe-sysctls"),
        ("OutOfhugepages-2Mi", "Lower what the pod requests"),
        ("OutOfephemeral-storage", "free disk space"),
    ],
)
def test_advice_for_a_pod_that_the_node_refuses(reason: str, advice: str) -> None:
    subject = pod(phase="Failed")
    subject["status"] |= {"reason": reason, "message": "Pod was rejected"}
    assert advice in told(subject).partition("->")[2]


@pytest.mark.parametrize(
    ("reason", "message", "advice"),
    [
        ("Evicted", 'Usage of EmptyDir volume "v" exceeds the limit "5Mi". ', "Raise the sizeLimit"),
        (
            "Evicted",
            'Container c exceeded its local ephemeral storage limit "1Mi". ',
            "Raise resources.limits.ephemeral-storage",
        ),
        ("Evicted", "The node was low on resource: memory.", "Give the node more of what was short"),
        ("AppArmor", "Cannot enforce AppArmor: AppArmor is not enabled on the host", "or run this machine"),
        ("AppArmor", 'profile "x" is not loaded', "Load the profile"),
    ],
)
def test_advice_fits_what_the_node_says(reason: str, message: str, advice: str) -> None:
    killed = terminated(137, "Error")
    subject = with_container(pod(killed, phase="Failed"))
    subject["status"] |= {"reason": reason, "message": message}
    shown = told(subject)
    assert advice in shown.partition("->")[2]
    assert "137: it was killed (SIGKILL) because the node ended the pod" in shown


def test_an_init_container_at_work_shows_its_last_lines() -> None:
    first = status("first", running={"startedAt": ago(90)})
    shown = told(pod(waiting("PodInitializing"), init=[first]), log=["waiting for db"])
    assert "| waiting for db" in shown


def resizing(kind: str, reason: str = "", message: str = "", **conditions: str) -> Json:
    subject = pod(running(), conditions=conditions)
    condition = {"type": kind, "status": "True", "reason": reason, "message": message}
    subject["status"]["conditions"].append(condition)
    return subject


@pytest.mark.parametrize(
    ("kind", "reason", "message", "what", "todo"),
    [
        (
            *(
                "PodResizePending",
                "Infeasible",
                "Node didn't have enough capacity: cpu, requested: 9, capacity: 2",
            ),
            *("The node can't give it the resources", "-> Ask for no more than the node has"),
        ),
        (
            *("PodResizePending", "Infeasible"),
            'Resize is infeasible for Guaranteed Pods alongside CPU Manager policy "static"',
            *("The node can't give it the resources", "-> Delete the pod and apply it again"),
        ),
        (
            *("PodResizePending", "Deferred", "Node didn't have enough resource: cpu, requested: 9, used: 1"),
            *("have to wait for room", "-> Remove other pods or lower what they request"),
        ),
        (
            *("PodResizeInProgress", "Error", "this host can't enforce memory limits"),
            *("can't be brought to its containers", "--unenforced-limits=allow"),
        ),
        ("PodResizeInProgress", "Error", "some trouble", "can't be brought", "-> Correct the resources"),
        ("PodResizeInProgress", "", "", "on their way to its containers", ""),
    ],
)
def test_other_resources(kind: str, reason: str, message: str, what: str, todo: str) -> None:
    ready = told(resizing(kind, reason, message, Ready="True"))
    assert ready.startswith("Pod web is Ready")
    for shown in (ready, told(resizing(kind, reason, message, Ready="False"))):
        assert what in shown and message in shown and todo in shown
    assert "it is on its way" in told(resizing(kind, reason, message, Ready="False"))


def test_resources_that_have_arrived() -> None:
    subject = resizing("PodResizePending", "Deferred", "x", Ready="True")
    subject["status"]["conditions"][-1]["status"] = "False"
    assert told(subject).count("\n") == 1
