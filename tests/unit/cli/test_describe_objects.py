"""Descriptions of what pods refer to and of the node, by command and line by line."""

from __future__ import annotations

import base64
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest

from minikubelet.cli import describe_node, describe_parts
from minikubelet.kubelet.events import NORMAL, ObjectReference
from minikubelet.kubelet.objects.data import (
    ConfigMap,
    DataObject,
    PersistentVolume,
    PersistentVolumeClaim,
    RuntimeClass,
    Secret,
)
from tests.unit.cli.pods import NOW, ago
from tests.unit.cli.test_against_api import Served, make_pod, served

__all__ = ["served"]
Capture = pytest.CaptureFixture[str]


def add(served: Served, made: type[DataObject], **fields: Any) -> None:
    metadata = {"namespace": "default", **fields.pop("metadata")}
    served.objects.append(msgspec.convert({"kind": made.__name__, "metadata": metadata, **fields}, made))


@pytest.fixture(autouse=True)
def utc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()


CONFIG_MAP = """\
Name:         site
Namespace:    default
Labels:       app=web
              tier=front
Annotations:  long:
                one
                two
              note: x

Data
====
index:
----
<h1>
hi

title:
----
Home


BinaryData
====
logo: 3 bytes

Events:  <none>
"""


def test_a_config_map(served: Served, capsys: Capture) -> None:
    meta = {
        "name": "site",
        "labels": {"tier": "front", "app": "web"},
        "annotations": {"note": "x", "long": "one\ntwo\n"},
    }
    data = {"title": "Home", "index": "<h1>\nhi"}
    logo = base64.b64encode(b"\x00\x01\x02").decode()
    add(served, ConfigMap, metadata=meta, data=data, binaryData={"logo": logo})
    assert served.run("describe", "cm", "site") == 0
    assert capsys.readouterr().out == CONFIG_MAP


SECRET = """\
Name:         keys
Namespace:    default
Labels:       <none>
Annotations:  <none>

Type:  Opaque

Data
====
a:   6 bytes
bb:  2 bytes
"""


def test_a_secret_shows_sizes_alone(served: Served, capsys: Capture) -> None:
    hidden = base64.b64encode(b"hidden").decode()
    add(served, Secret, metadata={"name": "keys"}, data={"a": hidden}, stringData={"bb": "no"})
    assert served.run("describe", "secrets/keys") == 0
    assert capsys.readouterr().out == SECRET
    assert served.run("get", "secret", "keys", "-o", "json") == 0
    assert "sizes" not in capsys.readouterr().out


CLAIM = """\
Name:          disk
Namespace:     default
StorageClass:  fast
Volume:        v1
Labels:        <none>
Annotations:   <none>
Request:       1Gi
Access Modes:  RWO
VolumeMode:    Filesystem
Used By:       db
"""
VOLUME = """\
Name:              v1
Labels:            <none>
Annotations:       <none>
StorageClass:      fast
Claim:             default/disk
Reclaim Policy:    Retain
Access Modes:      RWO,ROX
VolumeMode:        Filesystem
Capacity:          1Gi
Node Affinity:
  Required Terms:
    Term 0:        kubernetes.io/hostname in [n1, n2]
                   disk exists
Source:
    Type:          HostPath (bare host directory volume)
    Path:          /srv
    HostPathType:  <none>
Events:            <none>
"""


def test_claims_and_volumes(served: Served, capsys: Capture) -> None:
    spec = {
        "volumeName": "v1",
        "storageClassName": "fast",
        "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": "1Gi"}},
    }
    add(served, PersistentVolumeClaim, metadata={"name": "disk"}, spec=spec)
    terms = [
        {"key": "kubernetes.io/hostname", "operator": "In", "values": ["n1", "n2"]},
        {"key": "disk", "operator": "Exists"},
    ]
    affinity = {"required": {"nodeSelectorTerms": [{"matchExpressions": terms}]}}
    volume = {
        "capacity": {"storage": "1Gi"},
        "storageClassName": "fast",
        "accessModes": ["ReadWriteOnce", "ReadOnlyMany"],
        "claimRef": {"name": "disk"},
        "hostPath": {"path": "/srv"},
        "nodeAffinity": affinity,
    }
    add(served, PersistentVolume, metadata={"name": "v1", "namespace": ""}, spec=volume)
    pod = make_pod("db")
    claim = {"name": "data", "persistentVolumeClaim": {"claimName": "disk"}}
    mounted = msgspec.convert({**msgspec.to_builtins(pod.spec), "volumes": [claim]}, type(pod.spec))
    served.pods.update(msgspec.structs.replace(pod, spec=mounted))
    assert served.run("describe", "pvc", "disk", "--show-events=false") == 0
    assert capsys.readouterr().out == CLAIM
    assert served.run("describe", "pv/v1") == 0
    assert capsys.readouterr().out == VOLUME


