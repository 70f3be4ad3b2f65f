"""Manifests: what is read, and how what is wrong is said."""

from __future__ import annotations

import json
import textwrap

import pytest

from minikubelet.kubelet.defaults import apply_defaults
from minikubelet.kubelet.manifests.decode import decode_pods
from minikubelet.kubelet.manifests.errors import ManifestError
from minikubelet.kubelet.manifests.static import CONFIG_HASH, make_static
from minikubelet.kubelet.manifests.yaml_reader import MAX_NODES, read_yaml
from minikubelet.kubelet.objects import Pod

HEAD = "apiVersion: v1\nkind: Pod\n"


def problem(text: str) -> str:
    with pytest.raises(ManifestError) as caught:
        decode_pods(textwrap.dedent(text).encode(), "pod.yaml")
    return str(caught.value)


def only(text: str) -> Pod:
    ((pod, _),) = decode_pods(text.encode())
    return pod


def test_fields_of_core_v1_are_read() -> None:
    pod = only(
        HEAD
        + textwrap.dedent("""
        metadata: {name: web, labels: {app: web}, creationTimestamp: null}
        spec:
          hostPID: true
          volumes:
          containers:
          - name: a
            resources: {limits: {cpu: 1, memory: 64Mi}}
            ports: [{containerPort: 80, hostIP: 127.0.0.1}]
            livenessProbe: {httpGet: {port: http}}
            securityContext: {seLinuxOptions: {level: "s0"}}
          setHostnameAsFQDN: false
        status: {phase: Running, nonsense: true}
        """)
    )
    container = pod.spec.containers[0]
    assert pod.spec.host_pid and pod.spec.set_hostname_as_fqdn is False and pod.spec.volumes == []
    assert container.resources.limits == {"cpu": 1, "memory": "64Mi"}
    assert container.ports[0].host_ip == "127.0.0.1"
    assert container.liveness_probe is not None and container.liveness_probe.http_get is not None
    assert container.liveness_probe.http_get.port == "http"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            HEAD + "spec:\n  containers:\n  - name: a\n    imagePulPolicy: Never\n",
            'pod.yaml:6: spec.containers[0].imagePulPolicy: unknown field (did you mean "imagePullPolicy"?)',
        ),
        (HEAD + "spec:\n  xyzzy: 1\n", "pod.yaml:4: spec.xyzzy: unknown field"),
        (
            HEAD + "spec:\n  containers:\n  - name: a\n    ports:\n    - containerPort: '80'\n",
            "pod.yaml:7: spec.containers[0].ports[0].containerPort: expected a whole number, got a string",
        ),
        (
            HEAD + "metadata:\n  labels:\n    a: x\n    on: true\n",
            "pod.yaml:6: metadata.labels.on: expected a string, got true or false (it needs quotes)",
        ),
        (HEAD + "spec:\n  containers: {}\n", "pod.yaml:4: spec.containers: expected a list, got a mapping"),
        (HEAD + "kind: Pod\n", "pod.yaml:3: kind: key 'kind' appears twice"),
        (
            "apiVersion: apps/v1\nkind: Deployment\n",
            "pod.yaml:2: kind: apps/v1 Deployment is not supported: this node has no controllers, "
            "but the pod at spec.template runs as a v1 Pod with a name",
        ),
        (
            "apiVersion: batch/v1\nkind: CronJob\n",
            "pod.yaml:2: kind: batch/v1 CronJob is not supported: this node has no controllers, "
            "but the pod at spec.jobTemplate.spec.template runs as a v1 Pod with a name",
        ),
        (
            "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\n",
            "pod.yaml:2: kind: networking.k8s.io/v1 NetworkPolicy is not supported: "
            "nothing restricts the traffic of pods here",
        ),
        (
            "apiVersion: traefik.io/v1alpha1\nkind: Middleware\n",
            "pod.yaml:2: kind: traefik.io/v1alpha1 Middleware is not supported: only v1 Pod, ConfigMap, "
            "Secret, PersistentVolumeClaim, PersistentVolume, node.k8s.io/v1 RuntimeClass are",
        ),
        ("apiVersion: v1\nkind: pods\n", "pod.yaml:2: kind: v1 pods is not supported: did you mean v1 Pod?"),
        (
            "apiVersion: node.k8s.io/v1beta1\nkind: RuntimeClass\n",
            "pod.yaml:2: kind: node.k8s.io/v1beta1 RuntimeClass is not supported: "
            "did you mean node.k8s.io/v1 RuntimeClass?",
        ),
        (
            "services: {web: {image: nginx}}\n",
            "pod.yaml:1: apiVersion and kind are needed: "
            "this looks like a Compose file, and only Kubernetes' objects are read",
        ),
        (
            "namePrefix: x-\nresources: [web.yaml]\n",
            "pod.yaml:1: apiVersion and kind are needed: "
            "this looks like a kustomization: build it first (kubectl kustomize)",
        ),
        (
            HEAD + "metadata:\n  name: {{ .Release.Name }}\n",
            "pod.yaml:4: a key must be a plain string (a template is rendered first, as by helm template)",
        ),
        (
            "{{- if .Values.on }}\nkind: Pod\n{{- end }}\n",
            "pod.yaml:1: not valid JSON: Expecting property name enclosed in double quotes "
            "(a template is rendered first, as by helm template)",
        ),
        (  # it is none of its own
            'a: "{{ .Labels.x }}"\na: 1\n',
            "pod.yaml:2: a: key 'a' appears twice",
        ),
        (
            HEAD + 'metadata:\n  name: "a\\0b"\n',
            "pod.yaml:4: metadata.name: holds a NUL or half a character",
        ),
        (
            '{"apiVersion": "v1", "kind": "Pod", "spec": {"hostname": "\\ud800"}}',
            "pod.yaml: spec.hostname: holds a NUL or half a character",
        ),
        ("a: " + "9" * 5000, "pod.yaml:1: a number of too many digits"),
        ("- a\n", "pod.yaml:1: expected a mapping with apiVersion and kind"),
        ("kind: Pod\n", "pod.yaml:1: apiVersion and kind are needed"),
        ('{"kind": "Pod", "kind": "Pod"}', "pod.yaml: key 'kind' appears twice"),
        ('{"kind": ', "pod.yaml:1: not valid JSON: Expecting value"),
        (
            HEAD + "spec: !!python/object:os.system {}\n",
            "pod.yaml:3: tag tag:yaml.org,2002:python/object:os.system is not allowed",
        ),
        ("a: *nowhere\n", "pod.yaml:1: alias *nowhere has no anchor before it"),
        ("a: !!timestamp 2001-01-01\n", "pod.yaml:1: tag tag:yaml.org,2002:timestamp is not allowed"),
    ],
)
def test_errors_name_file_line_field_and_fault(text: str, expected: str) -> None:
    said = problem(text)
    assert said == expected


