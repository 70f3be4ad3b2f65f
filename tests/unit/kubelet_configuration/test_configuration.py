"""KubeletConfiguration: files, drop-ins, flags, who wins, and what is said about the rest."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from minikubelet.cli.commands import daemon as daemon_command
from minikubelet.cli.commands import kubelet as kubelet_command
from minikubelet.kubelet.config import KubeletConfig
from minikubelet.kubelet.configuration import flags
from minikubelet.kubelet.configuration.apply import shown
from minikubelet.kubelet.configuration.kinds import go_duration, seconds
from minikubelet.kubelet.configuration.table import BY_FLAG, BY_PATH, FIELDS
from minikubelet.kubelet.resource_config import DEFAULT_EVICTION_HARD
from tests.unit.kubelet_configuration import upstream
from tests.unit.kubelet_configuration.conftest import HEAD, Machine

DOCS = Path(__file__).resolve().parents[3] / "docs" / "kubelet-configuration.md"


def value_of(config: KubeletConfig, attribute: str) -> Any:
    target: Any = config
    for name in attribute.split("."):
        target = getattr(target, name)
    return target


def test_the_table_knows_every_field_and_flag_of_upstream() -> None:
    assert sorted(BY_PATH) == sorted(upstream.FIELDS)
    assert len(FIELDS) == len(BY_PATH)
    known = {*BY_FLAG, *(each.name for each in flags.OWN)}
    assert set(upstream.FLAGS) <= known
    for field in FIELDS:
        assert field.to or field.note, f"{field.path}: say why it has no effect"
        value_of(KubeletConfig(), field.to or "root")


def test_every_default_is_a_value_that_the_field_may_have(machine: Machine) -> None:
    for field in FIELDS:
        assert field.default is None or not field.kind.check(field.default), field.path
    plain, nothing = machine.start(), KubeletConfig()
    for field in FIELDS:
        if field.to:
            assert value_of(plain, field.to) == value_of(nothing, field.to), field.path


def test_flags_win_over_drop_ins_and_these_over_the_file(machine: Machine) -> None:
    machine.write("maxPods: 10\npodsPerCore: 1\nclusterDNS: [10.0.0.1, 10.0.0.2]\nclusterDomain: file\n")
    machine.write("maxPods: 20\nclusterDNS: [10.0.0.3]\nclusterDomain: first\n", "10-a.conf")
    machine.write("clusterDomain: second\n", "20-b.conf")
    machine.write("clusterDomain: never\n", "30-c.yaml")
    machine.write("clusterDomain: nested\n", "15-sub/x.conf")
    config = machine.start("--max-pods=30")
    assert config.resources.reserved.max_pods == 30
    assert config.resources.reserved.pods_per_core == 1
    assert config.cluster_dns == ["10.0.0.3"]  # lists are replaced
    assert config.cluster_domain == "second"
    assert machine.warnings == []


def test_mappings_of_drop_ins_are_merged_and_null_takes_back(machine: Machine) -> None:
    machine.write(
        "systemReserved: {cpu: 100m, memory: 1Gi}\nmaxPods: 7\nauthentication: {x509: {clientCAFile: /ca}}\n"
    )
    machine.write("systemReserved: {cpu: 200m, memory: null, pid: '5'}\n", "1.conf")
    machine.write("maxPods: null\nauthentication: {anonymous: {enabled: true}}\n", "2.conf")
    config = machine.start("--system-reserved=ephemeral-storage=1Gi")
    assert config.resources.reserved.system_reserved == {
        "cpu": "200m",
        "pid": "5",
        "ephemeral-storage": "1Gi",
    }
    assert config.resources.reserved.max_pods == 110
    assert config.server.client_ca_file == "/ca"
    assert config.server.anonymous


def test_what_a_file_says_arrives(machine: Machine) -> None:
    machine.write(
        """