RUNTIME_CLASS = """\
Name:         fast
Namespace:
Labels:       <none>
Annotations:  <none>
API Version:  node.k8s.io/v1
Handler:      runc
Kind:         RuntimeClass
Overhead:
  Pod Fixed:
    Memory:  1Mi
Scheduling:
  Tolerations:
    Key:       a
    Operator:  Exists
Events:        <none>
"""


def test_a_runtime_class(served: Served, capsys: Capture) -> None:
    add(
        served,
        RuntimeClass,
        apiVersion="node.k8s.io/v1",
        metadata={"name": "fast", "namespace": ""},
        handler="runc",
        overhead={"podFixed": {"memory": "1Mi"}},
        scheduling={"tolerations": [{"key": "a", "operator": "Exists"}]},
    )
    assert served.run("describe", "runtimeclasses") == 0
    assert capsys.readouterr().out == RUNTIME_CLASS


def described(capsys: Capture) -> list[str]:
    lines = capsys.readouterr().out.splitlines()
    return [line.split()[1] for line in lines if line.startswith("Name:")]


def test_which_ones(served: Served, capsys: Capture) -> None:
    for name, namespace in (("site", "default"), ("side", "default"), ("dns", "kube-system")):
        meta = {"name": name, "namespace": namespace, "labels": {"app": name}}
        add(served, ConfigMap, metadata=meta)
    served.node = {"kind": "Node", "metadata": {"name": "n1"}}
    for words, expected in (
        (["cm"], ["side", "site"]),
        (["cm", "-A"], ["side", "site", "dns"]),
        (["cm", "-n", "kube-system"], ["dns"]),
        (["cm", "-l", "app=site"], ["site"]),
        (["cm", "si"], ["side", "site"]),
        (["cm", "site", "side"], ["site", "side"]),
        (["cm/site", "pod/web"], ["site", "web-n1"]),
        (["cm,pods", "-l", "app in (site, db)"], ["site", "db"]),
        (["pod", "we"], ["web-n1"]),
        (["pods", "-A"], ["db", "web-n1", "dns"]),
        (["nodes"], ["n1"]),
    ):
        assert served.run("describe", *words) == 0, words
        assert described(capsys) == expected
    assert served.run("describe", "cm/si") == 1
    assert capsys.readouterr().err == 'error: configmaps "si" not found\n'
    assert served.run("describe", "pod", "web", "nope") == 1
    output = capsys.readouterr()
    assert output.err == 'error: pods "nope" not found\n' and "web-n1" in output.out
    assert served.run("describe", "secrets") == 0
    assert capsys.readouterr().err == "No resources found in default namespace.\n"


def test_events_are_shown_of_a_single_object(served: Served, capsys: Capture) -> None:
    for name in ("site", "side"):
        add(served, ConfigMap, metadata={"name": name})
    about = ObjectReference(kind="ConfigMap", namespace="default", name="site")
    served.events.record(about, NORMAL, "Read", "it was read")
    for words, shown in (
        (["cm/site"], True),
        (["cm/site", "--show-events=false"], False),
        (["cm"], False),
        (["cm", "--show-events"], True),
        (["cm", "sit"], False),
        (["cm", "--show-events=true", "sit"], True),
    ):
        assert served.run("describe", *words) == 0
        assert ("it was read" in capsys.readouterr().out) is shown, words


NODE = {
    "kind": "Node",
    "metadata": {"name": "n1", "labels": {"kubernetes.io/os": "linux"}, "creationTimestamp": ago(90)},
    "status": {
        "conditions": [
            {
                "type": "Ready",
                "status": "True",
                "lastHeartbeatTime": ago(0),
                "lastTransitionTime": ago(90),
                "reason": "KubeletReady",
                "message": "kubelet is posting ready status",
            }
        ],
        "addresses": [{"type": "InternalIP", "address": "192.0.2.9"}, {"type": "Hostname", "address": "n1"}],
        "capacity": {"memory": "4Gi", "cpu": "2"},
        "allocatable": {"memory": "4Gi", "cpu": "1", "pods": "110", "hugepages-2Mi": "0", "x.org/gpu": "2"},
        "nodeInfo": {"osImage": "Debian", "kernelVersion": "6.12", "containerRuntimeVersion": "mk://1"},
    },
}
DESCRIBED = """\
Name:               n1
Roles:              <none>
Labels:             kubernetes.io/os=linux
Annotations:        <none>
CreationTimestamp:  Fri, 02 Jan 2026 03:02:35 +0000
Taints:             <none>
Unschedulable:      false
Conditions:
  Type    Status  LastHeartbeatTime                LastTransitionTime               Reason        Message
  ----    ------  -----------------                ------------------               ------        -------
  Ready   True    Fri, 02 Jan 2026 03:04:05 +0000  Fri, 02 Jan 2026 03:02:35 +0000  KubeletReady  kubelet is
Addresses:
  InternalIP:  192.0.2.9
  Hostname:    n1
Capacity:
  cpu:     2
  memory:  4Gi
Allocatable:
  cpu:            1
  hugepages-2Mi:  0
  memory:         4Gi
  pods:           110
  x.org/gpu:      2
System Info:
  Machine ID:
  System UUID:
  Boot ID:
  Kernel Version:             6.12
  OS Image:                   Debian
  Operating System:
  Architecture:
  Container Runtime Version:  mk://1
  Kubelet Version:
Non-terminated Pods:          (1 in total)
  Namespace                   Name    CPU Requests  CPU Limits  Memory Requests  Memory Limits  Age
  ---------                   ----    ------------  ----------  ---------------  -------------  ---
  default                     web     250m (25%)    1500m (150%)  1Gi (25%)      100M (2%)      60s
Allocated resources:
  (Total limits may be over 100 percent, i.e., overcommitted.)
  Resource           Requests    Limits
  --------           --------    ------
"""


