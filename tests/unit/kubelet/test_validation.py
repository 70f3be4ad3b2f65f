"""Pods that can't be run are refused with the field and upstream's words."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from minikubelet.kubelet.defaults import apply_defaults
from minikubelet.kubelet.manifests.static import make_static
from minikubelet.kubelet.objects import Pod
from minikubelet.kubelet.validation import validate_pod, warnings_for


def built(spec: dict[str, Any], **meta: Any) -> Pod:
    whole = {"containers": [{"name": "a", "image": "b"}], **spec}
    plain = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web", **meta}, "spec": whole}
    pod = msgspec.convert(plain, Pod)
    make_static(pod, "node", "f")
    apply_defaults(pod)
    return pod


def one(**fields: Any) -> dict[str, Any]:
    return {"containers": [{"name": "a", "image": "b", **fields}]}


REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
MEMORY = {"resource": "limits.memory"}
NAME = {"path": "name", "fieldRef": {"fieldPath": "metadata.name"}}


def projected(*sources: dict[str, Any]) -> dict[str, Any]:
    return {"volumes": [{"name": "v", "projected": {"sources": list(sources)}}]}


def test_a_plain_pod_is_valid() -> None:
    assert validate_pod(built({})) == []
    assert warnings_for(built({})) == []


@pytest.mark.parametrize(
    ("spec", "field", "message"),
    [
        ({"containers": []}, "spec.containers", "Required value"),
        ({"containers": [{"image": "b"}]}, "spec.containers[0].name", "Required value"),
        (
            {"containers": [{"name": "A", "image": "b"}]},
            "spec.containers[0].name",
            'Invalid value: "A": a lowercase RFC 1123',
        ),
        ({"containers": [{"name": "a"}]}, "spec.containers[0].image", "Required value"),
        (
            {"containers": [{"name": "a", "image": "b"}, {"name": "a", "image": "b"}]},
            "spec.containers[1].name",
            'Duplicate value: "a"',
        ),
        ({"initContainers": [{"name": "a", "image": "b"}]}, "spec.initContainers[0].name", "Duplicate value"),
        (
            {"initContainers": [{"name": "i", "image": "b", "readinessProbe": {"exec": {"command": ["x"]}}}]},
            "spec.initContainers[0].readinessProbe",
            "Forbidden: may not be set for init containers without restartPolicy=Always",
        ),
        (
            {"restartPolicy": "Sometimes"},
            "spec.restartPolicy",
            'Unsupported value: "Sometimes": supported values: "Always", "OnFailure", "Never"',
        ),
        ({"dnsPolicy": "None"}, "spec.dnsConfig.nameservers", "Required value"),
        ({"hostAliases": [{"ip": "1.2.3"}]}, "spec.hostAliases[0].ip", 'Invalid value: "1.2.3"'),
        (
            {"hostAliases": [{"ip": "1.2.3.4", "hostnames": ["a\nb"]}]},
            "spec.hostAliases[0].hostnames[0]",
            "Invalid value",
        ),
        ({"dnsConfig": {"nameservers": ["1.1.1.1\nx"]}}, "spec.dnsConfig.nameservers[0]", "Invalid value"),
        ({"dnsConfig": {"searches": ["a\nnameserver 6"]}}, "spec.dnsConfig.searches[0]", "Invalid value"),
        ({"dnsConfig": {"options": [{"name": "a\nb"}]}}, "spec.dnsConfig.options[0].name", "Invalid value"),
        ({"dnsConfig": {"nameservers": ["fe80::1%eth0"]}}, "spec.dnsConfig.nameservers[0]", "Invalid value"),
        ({"dnsConfig": {"searches": ["x" * 254]}}, "spec.dnsConfig.searches[0]", "Invalid value"),
        (
            {"hostAliases": [{"ip": "::ffff:1.2.3.4", "hostnames": ["a"]}]},
            "spec.hostAliases[0].ip",
            "must not be an IPv4-mapped IPv6 address",
        ),
        ({"runtimeClassName": ""}, "spec.runtimeClassName", "Invalid value"),
        ({"serviceAccount": "A"}, "spec.serviceAccountName", "Invalid value"),
        ({"schedulingGroup": {}}, "spec.schedulingGroup.podGroupName", "must specify one of"),
        ({"schedulingGroup": {"podGroupName": "A"}}, "spec.schedulingGroup.podGroupName", "lowercase"),
        ({"overhead": {"cpu": "-1"}}, "spec.overhead.cpu", "must be greater than or equal to 0"),
        ({"overhead": {"pods": "1"}}, "spec.overhead.pods", "must be a standard resource"),
        ({"overhead": {"hugepages-2Mi": "2Mi"}}, "spec.overhead", "HugePages require cpu or memory"),
        (
            {"affinity": {"nodeAffinity": {REQUIRED: {"nodeSelectorTerms": []}}}},
            f"spec.affinity.nodeAffinity.{REQUIRED}.nodeSelectorTerms",
            "must have at least one node selector term",
        ),
        (
            {"affinity": {"podAntiAffinity": {REQUIRED: [{}]}}},
            f"spec.affinity.podAntiAffinity.{REQUIRED}[0].topologyKey",
            "Required value",
        ),
        (
            {"os": {"name": "linux"}} | one(securityContext={"windowsOptions": {"runAsUserName": "me"}}),
            "spec.containers[0].securityContext.windowsOptions",
            "cannot be set for a linux pod",
        ),
        ({"hostnameOverride": "A"}, "spec.hostnameOverride", "Invalid value"),
        ({"hostname": "a.b"}, "spec.hostname", "Invalid value"),
        (
            {"hostUsers": False, "hostNetwork": True},
            "spec.hostNetwork",
            "Forbidden: when `hostUsers` is false",
        ),
        ({"hostUsers": False, "hostPID": True}, "spec.hostPID", "Forbidden: when `hostUsers` is false"),
        (
            {"volumes": [{"name": "v", "configMap": {"name": "c", "defaultMode": 0o1000}}]},
            "spec.volumes[0].configMap.defaultMode",
            "must be a number between 0 and 0777",
        ),
        (
            {
                "volumes": [
                    {"name": "v", "secret": {"secretName": "s", "items": [{"key": "k", "path": "../x"}]}}
                ]
            },
            "spec.volumes[0].secret.items[0].path",
            "must not contain '..'",
        ),
        (
            {"volumes": [{"name": "v", "persistentVolumeClaim": {}}]},
            "spec.volumes[0].persistentVolumeClaim.claimName",
            "Required value",
        ),
        (
            {
                "volumes": [
                    {
                        "name": "v",
                        "downwardAPI": {"items": [{"path": "p", "fieldRef": {"fieldPath": "spec.nodeName"}}]},
                    }
                ]
            },
            "spec.volumes[0].downwardAPI.items[0].fieldRef.fieldPath",
            "Unsupported value",
        ),
        (
            {"securityContext": {"sysctls": [{"name": "kernel.core_pattern\nx"}]}},
            "spec.securityContext.sysctls[0].name",
            "Invalid value",
        ),
        (
            {"securityContext": {"runAsUser": 4294967295}},
            "spec.securityContext.runAsUser",
            "must be between 0 and 2147483647",
        ),
        (
            {"volumes": [{"name": "v", "hostPath": {"path": "/a/../b"}}]},
            "spec.volumes[0].hostPath.path",
            "must not contain '..'",
        ),
        (
            {"volumes": [{"name": "v", "emptyDir": {}, "hostPath": {"path": "/"}}]},
            "spec.volumes[0]",
            "Forbidden: may not specify more than 1 volume type",
        ),
        (one(imagePullPolicy="Maybe"), "spec.containers[0].imagePullPolicy", "Unsupported value"),
        (one(ports=[{"containerPort": 0}]), "spec.containers[0].ports[0].containerPort", "Required value"),
        (
            one(ports=[{"containerPort": 70000}]),
            "spec.containers[0].ports[0].containerPort",
            "must be between 1 and 65535, inclusive",
        ),
        (
            one(ports=[{"containerPort": 1, "hostPort": 5}, {"containerPort": 2, "hostPort": 5}]),
            "spec.containers[0].ports[1].hostPort",
            "Duplicate value",
        ),
        (
            one(ports=[{"containerPort": 1, "name": "UP"}]),
            "spec.containers[0].ports[0].name",
            "Invalid value",
        ),
        (one(env=[{"name": "a=b"}]), "spec.containers[0].env[0].name", "Invalid value"),
        (
            one(env=[{"name": "a", "valueFrom": {}}]),
            "spec.containers[0].env[0].valueFrom",
            "must specify exactly one source",
        ),
        (
            one(env=[{"name": "a", "valueFrom": {"fieldRef": {"fieldPath": "spec.nope"}}}]),
            "spec.containers[0].env[0].valueFrom.fieldRef.fieldPath",
            "Unsupported value",
        ),
        (
            one(env=[{"name": "a", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['a/b/c']"}}}]),
            "spec.containers[0].env[0].valueFrom.fieldRef.fieldPath",
            "Invalid value",
        ),
        (
            one(env=[{"name": "a", "valueFrom": {"resourceFieldRef": MEMORY | {"divisor": "1024"}}}]),
            "spec.containers[0].env[0].valueFrom.resourceFieldRef.divisor",
            "only divisor's values 1, 1k, 1M",
        ),
        (
            {"volumes": [{"name": "v", "image": {"reference": "i", "pullPolicy": "Sometimes"}}]},
            "spec.volumes[0].image.pullPolicy",
            "Unsupported value",
        ),
        (
            projected({"downwardAPI": {"items": [NAME]}}, {"downwardAPI": {"items": [NAME]}}),
            "spec.volumes[0].projected",
            'Invalid value: "name": conflicting duplicate paths',
        ),
        (
            projected({"downwardAPI": {"items": [NAME]}}, {}),
            "spec.volumes[0].projected.sources[1]",
            "Required value",
        ),
        (
            one(resources={"limits": {"cpu": "lots"}}),
            "spec.containers[0].resources.limits.cpu",
            "not a quantity",
        ),
        (
            one(resources={"limits": {"cpu": "1"}, "requests": {"cpu": "2"}}),
            "spec.containers[0].resources.requests",
            "must be less than or equal to cpu limit of 1",
        ),
        (
            one(volumeMounts=[{"name": "v", "mountPath": "/v"}]),
            "spec.containers[0].volumeMounts[0].name",
            'Not found: "v"',
        ),
        (
            one(livenessProbe={}),
            "spec.containers[0].livenessProbe",
            "Required value: must specify a handler type",
        ),
        (
            one(livenessProbe={"exec": {"command": ["x"]}, "successThreshold": 2}),
            "spec.containers[0].livenessProbe.successThreshold",
            "must be 1",
        ),
        (
            one(readinessProbe={"httpGet": {"port": 0}}),
            "spec.containers[0].readinessProbe.httpGet.port",
            "must be between 1 and 65535",
        ),
        (
            one(lifecycle={"preStop": {"exec": {"command": ["x"]}, "sleep": {"seconds": 1}}}),
            "spec.containers[0].lifecycle.preStop",
            "may not specify more than 1 handler type",
        ),
        (
            one(securityContext={"privileged": True, "allowPrivilegeEscalation": False}),
            "spec.containers[0].securityContext",
            "cannot set",
        ),
        (
            one(securityContext={"seccompProfile": {"type": "Localhost"}}),
            "spec.containers[0].securityContext.seccompProfile.localhostProfile",
            "Required value",
        ),
        (
            one(securityContext={"seccompProfile": {"type": "Localhost", "localhostProfile": "../x"}}),
            "spec.containers[0].securityContext.seccompProfile.localhostProfile",
            "must not contain '..'",
        ),
        (
            one(securityContext={"seccompProfile": {"type": "unconfined"}}),
            "spec.containers[0].securityContext.seccompProfile.type",
            "Unsupported value",
        ),
    ],
)
def test_problems(spec: dict[str, Any], field: str, message: str) -> None:
    problems = validate_pod(built(spec))
    assert [p.field for p in problems] == [field], problems
    assert message in problems[0].message


@pytest.mark.parametrize("name", ["", "Web", "a_b", "-a", "a" * 300, "a/b", "a..b"])
def test_bad_names(name: str) -> None:
    assert any(p.field == "metadata.name" for p in validate_pod(built({}, name=name)))


@pytest.mark.parametrize("uid", ["../../etc", "a/b", ".", "a\n"])
def test_uids_that_could_not_be_a_folder(uid: str) -> None:
    assert [p.field for p in validate_pod(built({}, uid=uid))] == ["metadata.uid"]


def test_annotations_have_a_size() -> None:
    fits = {"a": "x" * (255 << 10)}  # the kubelet adds some of its own
    assert validate_pod(built({}, annotations=fits)) == []
    (problem,) = validate_pod(built({}, annotations=fits | {"b": "ö" * 512}))
    assert problem.field == "metadata.annotations" and problem.message.startswith("Too long")


APPARMOR = "container.apparmor.security.beta.kubernetes.io"
SECCOMP = "container.seccomp.security.alpha.kubernetes.io"
DEFAULT = {"type": "RuntimeDefault"}


@pytest.mark.parametrize(
    ("key", "value", "context", "field"),
    [
        (f"{APPARMOR}/b", "unconfined", {}, "metadata.annotations"),
        (f"{APPARMOR}/a", "mine", {}, "metadata.annotations"),
        (
            f"{APPARMOR}/a",
            "unconfined",
            {"appArmorProfile": {"type": "RuntimeDefault"}},
            "spec.containers[0]",
        ),
        (f"{SECCOMP}/a", "mine", {}, "metadata.annotations"),
        (f"{SECCOMP}/a", "localhost/../x", {}, "metadata.annotations"),
        (f"{SECCOMP}/a", "unconfined", {"seccompProfile": DEFAULT}, "spec.containers[0]"),
    ],
)
def test_annotations_about_profiles(key: str, value: str, context: dict[str, Any], field: str) -> None:
    pod = built(one(securityContext=context), annotations={key: value})
    (problem,) = validate_pod(pod)
    assert problem.field.startswith(field)


@pytest.mark.parametrize(
    ("key", "value", "context"),
    [
        (f"{APPARMOR}/a", "localhost/p", {"appArmorProfile": {"type": "Localhost", "localhostProfile": "p"}}),
        (f"{APPARMOR}/a", "", {}),
        (f"{SECCOMP}/a", "docker/default", {"seccompProfile": {"type": "RuntimeDefault"}}),
        (f"{SECCOMP}/gone", "localhost/a/b", {}),
    ],
)
def test_annotations_that_agree_with_the_fields(key: str, value: str, context: dict[str, Any]) -> None:
    assert validate_pod(built(one(securityContext=context), annotations={key: value})) == []


@pytest.mark.parametrize("divisor", ["1Ki", "1024Ki", "1000", "1"])
def test_divisors_count_as_they_are_written(divisor: str) -> None:
    ref = {"resourceFieldRef": MEMORY | {"divisor": divisor}}
    assert validate_pod(built(one(env=[{"name": "a", "valueFrom": ref}]))) == []


def test_a_pod_for_any_system_may_have_options_for_windows() -> None:
    options = {"windowsOptions": {"runAsUserName": "me"}}
    assert validate_pod(built({"securityContext": options} | one(securityContext=options))) == []


def test_amounts_are_shown_as_the_api_writes_them() -> None:
    reference = {"resourceFieldRef": MEMORY | {"divisor": "1024Ki"}}
    volume = {"name": "v", "emptyDir": {"sizeLimit": 1536}}
    pod = built({"volumes": [volume]} | one(env=[{"name": "a", "valueFrom": reference}]))
    assert validate_pod(pod) == []
    empty_dir, source = pod.spec.volumes[0].empty_dir, pod.spec.containers[0].env[0].value_from
    assert empty_dir is not None and empty_dir.size_limit == "1536"
    assert source is not None and source.resource_field_ref is not None
    assert source.resource_field_ref.divisor == "1Mi"


def test_the_former_name_of_the_service_account_counts() -> None:
    assert built({"serviceAccount": "old"}).spec.service_account_name == "old"
    assert built({"serviceAccount": "old", "serviceAccountName": "new"}).spec.service_account == "new"


def test_a_namespace_must_be_a_label() -> None:
    assert [p.field for p in validate_pod(built({}, namespace="a.b"))] == ["metadata.namespace"]


def test_fields_without_effect_are_warned_of() -> None:
    pod = built({"affinity": {"podAffinity": {}, "nodeAffinity": {}}, "serviceAccountName": "x"})
    assert validate_pod(pod) == []
    fields = sorted(w.field for w in warnings_for(pod))
    assert fields == ["spec.affinity.podAffinity", "spec.serviceAccountName"]


SECCOMP_POD = "seccomp.security.alpha.kubernetes.io/pod"
CRITICAL = "scheduler.alpha.kubernetes.io/critical-pod"


@pytest.mark.parametrize(
    ("spec", "annotations", "field", "message"),
    [
        ({}, {SECCOMP_POD: "runtime/default"}, f"metadata.annotations.{SECCOMP_POD}", '"seccompProfile"'),
        ({}, {f"{SECCOMP}/a": "runtime/default"}, f"metadata.annotations.{SECCOMP}/a", '"seccompProfile"'),
        ({}, {CRITICAL: ""}, f"metadata.annotations.{CRITICAL}", '"priorityClassName"'),
        (
            one(resources={"limits": {"memory": "128m"}}),
            {},
            "spec.containers[0].resources.limits.memory",
            'is a part of a byte: "128m" may be meant as "Mi" or "M"',
        ),
        (
            one(env=[{"name": "A", "value": "1"}, {"name": "A", "value": "2"}]),
            {},
            "spec.containers[0].env[1]",
            'hides the definition of "A" before it',
        ),
        (
            one(ports=[{"containerPort": 80, "hostIP": "127.0.0.1"}]),
            {},
            "spec.containers[0].ports[0]",
            "hostIP has no effect without hostPort",
        ),
        (
            one(ports=[{"containerPort": 80}, {"containerPort": 80, "name": "b"}]),
            {},
            "spec.containers[0].ports[1]",
            "duplicate port definition with spec.containers[0].ports[0]",
        ),
        (
            one(ports=[{"containerPort": 80}, {"containerPort": 80, "hostPort": 8080}]),
            {},
            "spec.containers[0].ports[1]",
            "overlapping port definition with spec.containers[0].ports[0]",
        ),
        (
            {"imagePullSecrets": [{"name": "a"}, {"name": "a"}]},
            {},
            "spec.imagePullSecrets[1].name",
            "duplicate",
        ),
        (
            {"readinessGates": [{"conditionType": "a/b"}]},
            {},
            "spec.readinessGates",
            "keeps the pod from being",
        ),
        ({"imagePullSecrets": [{}]}, {}, "spec.imagePullSecrets[0].name", "names no secret"),
        (
            {"hostAliases": [{"ip": "10.0.0.1", "hostnames": ["a"]}, {"ip": "10.0.0.1", "hostnames": ["b"]}]},
            {},
            "spec.hostAliases[1].ip",
            'duplicate ip "10.0.0.1"',
        ),
    ],
)
def test_what_is_not_as_it_seems(
    spec: dict[str, Any], annotations: dict[str, str], field: str, message: str
) -> None:
    pod = built(spec, annotations=annotations)
    assert validate_pod(pod) == []
    (warning,) = warnings_for(pod)
    assert warning.field == field and message in warning.message


def test_what_only_looks_like_it() -> None:
    profile = {"securityContext": {"seccompProfile": {"type": "RuntimeDefault"}}}
    assert warnings_for(built(profile, annotations={SECCOMP_POD: "runtime/default"})) == []
    env = [{"name": "A", "value": "1"}, {"name": "A", "value": "$(A):2"}]
    ports = [
        {"containerPort": 53, "protocol": "UDP"},
        {"containerPort": 53, "protocol": "TCP"},
        {"containerPort": 80, "hostPort": 8080},
        {"containerPort": 80, "hostPort": 8081},
    ]
    amounts = {"limits": {"memory": "1.5Ki", "cpu": "100m", "ephemeral-storage": "1e3"}}
    assert warnings_for(built(one(env=env, ports=ports, resources=amounts))) == []
    twins = [
        {"name": each, "image": "b", "ports": [{"name": "web", "containerPort": port}]}
        for each, port in (("a", 80), ("c", 81))
    ]
    assert warnings_for(built({"containers": twins})) == []  # a probe's port is its own container's
    init = {"name": "i", "image": "b", "ports": [{"containerPort": 80}]}
    assert warnings_for(built({"initContainers": [init], **one(ports=[{"containerPort": 80}])})) == []
