"""Quantities, resources, environment, security, hosts files: values in, values out."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from minikubelet.criapi import api_pb2 as api
from minikubelet.kubelet import podfiles
from minikubelet.kubelet.backoff import Backoff, spell
from minikubelet.kubelet.config import KubeletConfig
from minikubelet.kubelet.cri_config import expand_sub_path, sandbox_config
from minikubelet.kubelet.environment import (
    ContainerConfigError,
    Known,
    PodAddresses,
    format_map,
    make_environment,
    pod_field,
    resource_field,
)
from minikubelet.kubelet.expansion import expand
from minikubelet.kubelet.lookups import ConfigMapContent, NoLookups, SecretContent
from minikubelet.kubelet.objects.quantity import canonical, milli, parse, whole
from minikubelet.kubelet.objects.volumes import ResourceFieldSelector
from minikubelet.kubelet.probes.execs import expand_static
from minikubelet.kubelet.resources import (
    hugepage_limits,
    linux_resources,
    oom_score_adj,
    qos_class,
    quota,
    shares,
)
from minikubelet.kubelet.security import (
    app_armor_refusal,
    container_security,
    sandbox_security,
    throttles,
)
from minikubelet.linux import apparmor
from minikubelet.linux.cgroup import hugetlb
from tests.unit.kubelet.plain import app_of, pod_of


@pytest.mark.parametrize(
    ("quantity", "value"),
    [
        ("1", 1),
        ("500m", 0.5),
        ("1.5Gi", 1.5 * 2**30),
        ("1e3", 1000),
        ("2E", 2 * 10**18),
        (".5", 0.5),
        ("-1k", -1000),
        (3, 3),
        ("1Ei", 2**60),
    ],
)
def test_quantities(quantity: str | int, value: float) -> None:
    assert parse(quantity) == value


@pytest.mark.parametrize("text", ["", "one", "1KB", "1 Gi", "0x10", "1e", "--1", "nan", "1" * 100, "1e9999"])
def test_what_is_no_quantity(text: str) -> None:
    with pytest.raises(ValueError, match="is not a quantity"):
        parse(text)


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("0.05", "50m"),
        (1.0, "1"),
        ("1000m", "1"),
        ("1.5Mi", "1536Ki"),
        (" 1.5Mi ", "1536Ki"),
        ("1024Ki", "1Mi"),
        ("0.5Ki", "512"),
        ("1.0001Ki", "1024102400u"),
        ("100000000", "100M"),
        ("1e8", "100e6"),
        ("1E3", "1e3"),
        ("12E", "12E"),
        ("1000E", "1000E"),
        ("0.1n", "1n"),
        ("-2000", "-2k"),
        ("0Gi", "0"),
    ],
)
def test_quantities_are_shown_in_one_way(written: str | float, shown: str) -> None:
    assert canonical(written) == shown
    assert canonical(shown) == shown


def test_quantities_round_up() -> None:
    assert (whole("100m"), whole("1Ki"), milli("1u"), milli("1.0005")) == (1, 1024, 1, 1001)


@pytest.mark.parametrize(
    ("resources", "expected"),
    [
        ({}, "BestEffort"),
        ({"requests": {"cpu": "1"}}, "Burstable"),
        ({"limits": {"memory": "1Gi"}}, "Burstable"),
        ({"limits": {"cpu": "1", "memory": "1Gi"}}, "Guaranteed"),
        ({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "500m"}}, "Burstable"),
        (
            {"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "1000m", "memory": "1024Mi"}},
            "Guaranteed",
        ),
        ({"limits": {"ephemeral-storage": "1Gi"}}, "BestEffort"),
    ],
)
def test_qos_classes(resources: dict[str, Any], expected: str) -> None:
    assert qos_class(app_of(resources=resources)) == expected


def test_cpu_and_memory_in_cri() -> None:
    pod = app_of(
        resources={
            "limits": {"cpu": "1500m", "memory": "64Mi", "hugepages-2Mi": "4Mi"},
            "requests": {"cpu": "250m"},
        }
    )
    made = linux_resources(pod, pod.spec.containers[0])
    assert (made.cpu_shares, made.cpu_quota, made.cpu_period) == (256, 150000, 100000)
    assert made.memory_limit_in_bytes == 64 * 2**20
    assert ("2MB", 4 * 2**20) in [(h.page_size, h.limit) for h in made.hugepage_limits]
    assert (shares(0), shares(1), shares(10**9), quota(0), quota(1)) == (2, 2, 262144, 0, 1000)


def test_amounts_are_rounded_up_to_thousandths() -> None:
    given = {"limits": {"cpu": "0.0335", "memory": "1.5Mi", "ephemeral-storage": "0.00001"}}
    pod = app_of(resources=given)
    shown = {"cpu": "34m", "memory": "1536Ki", "ephemeral-storage": "1m"}
    assert pod.spec.containers[0].resources.requests == shown


@pytest.mark.parametrize(
    ("whole", "container", "expected"),
    [
        # what the containers request together, else as much as the limit
        (
            {"limits": {"cpu": "1", "memory": "64Mi"}},
            {"requests": {"memory": "16Mi"}},
            ({"cpu": "1", "memory": "64Mi"}, {"cpu": "1", "memory": "16Mi"}),
        ),
        (
            {"limits": {"memory": "64Mi"}, "requests": {"memory": "32Mi"}},
            {"requests": {"cpu": "20m", "memory": "16Mi"}},
            ({"memory": "64Mi"}, {"cpu": "20m", "memory": "32Mi"}),
        ),
        ({"requests": {"cpu": "1"}}, {"requests": {"memory": "16Mi"}}, ({}, {"cpu": "1"})),
        # huge pages: limits and requests are one
        (
            {"requests": {"memory": "32Mi"}},
            {"limits": {"hugepages-2Mi": "2Mi"}},
            ({"hugepages-2Mi": "2Mi"}, {"memory": "32Mi", "hugepages-2Mi": "2Mi"}),
        ),
        (
            {"limits": {"hugepages-2Mi": "6Mi"}},
            {"limits": {"hugepages-2Mi": "2Mi"}},
            ({"hugepages-2Mi": "6Mi"}, {"hugepages-2Mi": "6Mi"}),
        ),
        ({}, {"limits": {"hugepages-2Mi": "2Mi"}}, ({}, {})),
    ],
)
def test_requests_of_the_whole_pod(
    whole: dict[str, Any], container: dict[str, Any], expected: tuple[dict[str, str], dict[str, str]]
) -> None:
    pod = pod_of({"resources": whole, "containers": [{"name": "a", "image": "a:1", "resources": container}]})
    assert pod.spec.resources is not None
    assert (pod.spec.resources.limits, pod.spec.resources.requests) == expected


def test_a_limit_of_the_whole_pod_counts_for_its_oom_score() -> None:
    pod = pod_of({"resources": {"limits": {"memory": "1Gi"}}})
    assert oom_score_adj(pod, pod.spec.containers[0], 4 << 30) == 750


def test_who_has_not_asked_for_huge_pages_gets_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hugetlb, "page_sizes", lambda: ["2MB", "1GB"])
    asked = {"limits": {"cpu": "1", "memory": "1Gi", "hugepages-2Mi": "4Mi"}}
    for resources, limit in ((asked, 4 * 2**20), ({}, 0)):
        pod = app_of(resources=resources)
        made = linux_resources(pod, pod.spec.containers[0]).hugepage_limits
        assert [(h.page_size, h.limit) for h in made] == [("2MB", limit), ("1GB", 0)]
        assert hugepage_limits(pod) == [("2MB", limit), ("1GB", 0)]


@pytest.mark.parametrize(
    ("resources", "expected"),
    [
        ({}, 1000),
        ({"limits": {"cpu": "1", "memory": "1Gi"}}, -997),
        ({"requests": {"memory": "1Gi"}}, 750),
        ({"requests": {"cpu": "1"}}, 999),
        ({"requests": {"memory": "4Gi"}}, 3),
    ],
)
def test_oom_scores(resources: dict[str, Any], expected: int) -> None:
    pod = app_of(resources=resources)
    assert oom_score_adj(pod, pod.spec.containers[0], 4 * 2**30) == expected


def test_expansion() -> None:
    known = {"A": "1", "B": "$(A)"}
    assert expand("$(A) $(B) $(C) $$(A) $$$(A) $A $( $(A", known) == "1 $(A) $(C) $(A) $1 $A $( $(A"
    # A name ends at the first closing bracket.
    assert expand("$($(A)) $(x(A) $()", known) == "$($(A)) $(x(A) $()"


def test_probes_know_the_values_of_the_manifest_only() -> None:
    env = [{"name": "A", "value": "$(B)"}, {"name": "F", "valueFrom": {"fieldRef": {"fieldPath": "x"}}}]
    container = app_of(env=env).spec.containers[0]
    words = ["$(A)", "<$(F)>", "$$(A)", "$(NONE)"]
    assert expand_static(words, container) == ["$(B)", "<>", "$(A)", "$(NONE)"]


@pytest.mark.parametrize("expression", ["$(NONE)", "a/$(EMPTY)", "$(FULL)/$(EMPTY)/$(NONE)"])
def test_a_sub_path_needs_all_its_variables(expression: str) -> None:
    with pytest.raises(ContainerConfigError, match=r"^missing value for (EMPTY, )?(NONE|EMPTY)$"):
        expand_sub_path(expression, {"FULL": "x", "EMPTY": ""})


def test_sub_paths_are_expanded() -> None:
    assert expand_sub_path("a/$(FULL)$$(X)", {"FULL": "$(Y)"}) == "a/$(Y)$(X)"


class Objects(NoLookups):
    async def config_map(self, namespace: str, name: str) -> ConfigMapContent | None:
        found = ConfigMapContent({"level": "debug", "x": "y"}, {"raw": b"\0"})
        return found if (namespace, name) == ("ns", "settings") else None

    async def secret(self, namespace: str, name: str) -> SecretContent | None:
        return SecretContent(data={"token": b"t", "raw": b"\xff"}) if name == "keys" else None


async def test_environment_from_objects() -> None:
    pod = app_of(
        envFrom=[
            {"prefix": "CM_", "configMapRef": {"name": "settings"}},
            {"secretRef": {"name": "no", "optional": True}},
        ],
        env=[
            {"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "keys", "key": "token"}}},
            {"name": "MAYBE", "valueFrom": {"secretKeyRef": {"name": "keys", "key": "no", "optional": True}}},
            {"name": "RAW", "valueFrom": {"secretKeyRef": {"name": "keys", "key": "raw"}}},
            {"name": "BOTH", "value": "$(CM_level)/$(TOKEN)/$(MAYBE)"},
        ],
    )
    made = await make_environment(pod, pod.spec.containers[0], Known(Objects()))
    both = {"TOKEN": "t", "RAW": "\udcff", "BOTH": "debug/t/$(MAYBE)"}
    assert made == {"CM_level": "debug", "CM_x": "y", **both}


@pytest.mark.parametrize(
    ("env", "message"),
    [
        ({"valueFrom": {"configMapKeyRef": {"name": "no", "key": "a"}}}, 'configmap "no" not found'),
        (
            {"valueFrom": {"secretKeyRef": {"name": "keys", "key": "a"}}},
            "couldn't find key a in Secret ns/keys",
        ),
        ({"valueFrom": {"fieldRef": {"fieldPath": "spec.x"}}}, "unsupported fieldPath: spec.x"),
    ],
)
async def test_references_that_lead_nowhere(env: dict[str, Any], message: str) -> None:
    pod = app_of(env=[{"name": "X", **env}])
    with pytest.raises(ContainerConfigError, match=message):
        await make_environment(pod, pod.spec.containers[0], Known(Objects()))


def test_downward_api_fields() -> None:
    pod = pod_of({"nodeName": "n"}, labels={"a": "1", "b": 'q"\n'}, annotations={"k/x": "v"})
    known = PodAddresses(("10.0.0.1", "fd00::1"), ("192.0.2.1",))
    fields = {
        "metadata.name": "web",
        "metadata.uid": "u1",
        "metadata.labels['a']": "1",
        "metadata.annotations['k/x']": "v",
        "metadata.labels['none']": "",
        "status.podIP": "10.0.0.1",
        "status.podIPs": "10.0.0.1,fd00::1",
        "status.hostIP": "192.0.2.1",
        "spec.nodeName": "n",
    }
    assert {path: pod_field(pod, path, known) for path in fields} == fields
    assert format_map(pod.metadata.labels) == 'a="1"\nb="q\\"\\n"'
    odd = {"a": "\x00\x1b\x7f\a\v é \u200b\U000e0001"}
    assert format_map(odd) == 'a="\\x00\\x1b\\x7f\\a\\v é \\u200b\\U000e0001"'


@pytest.mark.parametrize(
    ("resource", "divisor", "expected"),
    [
        ("limits.memory", "1Mi", "64"),
        ("requests.cpu", None, "1"),
        ("requests.cpu", "1m", "250"),
        ("requests.memory", "1", str(64 * 2**20)),
        ("limits.cpu", None, "2"),
        ("limits.cpu", "1m", "1500"),
        ("limits.ephemeral-storage", "1Gi", "7"),
        ("requests.ephemeral-storage", None, "0"),
        ("limits.hugepages-2Mi", None, "0"),
    ],
)
def test_resource_fields(resource: str, divisor: str | None, expected: str) -> None:
    pod = app_of(resources={"limits": {"memory": "64Mi"}, "requests": {"cpu": "250m"}})
    selector = ResourceFieldSelector(resource=resource, divisor=divisor)
    allocatable = {"cpu": 1500, "memory": 1, "ephemeral-storage": 7 << 30, "hugepages-2Mi": 1 << 30}
    assert resource_field(pod, pod.spec.containers[0], selector, allocatable) == expected


def test_resource_fields_that_lead_nowhere() -> None:
    pod = app_of(resources={})
    for selector, message in (
        (ResourceFieldSelector(resource="limits.gpu"), "unsupported container resource : limits.gpu"),
        (ResourceFieldSelector(resource="limits.cpu", container_name="no"), "container no not found"),
    ):
        with pytest.raises(ContainerConfigError, match=message):
            resource_field(pod, pod.spec.containers[0], selector, {})


def test_security_contexts_merge() -> None:
    spec = {
        "securityContext": {
            "runAsUser": 1,
            "runAsGroup": 2,
            "fsGroup": 3,
            "supplementalGroups": [4],
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [
            {
                "name": "app",
                "image": "a",
                "securityContext": {
                    "runAsUser": 9,
                    "allowPrivilegeEscalation": False,
                    "readOnlyRootFilesystem": True,
                    "capabilities": {"add": ["NET_ADMIN"], "drop": ["ALL"]},
                },
            }
        ],
        "hostPID": True,
    }
    pod = pod_of(spec)
    made = container_security(pod, pod.spec.containers[0], 0, "")
    assert (made.run_as_user.value, made.run_as_group.value, list(made.supplemental_groups)) == (9, 2, [3, 4])
    assert made.no_new_privs and made.readonly_rootfs and not made.privileged
    assert list(made.capabilities.drop_capabilities) == ["ALL"]
    assert made.namespace_options.pid == api.NODE and made.namespace_options.network == api.POD
    assert made.seccomp.profile_type == api.SecurityProfile.RuntimeDefault
    assert "/proc/kcore" in made.masked_paths and "/proc/sys" in made.readonly_paths
    assert sandbox_security(pod).run_as_user.value == 1


def test_app_armor_profiles_have_an_order(monkeypatch: pytest.MonkeyPatch) -> None:
    noted = {"container.apparmor.security.beta.kubernetes.io/app": "localhost/noted"}
    spec: dict[str, Any] = {"securityContext": {"appArmorProfile": {"type": "RuntimeDefault"}}}
    pod = pod_of(spec, annotations=noted)
    assert container_security(pod, pod.spec.containers[0], 0, "").apparmor.localhost_ref == "noted"
    monkeypatch.setattr(apparmor, "enabled", lambda: False)
    assert app_armor_refusal(pod) == "AppArmor is not enabled on the host"
    assert app_armor_refusal(pod_of(spec)) and not app_armor_refusal(pod_of({}))
    free = {"name": "app", "image": "a", "securityContext": {"appArmorProfile": {"type": "Unconfined"}}}
    own = pod_of({**spec, "containers": [free]}, annotations=noted)
    made = container_security(own, own.spec.containers[0], 0, "").apparmor
    assert made.profile_type == api.SecurityProfile.Unconfined and not app_armor_refusal(own)
    monkeypatch.setattr(apparmor, "enabled", lambda: True)
    assert not app_armor_refusal(pod)


def test_how_hot_cpus_are_is_masked(tmp_path: Path) -> None:
    for name in ("cpu0/thermal_throttle", "cpu11/thermal_throttle", "cpu1", "cpufreq/thermal_throttle"):
        (tmp_path / name).mkdir(parents=True)
    found = [f"{tmp_path}/cpu0/thermal_throttle", f"{tmp_path}/cpu11/thermal_throttle"]
    assert list(throttles(str(tmp_path))) == found
    pod = app_of()
    masked = container_security(pod, pod.spec.containers[0], 0, "").masked_paths
    assert set(throttles()) <= set(masked)


def test_the_image_says_the_user_when_nobody_else_does() -> None:
    pod = app_of()
    by_id = container_security(pod, pod.spec.containers[0], 7, "")
    by_name = container_security(pod, pod.spec.containers[0], None, "web")
    assert by_id.run_as_user.value == 7 and by_id.run_as_username == ""
    assert by_name.run_as_username == "web" and not by_name.HasField("run_as_user")
    assert by_id.seccomp.profile_type == api.SecurityProfile.Unconfined
    assert container_security(pod, pod.spec.containers[0], 7, "", True).seccomp.profile_type == 0


@pytest.mark.parametrize(
    ("context", "uid", "user", "message"),
    [
        ({"runAsUser": 0}, 5, "", "runAsUser breaks non-root policy"),
        ({}, 0, "", "image will run as root"),
        ({}, None, "web", "non-numeric user"),
    ],
)
def test_run_as_non_root(context: dict[str, Any], uid: int | None, user: str, message: str) -> None:
    pod = app_of(securityContext={"runAsNonRoot": True, **context})
    with pytest.raises(ContainerConfigError, match=message):
        container_security(pod, pod.spec.containers[0], uid, user)


def test_host_names(tmp_path: Path) -> None:
    config = KubeletConfig(resolv_conf=str(tmp_path / "none"))
    full = {"hostname": "h", "subdomain": "sub", "setHostnameAsFQDN": True}
    assert sandbox_config(pod_of(full), config, 0).hostname == "h.sub.ns.svc.cluster.local"
    assert sandbox_config(pod_of({}, name="a" * 62 + ".bc"), config, 0).hostname == "a" * 62
    assert sandbox_config(pod_of({"hostNetwork": True}), config, 0).hostname == ""
    with pytest.raises(ContainerConfigError, match="too long"):
        sandbox_config(pod_of({**full, "subdomain": "s" * 60}), config, 0)


def test_the_hosts_file_is_rewritten_in_place(tmp_path: Path) -> None:
    config = KubeletConfig(root=str(tmp_path))
    pod = pod_of(
        {"hostname": "h", "subdomain": "s", "hostAliases": [{"ip": "1.2.3.4", "hostnames": ["a", "b"]}]}
    )
    path = Path(podfiles.write_hosts(config, pod, ["10.0.0.1"]))
    inode = path.stat().st_ino
    assert "10.0.0.1\th.s.ns.svc.cluster.local\th\n" in path.read_text()
    assert path.read_text().endswith("# Entries added by HostAliases.\n1.2.3.4\ta\tb\n")
    podfiles.write_hosts(config, pod, ["10.0.0.2"])
    assert (
        path.stat().st_ino == inode
        and "10.0.0.2" in path.read_text()
        and path.stat().st_mode & 0o777 == 0o644
    )


def test_pods_on_the_hosts_network_have_its_hosts_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = KubeletConfig(root=str(tmp_path))
    pod = pod_of({"hostNetwork": True})
    monkeypatch.setattr(podfiles, "NODE_HOSTS", str(tmp_path / "hosts"))
    with pytest.raises(FileNotFoundError):
        podfiles.write_hosts(config, pod, [])
    (tmp_path / "hosts").write_text("192.0.2.1 here\n")
    text = Path(podfiles.write_hosts(config, pod, [])).read_text()
    assert text == "# Kubernetes-managed hosts file (host network).\n192.0.2.1 here\n"


def test_termination_files_are_only_read_if_regular(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x" * 5000)
    (tmp_path / "link").symlink_to("/etc/passwd")
    os.mkfifo(tmp_path / "fifo")
    assert podfiles.read_tail(str(tmp_path / "file"), 4096) == "x" * 4096
    assert podfiles.read_tail(str(tmp_path / "link"), 10) == ""
    assert podfiles.read_tail(str(tmp_path / "fifo"), 10) == ""
    assert podfiles.read_tail(str(tmp_path), 10) == ""


def test_the_fallback_message_is_the_logs_end(tmp_path: Path) -> None:
    lines = [f"2026-01-01T00:00:00Z stdout F line {n}" for n in range(200)]
    (tmp_path / "0.log").write_text("\n".join([*lines, "2026-01-01T00:00:00Z stderr P half", ""]))
    said = podfiles.log_tail(str(tmp_path / "0.log"))
    assert said.endswith("line 199\nhalf") and "line 100\n" not in said


def test_backoffs() -> None:
    now = [0.0]
    backoff = Backoff(10, 300, lambda: now[0])
    assert backoff.remaining("k", 0) == 0
    delays = []
    for _ in range(7):
        backoff.advance("k", now[0])
        delays.append(backoff.delay("k"))
        now[0] += delays[-1]
        assert backoff.remaining("k", now[0]) == delays[-1]
        assert backoff.remaining("k", now[0] - delays[-1]) == 0
    assert delays == [10, 20, 40, 80, 160, 300, 300]
    now[0] += 601
    assert backoff.remaining("k", now[0]) == 0
    backoff.advance("k", now[0])
    assert backoff.delay("k") == 10
    assert [spell(s) for s in (0, 10, 80, 300, 3661)] == ["0s", "10s", "1m20s", "5m0s", "1h1m1s"]