staticPodURL: https://example.org/pods
staticPodURLHeader: {X-Key: [a, b]}
httpCheckFrequency: 1m30s
evictionHard: {memory.available: 5%}
evictionSoft: {memory.available: 10%}
evictionSoftGracePeriod: {memory.available: 1m}
shutdownGracePeriodByPodPriority:
- {priority: 1000, shutdownGracePeriodSeconds: 30}
- {shutdownGracePeriodSeconds: 5}
crashLoopBackOff: {maxContainerRestartPeriod: 5s}
memorySwap: {swapBehavior: LimitedSwap}
featureGates: {MemoryQoS: true}
cpuCFSQuotaPeriod: 5ms
readOnlyPort: 10255
enableDebuggingHandlers: false
"""
    )
    config = machine.start()
    assert config.static_pod_url_header == {"X-Key": ["a", "b"]}
    assert config.http_check_frequency == 90
    assert config.resources.eviction.hard == {"memory.available": "5%"}
    assert config.resources.eviction.soft_grace_period == {"memory.available": 60}
    assert config.resources.shutdown.by_priority == {1000: 30, 0: 5}
    assert (config.backoff_initial, config.backoff_max) == (5, 5)
    assert config.resources.cgroups.swap_behavior == "LimitedSwap"
    assert config.resources.cgroups.memory_qos
    assert config.resources.cgroups.cpu_cfs_quota_period == 0.005
    assert (config.server.read_only_port, config.server.debugging_handlers) == (10255, False)
    assert machine.warnings == []
    effective = shown(config)
    assert effective["staticPodURLHeader"] == {"X-Key": ["<hidden>"]}
    assert effective["httpCheckFrequency"] == "1m30s"
    assert effective["imageGCHighThresholdPercent"] == 85
    json.dumps(effective)


def test_paths_are_seen_from_their_file(machine: Machine) -> None:
    machine.write(
        "staticPodPath: pods\npodLogsDir: /logs\nauthentication: {x509: {clientCAFile: pki/ca.pem}}\n"
    )
    machine.write("resolvConf: resolv.conf\nstaticPodPath: ''\n", "1.conf")
    config = machine.start()
    assert config.manifests == ""
    assert config.log_dir == "/logs"
    assert config.server.client_ca_file == f"{machine.folder}/pki/ca.pem"
    assert config.resolv_conf == f"{machine.drop_ins}/resolv.conf"


def test_thresholds_replace_the_defaults_unless_they_are_to_be_merged(machine: Machine) -> None:
    machine.write("evictionHard: {memory.available: 1Gi}\nmergeDefaultEvictionSettings: true\n")
    assert machine.start().resources.eviction.hard == {**DEFAULT_EVICTION_HARD, "memory.available": "1Gi"}
    assert machine.start(
        "--eviction-hard=nodefs.available<5%,memory.available<2Gi"
    ).resources.eviction.hard == {
        **DEFAULT_EVICTION_HARD,
        "nodefs.available": "5%",
        "memory.available": "2Gi",
    }


KUBEADM = """
authentication: {anonymous: {enabled: false}, webhook: {cacheTTL: 0s, enabled: false}, x509: {}}
authorization: {mode: "", webhook: {cacheAuthorizedTTL: 0s, cacheUnauthorizedTTL: 0s}}
cgroupDriver: systemd
clusterDNS: [10.96.0.10]
clusterDomain: cluster.local
containerRuntimeEndpoint: ""
cpuManagerReconcilePeriod: 0s
crashLoopBackOff: {}
evictionPressureTransitionPeriod: 0s
fileCheckFrequency: 0s
healthzBindAddress: 127.0.0.1
healthzPort: 10248
httpCheckFrequency: 0s
imageMaximumGCAge: 0s
imageMinimumGCAge: 0s
memorySwap: {}
nodeStatusReportFrequency: 0s
nodeStatusUpdateFrequency: 0s
rotateCertificates: false
runtimeRequestTimeout: 0s
shutdownGracePeriod: 0s
shutdownGracePeriodCriticalPods: 0s
staticPodPath: /etc/kubernetes/manifests
streamingConnectionIdleTimeout: 0s
syncFrequency: 0s
volumeStatsAggPeriod: 0s
"""


def test_the_zeros_that_kubeadm_writes_are_defaults(machine: Machine) -> None:
    machine.write(KUBEADM)
    config, plain = machine.start("--container-runtime-endpoint=unix:///run/x.sock"), KubeletConfig()
    assert [each.partition(": ")[2] for each in machine.warnings] == [
        "cgroupDriver has no effect: the runtime's business"
    ]
    assert config.manifests == "/etc/kubernetes/manifests"
    assert config.file_check_frequency == config.http_check_frequency == plain.http_check_frequency == 20
    assert (config.runtime_request_timeout, config.volume_stats_period) == (120, 60)
    assert config.server.streaming_idle_timeout == 4 * 3600
    assert config.resources.eviction.pressure_transition_period == 300
    assert config.resources.garbage.image_minimum_age == 120
    assert config.resources.devices.cpu_manager_reconcile_period == 10
    assert shown(config)["fileCheckFrequency"] == "20s"
    # Said on the command line they are meant.
    assert machine.start("--volume-stats-agg-period=0s").volume_stats_period == 0
    assert "fileCheckFrequency: must be more than 0s" in machine.refusal("--file-check-frequency=0s")


def test_json_is_fine_too(machine: Machine) -> None:
    machine.file.write_text(
        json.dumps(
            {"kind": "KubeletConfiguration", "apiVersion": "kubelet.config.k8s.io/v1beta1", "maxPods": 9}
        )
    )
    assert machine.start().resources.reserved.max_pods == 9


def test_what_has_no_effect_is_named_once_and_only_if_it_asks_for_something(machine: Machine) -> None:
    machine.write("nodeLeaseDurationSeconds: 40\nregistryPullQPS: 1\nfeatureGates: {Fancy: true}\n")
    machine.start(
        "--node-labels=a=b", "--pod-infra-container-image=pause", "-v", "4", "--cgroup-driver=systemd"
    )
    assert [warning.replace(str(machine.folder), "") for warning in machine.warnings] == [
        "/config.yaml: registryPullQPS has no effect: there is no rate limit",
        "--cgroup-driver: cgroupDriver has no effect: the runtime's business",
        "/config.yaml: featureGates.Fancy has no effect",
        "--node-labels has no effect: there is no Node object without an API server",
        "--pod-infra-container-image has no effect: the runtime chooses its pause program",
        "--v has no effect: --log-level sets what is logged",
    ]


def test_the_flags_of_kubeadm(machine: Machine) -> None:
    config = machine.start(
        "--container-runtime-endpoint=unix:///run/containerd/containerd.sock",
        "--hostname-override=Node-7",
        "--node-ip=192.0.2.7,2001:db8::7",
        "--register-with-taints=node-role.kubernetes.io/control-plane=:NoSchedule",
        "--anonymous-auth=false",
        "--fail-swap-on=false",
        "--pod-max-pids",
        "100",
        "--manifest-url-header=X-A:1,X-B:2",
        "--seccomp-default",
    )
    assert config.container_runtime_endpoint == "unix:///run/containerd/containerd.sock"
    assert (config.node_name, config.node_ip) == ("node-7", "192.0.2.7,2001:db8::7")
    assert config.resources.cgroups.pod_pids_limit == 100
    assert config.static_pod_url_header == {"X-A": ["1"], "X-B": ["2"]}
    assert config.seccomp_default
    for flag in (
        "--bootstrap-kubeconfig=/etc/kubernetes/bootstrap.conf",
        "--kubeconfig=/etc/kubernetes/k.conf",
    ):
        assert "needs an API server" in machine.refusal(flag)


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("--max-pods=many", "--max-pods: 'many' is not a whole number"),
        ("--anonymous-auth=perhaps", "--anonymous-auth: 'perhaps' is neither true nor false"),
        ("--sync-frequency=5", "--sync-frequency: '5' is not a duration"),
        ("--system-reserved=cpu", "--system-reserved: 'cpu' is not KEY=VALUE"),
        ("--register-with-taints=a=b", "is not KEY=VALUE:EFFECT"),
        ("--node-ip=localhost", "--node-ip: 'localhost' is not an IP address"),
        ("--memory-manager-policy=Static", "'Static' is refused: not implemented"),
    ],
)
def test_broken_flags_are_named(machine: Machine, word: str, message: str) -> None:
    assert message in machine.refusal(word)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("20s", 20),
        ("1h30m", 5400),
        ("1.5s", 1.5),
        ("100ms", 0.1),
        ("0", 0),
        ("0s", 0),
        ("-5s", -5),
        ("1m1s", 61),
    ],
)
def test_durations(text: str, value: float) -> None:
    assert seconds(text) == value
    assert seconds(go_duration(value)) == value


def test_durations_as_go_prints_them() -> None:
    assert [go_duration(value) for value in (0, 0.1, 20, 60, 90, 5400, 14400, 0.005)] == (
        ["0s", "100ms", "20s", "1m0s", "1m30s", "1h30m0s", "4h0m0s", "5ms"]
    )


def test_both_commands_take_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(daemon_command, "CONFIG", str(tmp_path / "none"))
    file = tmp_path / "kubelet.yaml"
    file.write_text(HEAD + "maxPods: 5\nstaticPodPath: /srv/pods\nport: 1234\n")
    words = ["--config", str(file), "--max-pods", "6"]
    args = kubelet_command.parser().parse_args([*words, "--container-runtime-endpoint", "/run/x.sock"])
    config, warnings = kubelet_command.configure(args)
    assert (config.resources.reserved.max_pods, config.manifests, warnings) == (6, "/srv/pods", [])
    assert (config.server.port, config.server.port_given, config.server.healthz_port) == (1234, True, 10248)
    assert not config.server.healthz_port_given
    for option in ("--config", "--kubelet-config"):
        args = daemon_command.parser().parse_args(
            [option, str(file), "--root", str(tmp_path), "--max-pods", "6"]
        )
        settings = daemon_command.configure(args)
        config, warnings = daemon_command.configure_kubelet(args, settings)
        assert (config.resources.reserved.max_pods, config.manifests, warnings) == (6, "/srv/pods", [])
        assert config.container_runtime_endpoint == settings.listen
        assert config.root == f"{tmp_path}/kubelet"
    args = daemon_command.parser().parse_args(["--root", str(tmp_path), "--manifests", "/m"])
    config, _ = daemon_command.configure_kubelet(args, daemon_command.configure(args))
    assert (config.manifests, config.server.port, config.server.port_given) == ("/m", 10250, False)


def test_the_documentation_tells_of_every_field() -> None:
    text = DOCS.read_text()
    rows = {field.path: field for field in FIELDS if f"| `{field.path}` | {field.support} |" in text}
    assert sorted(BY_PATH.keys() - rows.keys()) == []
