"""KubeletConfiguration: what is wrong in files and flags is named."""

from __future__ import annotations

import pytest

from tests.unit.kubelet_configuration.conftest import HEAD, Machine


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("maxPod: 3", 'config.yaml:3: maxPod: unknown field (did you mean "maxPods"?)'),
        ("authentication: {x509: {caFile: /x}}", "config.yaml:3: authentication.x509.caFile: unknown field"),
        ("maxPods: '3'", "config.yaml:3: maxPods: expected a whole number, got '3'"),
        ("maxPods: true", "maxPods: expected a whole number, got True"),
        ("syncFrequency: 10", "syncFrequency: expected a duration like 30s, got 10"),
        ("syncFrequency: 10 s", "'10 s' is not a duration"),
        ("authentication: 3", "authentication: expected a mapping, got 3"),
        ("systemReserved: {cpu: 1}", "systemReserved: expected a mapping of strings to strings"),
        ("maxPods: 1\nmaxPods: 2", "appears twice"),
        ("--- {}\n", "2 documents"),
        ("maxPods: [", "not valid YAML"),
        ("authorization: {mode: Webhook}", "'Webhook' is refused: Webhook needs an API server"),
        ("authentication: {webhook: {enabled: true}}", "needs an API server"),
        ("serverTLSBootstrap: true", "needs an API server"),
        ("port: 70000", "port: 70000 is not a port"),
        ("address: nowhere", "address: 'nowhere' is not an IP address"),
        ("tlsCertFile: /x", "belong together"),
        ("tlsMinVersion: VersionTLS10", "VersionTLS12 or VersionTLS13"),
        ("staticPodURL: ftp://x", "is not an http or https URL"),
        ("httpCheckFrequency: -1s", "must be more than 0s"),
        ("crashLoopBackOff: {maxContainerRestartPeriod: 301s}", "must be between 1s and 300s"),
    ],
)
def test_what_is_wrong_is_named(machine: Machine, text: str, words: str) -> None:
    machine.write(text)
    assert words in machine.refusal()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("cpuManagerPolicy: statik", "config.yaml: cpuManagerPolicy: 'statik' is none of none, static"),
        ("cpuManagerPolicyOptions: {full-pcpus: 'true'}", "'full-pcpus' is none of full-pcpus-only, "),
        (
            "cpuManagerPolicyOptions: {full-pcpus-only: maybe}",
            "cpuManagerPolicyOptions: full-pcpus-only: 'maybe' is neither true nor false",
        ),
        ("cpuManagerPolicyOptions: {full-pcpus-only: 'true'}", "cpuManagerPolicy none takes no options"),
        (
            "cpuManagerPolicy: static\ncpuManagerPolicyOptions: {align-by-socket: 'true'}",
            "cpuManagerPolicyOptions.align-by-socket: not implemented",
        ),
        ("memorySwap: {swapBehavior: Limited}", "memorySwap.swapBehavior: 'Limited' is none of NoSwap"),
        ("memoryReservationPolicy: Some", "memoryReservationPolicy: 'Some' is none of None"),
        ("memoryReservationPolicy: TieredReservation", "needs the feature gate MemoryQoS"),
        ("memoryThrottlingFactor: 1.5", "memoryThrottlingFactor: must be greater than 0 and at most 1"),
        ("memoryThrottlingFactor: 0.0", "memoryThrottlingFactor: must be greater than 0 and at most 1"),
        ("cpuCFSQuotaPeriod: 2s", "cpuCFSQuotaPeriod: must be between 1ms and 1s"),
        ("enforceNodeAllocatable: [pod]", "enforceNodeAllocatable: 'pod' is none of pods, "),
        ("enforceNodeAllocatable: [pods, pods]", "twice"),
        ("enforceNodeAllocatable: [none, pods]", "something beside none"),
        ("systemReserved: {memory: 1X}", "config.yaml: systemReserved.memory: "),
        ("kubeReserved: {cpu: '-1'}", "kubeReserved.cpu: '-1' must not be negative"),
        ("kubeReserved: {memori: 1Gi}", "kubeReserved: 'memori' is none of cpu, memory, "),
        ("reservedSystemCPUs: 3-1", "reservedSystemCPUs: '3-1' is no list of CPUs"),
        ("maxPods: -1", "maxPods: must not be negative"),
        ("podsPerCore: -1", "podsPerCore: must not be negative"),
        ("evictionHard: {memory.avail: 1Gi}", "evictionHard: 'memory.avail' is none of memory.available"),
        ("evictionHard: {memory.available: 101%}", "evictionHard.memory.available: '101%' is neither"),
        ("evictionHard: {memory.available: -1Gi}", "evictionHard.memory.available: '-1Gi' is neither"),
        ("evictionSoft: {pid.available: 5%}", "evictionSoft.pid.available: needs an evictionSoftGracePeriod"),
        ("evictionSoftGracePeriod: {pid.free: 5s}", "evictionSoftGracePeriod: 'pid.free' is none of"),
        ("evictionMinimumReclaim: {nodefs.available: much}", "evictionMinimumReclaim.nodefs.available"),
        ("imageGCHighThresholdPercent: 101", "imageGCHighThresholdPercent: 101 is not between 0 and 100"),
        ("imageGCHighThresholdPercent: 70", "imageGCLowThresholdPercent: 80 must be less than"),
        ("evictionHard: {memory.available: '0'}", "evictionHard.memory.available: '0' must be positive"),
        (
            "enableSystemLogQuery: true\nenableSystemLogHandler: false",
            "enableSystemLogQuery: enableSystemLogHandler is required for it",
        ),
        ("runtimeRequestTimeout: -1s", "runtimeRequestTimeout: must be more than 0s"),
        ("maxParallelImagePulls: -1", "maxParallelImagePulls: must be a positive number"),
        (
            "enforceNodeAllocatable: [pods, system-reserved-compressible]",
            "systemReservedCgroup: must be said with system-reserved in enforceNodeAllocatable",
        ),
        (
            "kubeReservedCgroup: /kube\nreservedSystemCPUs: '0'",
            "kubeReservedCgroup: can't be used with reservedSystemCPUs",
        ),
        (
            "maxParallelImagePulls: 2\nserializeImagePulls: true",
            "maxParallelImagePulls: cannot be larger than 1 with serializeImagePulls",
        ),
        (
            "imagePullCredentialsVerificationPolicy: Sometimes",
            "imagePullCredentialsVerificationPolicy: 'Sometimes' is none of NeverVerify",
        ),
        (
            "preloadedImagesVerificationAllowlist: [a.example/x]",
            "needs imagePullCredentialsVerificationPolicy NeverVerifyAllowlistedImages",
        ),
        (
            "imagePullCredentialsVerificationPolicy: NeverVerifyAllowlistedImages\n"
            "preloadedImagesVerificationAllowlist: ['a.example/*/x']",
            "'a.example/*/x' is neither an image's name nor the beginning of one",
        ),
        (
            "imagePullCredentialsVerificationPolicy: NeverVerifyAllowlistedImages\n"
            "preloadedImagesVerificationAllowlist: ['a.example/x:1']",
            "'a.example/x:1': neither tag nor digest is accepted",
        ),
        ("imageMaximumGCAge: 1m", "imageMaximumGCAge: must be 0s, or greater than imageMinimumGCAge"),
        ("imageMinimumGCAge: -1s", "imageMinimumGCAge: must not be negative"),
        ("containerLogMaxSize: big", "containerLogMaxSize: "),
        ("containerLogMaxFiles: 1", "containerLogMaxFiles: must be greater than 1"),
        (
            "enforceNodeAllocatable: [pods, kube-reserved, kube-reserved-compressible]",
            "enforceNodeAllocatable: kube-reserved and kube-reserved-compressible exclude each other",
        ),
        ("qosReserved: {memory: '50'}", "qosReserved.memory: is not a percentage from 0% to 100%"),
        ("qosReserved: {memory: 101%}", "qosReserved.memory: is not a percentage from 0% to 100%"),
        ("qosReserved: {cpu: 50%}", "qosReserved: 'cpu' is none of memory"),
        ("userNamespaces: {idsPerPod: 70000}", "userNamespaces.idsPerPod: 70000 is not a multiple of 65536"),
        ("userNamespaces: {idsPerPod: 0}", "userNamespaces.idsPerPod: 0 is not a multiple of 65536"),
        ("containerLogMonitorInterval: 1s", "containerLogMonitorInterval: must be at least 3s"),
        ("podLogsDir: /var/log/../pods", "podLogsDir: '/var/log/../pods' is not an absolute"),
        ("shutdownGracePeriod: 500ms", "shutdownGracePeriod: must be 0s, or at least 1s"),
        ("shutdownGracePeriodCriticalPods: 9s", "must not be longer than shutdownGracePeriod"),
        (
            "shutdownGracePeriod: 9s\n"
            "shutdownGracePeriodByPodPriority: [{priority: 0, shutdownGracePeriodSeconds: 9}]",
            "shutdownGracePeriodByPodPriority: excludes shutdownGracePeriod",
        ),
        (
            "shutdownGracePeriodByPodPriority: [{priority: 0}, {prio: 1}]",
            "shutdownGracePeriodByPodPriority: [1].prio: unknown field",
        ),
        (
            "shutdownGracePeriodByPodPriority: [{shutdownGracePeriodSeconds: 9s}]",
            "[0].shutdownGracePeriodSeconds: expected a whole number, got '9s'",
        ),
    ],
)
def test_what_is_out_of_bounds_is_refused_as_by_upstream(machine: Machine, text: str, words: str) -> None:
    machine.write(text)
    assert words in machine.refusal()