def with_resources(name: str, phase: str) -> dict[str, Any]:
    limits = {"cpu": "1500m", "memory": "100M", "x.org/gpu": "1"}
    resources = {"requests": {"cpu": "0.25", "memory": "1Gi"}, "limits": limits}
    return {
        "metadata": {"name": name, "namespace": "default", "creationTimestamp": ago(60)},
        "spec": {"containers": [{"name": "c", "resources": resources}]},
        "status": {"phase": phase},
    }


def test_the_node_described() -> None:
    pods = [with_resources("web", "Running"), with_resources("job", "Succeeded")]
    shown = describe_parts.whole(describe_node.lines(NODE, pods, NOW), [], NOW)

    def words(text: str) -> list[list[str]]:
        return [line.split() for line in text.splitlines()]

    expected = words(DESCRIBED)
    mine = [line[:17] if line[:1] == ["Ready"] else line for line in words(shown)]
    assert mine[: len(expected)] == expected
    assert mine[len(expected) :] == [
        ["cpu", "250m", "(25%)", "1500m", "(150%)"],
        ["memory", "1Gi", "(25%)", "100M", "(2%)"],
        ["ephemeral-storage", "0", "(0%)", "0", "(0%)"],
        ["hugepages-2Mi", "0", "(0%)", "0", "(0%)"],
        ["x.org/gpu", "1", "1"],
        ["Events:", "<none>"],
    ]
    for line in ("Name:               n1", "  Container Runtime Version:  mk://1", "  memory:         4Gi"):
        assert line in shown.splitlines()


def test_the_node_by_command(served: Served, capsys: Capture) -> None:
    served.node = NODE
    served.events.node(NORMAL, "Starting", "Starting kubelet.")
    assert served.run("get", "nodes") == 0
    table = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert table[0] == ["NAME", "STATUS", "ROLES", "AGE", "VERSION"]
    assert table[1][:3] == ["n1", "Ready", "<none>"]
    assert served.run("get", "node/n1", "-o", "wide", "--no-headers") == 0
    assert capsys.readouterr().out.split()[-5:] == ["192.0.2.9", "<none>", "Debian", "6.12", "mk://1"]
    assert served.run("get", "no", "-o", "jsonpath={.items[*].status.capacity.cpu}") == 0
    assert capsys.readouterr().out == "2"
    assert served.run("get", "all", "-o", "name") == 0
    assert "node/" not in capsys.readouterr().out
    assert served.run("get", "node", "n2") == 1
    assert capsys.readouterr().err == 'error: nodes "n2" not found\n'
    assert served.run("describe", "node") == 0
    shown = capsys.readouterr().out
    assert "(2 in total)" not in shown and "(3 in total)" in shown
    assert shown.splitlines()[-1].split()[:2] == ["Normal", "Starting"]


def test_objects_of_manifests(served: Served, tmp_path: Path, capsys: Capture) -> None:
    file = tmp_path / "all.yaml"
    objects = [("ConfigMap", "site", "default"), ("Pod", "web", "default"), ("Pod", "dns", "kube-system")]
    text = "apiVersion: v1\nkind: {}\nmetadata: {{name: {}, namespace: {}}}\n"
    file.write_text("---\n".join(text.format(*each) for each in objects[:2]))
    add(served, ConfigMap, metadata={"name": "site"})
    add(served, ConfigMap, metadata={"name": "other"})
    assert served.run("get", "-f", str(file), "-o", "name") == 0
    assert capsys.readouterr().out == "configmap/site\npod/web-n1\n"
    assert served.run("describe", "-f", str(file)) == 0
    assert described(capsys) == ["site", "web-n1"]
    file.write_text(text.format(*objects[2]))
    assert served.run("get", "-f", str(file), "-o", "name") == 0
    assert capsys.readouterr().out == "pod/dns\n"
    file.write_text("---\n".join(text.format(*each) for each in objects))
    assert served.run("get", "-f", str(file)) == 1
    assert "in several namespaces: default, kube-system" in capsys.readouterr().err
    assert served.run("get", "pods", "-f", str(file)) == 2
    assert served.run("describe", "-f", str(file), "-A") == 2