def test_a_syntax_error_has_a_line() -> None:
    assert problem("a: 1\nb: [\n").startswith("pod.yaml:3: not valid YAML: ")
    assert problem("a: 'x\n").startswith("pod.yaml:")
    assert problem("a: \x01\n").startswith("pod.yaml: not valid YAML: ")


def test_many_documents_and_lists() -> None:
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "b"}}
    whole = json.dumps({"apiVersion": "v1", "kind": "List", "items": [pod, pod]})
    plain = {"apiVersion": "v1", "kind": "PodList", "items": [{"metadata": {"name": "c"}}]}
    text = f"{HEAD}metadata: {{name: a}}\n---\n# nothing\n---\n{whole}\n---\n{json.dumps(plain)}\n"
    assert [pod.metadata.name for pod, _ in decode_pods(text.encode())] == ["a", "b", "b", "c"]


def test_an_error_inside_a_list_has_its_line() -> None:
    text = "apiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: Pod\n  spec:\n    nope: 1\n"
    assert problem(text) == "pod.yaml:7: spec.nope: unknown field"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0644", 0o644),
        ("0o17", 15),
        ("0x1F", 31),
        ("1_000", 1000),
        ("-3", -3),
        ("12:30:45", "12:30:45"),
        ("2001-01-01", "2001-01-01"),
        ("1e3", 1000.0),
        (".5", 0.5),
        ("yes", True),
        ("y", True),
        ("N", False),
        ("off", False),
        ("~", None),
        ("'1'", "1"),
        ("!!str 1", "1"),
        ("1.2.3", "1.2.3"),
        ("-", "-"),
        ("0", 0),
        ("08", 8.0),
    ],
)
def test_scalars_resolve_as_in_go_yaml(text: str, value: object) -> None:
    if text == "-":
        text = '"-"'
    if value is None:
        assert next(iter(read_yaml(f"a: {text}".encode()))).data == {"a": None}
        return
    data = next(iter(read_yaml(f"a: {text}".encode()))).data["a"]
    assert data == value and type(data) is type(value)