def test_options_of_the_cpu_manager(machine: Machine) -> None:
    machine.write(
        "cpuManagerPolicy: static\n"
        "cpuManagerPolicyOptions: {full-pcpus-only: 'true', align-by-socket: 'false'}\n"
    )
    options = {"full-pcpus-only": True, "align-by-socket": False}
    assert machine.start().resources.devices.cpu_manager_policy_options == options


def test_what_is_out_of_bounds_is_told_at_once(machine: Machine) -> None:
    machine.write("maxPods: -1\nmemoryThrottlingFactor: 2.0\n")
    assert [part.split(": ")[1] for part in machine.refusal().split("; ")] == [
        "memoryThrottlingFactor",
        "maxPods",
    ]


def test_all_problems_of_a_file_are_told_at_once(machine: Machine) -> None:
    machine.write("a: 1\nmaxPods: x\nb: 2\n")
    assert [part.split(": ")[1] for part in machine.refusal().split("; ")] == ["a", "maxPods", "b"]


@pytest.mark.parametrize(
    "head", ["", "kind: Pod\napiVersion: v1\n", HEAD.replace("v1beta1", "v1"), "[]", "7"]
)
def test_other_documents_are_refused(machine: Machine, head: str) -> None:
    machine.file.write_text(head or "maxPods: 3\n")
    assert str(machine.file) in machine.refusal()