def test_merge_keys_and_anchors() -> None:
    (document,) = read_yaml(b"base: &b {x: 1, y: 2}\nown: {<<: *b, y: 3}\n")
    assert document.data["own"] == {"x": 1, "y": 3}


def test_bombs_are_refused_quickly() -> None:
    lines = ["a: &a [" + ", ".join(["x"] * 50) + "]"]
    lines += [
        f"{new}: &{new} [" + ", ".join([f"*{old}"] * 50) + "]"
        for old, new in zip("abcd", "bcde", strict=True)
    ]
    assert f"more than {MAX_NODES} values" in problem("\n".join(lines))
    assert "nested deeper than" in problem("a: " + "[" * 500 + "]" * 500)
    assert problem("[" * 200_000).startswith("pod.yaml:")
    assert "nested deeper than" in problem('{"a":' * 500 + "1" + "}" * 500)
    assert "JSON" in problem('{"a":' * 100_000)


def test_static_pods_get_upstreams_names_and_annotations() -> None:
    text = HEAD + "metadata: {name: web}\nspec: {containers: [{name: a, image: b}]}\n"
    pods = [only(text) for _ in range(4)]
    make_static(pods[0], "Node1", "/m/web.yaml")
    make_static(pods[1], "Node1", "/m/web.yaml")
    make_static(pods[2], "Node2", "/m/web.yaml")
    make_static(pods[3], "Node1", "/m/other.yaml")
    first = pods[0].metadata
    assert first.name == "web-node1" and first.namespace == "default" and len(first.uid) == 32
    assert pods[0].spec.node_name == "Node1"
    assert first.annotations[CONFIG_HASH] == first.uid
    assert first.annotations["kubernetes.io/config.source"] == "file"
    assert [pod.metadata.uid == first.uid for pod in pods] == [True, True, False, False]
    assert pods[0].spec.tolerations[0].effect == "NoExecute"
    by_url = only(text)
    make_static(by_url, "Node1", "http://host/web.yaml", "http")
    assert by_url.metadata.annotations["kubernetes.io/config.source"] == "http"
    assert by_url.spec.tolerations == [], "as upstream has it: for files only"


def test_an_own_uid_stays_and_the_hash_follows_the_content() -> None:
    pods = [only(HEAD + f"metadata: {{name: web, uid: mine}}\nspec: {{hostname: h{n}}}\n") for n in (1, 2)]
    for pod in pods:
        make_static(pod, "n", "f")
    assert [pod.metadata.uid for pod in pods] == ["mine", "mine"]
    assert pods[0].metadata.annotations[CONFIG_HASH] != pods[1].metadata.annotations[CONFIG_HASH]


def test_defaults_are_upstreams() -> None:
    text = """
        metadata: {name: web}
        spec:
          volumes: [{name: scratch}, {name: keys, secret: {secretName: s}}]
          containers:
          - {name: a, image: "nginx"}
          - name: b
            image: nginx:1.2
            resources: {limits: {cpu: 1}}
            ports: [{containerPort: 80}]
            readinessProbe: {httpGet: {port: 80}, periodSeconds: 5}
          - {name: c, image: "reg:5000/nginx@sha256:00"}
    """
    pod = only(HEAD + textwrap.dedent(text))
    apply_defaults(pod)
    spec = pod.spec
    assert (spec.restart_policy, spec.dns_policy, spec.termination_grace_period_seconds) == (
        "Always",
        "ClusterFirst",
        30,
    )
    assert [c.image_pull_policy for c in spec.containers] == ["Always", "IfNotPresent", "IfNotPresent"]
    b = spec.containers[1]
    assert b.resources.requests == {"cpu": "1"} and b.ports[0].protocol == "TCP"
    assert b.termination_message_path == "/dev/termination-log" and b.termination_message_policy == "File"
    probe = b.readiness_probe
    assert probe is not None and probe.http_get is not None
    numbers = (probe.timeout_seconds, probe.period_seconds, probe.success_threshold, probe.failure_threshold)
    assert numbers == (1, 5, 1, 3) and (probe.http_get.path, probe.http_get.scheme) == ("/", "HTTP")
    assert spec.volumes[0].empty_dir is not None
    assert spec.volumes[1].secret is not None and spec.volumes[1].secret.default_mode == 0o644
