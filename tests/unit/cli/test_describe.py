"""A whole description, line by line."""

from __future__ import annotations

import time

import pytest

from minikubelet.cli.describe_parts import whole
from minikubelet.cli.describe_pod import lines
from tests.unit.cli.pods import NOW, Json, ago


def describe(pod: Json, events: list[Json], now: float) -> str:
    return whole(lines(pod, now), events, now)


POD = {
    "metadata": {
        "name": "web-n1",
        "namespace": "default",
        "labels": {"b": "2", "a": "1"},
        "annotations": {"note": "line one\nline two", "other": "x"},
        "creationTimestamp": ago(100),
    },
    "spec": {
        "nodeName": "n1",
        "containers": [
            {
                "name": "server",
                "image": "img:1",
                "command": ["httpd", "-f"],
                "args": ["a\nb"],
                "ports": [
                    {"name": "http", "containerPort": 8080, "hostPort": 80, "protocol": "TCP"},
                    {"containerPort": 53, "protocol": "UDP"},
                ],
                "resources": {"limits": {"memory": "64Mi", "cpu": "1"}, "requests": {"cpu": "100m"}},
                "livenessProbe": {"exec": {"command": ["test", "-e", "/x"]}, "periodSeconds": 5},
                "readinessProbe": {"httpGet": {"path": "/", "port": "http", "scheme": "HTTPS"}},
                "startupProbe": {"grpc": {"port": 9, "service": "db"}, "failureThreshold": 30},
                "env": [
                    {"name": "A", "value": "1"},
                    {
                        "name": "NODE",
                        "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "spec.nodeName"}},
                    },
                    {"name": "PW", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
                ],
                "volumeMounts": [
                    {"name": "site", "mountPath": "/site", "readOnly": True},
                    {"name": "etc", "mountPath": "/etc/x", "subPath": "x"},
                ],
            }
        ],
        "volumes": [
            {"name": "site", "emptyDir": {}},
            {"name": "etc", "hostPath": {"path": "/etc", "type": "Directory"}},
        ],
        "tolerations": [{"operator": "Exists", "effect": "NoExecute"}],
    },
    "status": {
        "phase": "Running",
        "hostIP": "192.0.2.2",
        "podIP": "10.0.0.5",
        "podIPs": [{"ip": "10.0.0.5"}],
        "startTime": ago(99),
        "conditions": [{"type": "Ready", "status": "False"}, {"type": "PodScheduled", "status": "True"}],
        "containerStatuses": [
            {
                "name": "server",
                "containerID": "minikubelet://abc",
                "imageID": "sha256:def",
                "ready": False,
                "restartCount": 2,
                "state": {"waiting": {"reason": "CrashLoopBackOff"}},
                "lastState": {
                    "terminated": {
                        "exitCode": 137,
                        "reason": "OOMKilled",
                        "startedAt": ago(50),
                        "finishedAt": ago(40),
                    }
                },
            }
        ],
    },
}

EVENTS = [
    {
        "type": "Warning",
        "reason": "BackOff",
        "message": "Back-off restarting failed container",
        "count": 3,
        "firstTimestamp": ago(90),
        "lastTimestamp": ago(10),
        "source": {"component": "kubelet"},
        "involvedObject": {"fieldPath": "spec.containers{server}"},
    },
    {
        "type": "Normal",
        "reason": "Pulled",
        "message": "Pulled it ",
        "count": 1,
        "firstTimestamp": ago(95),
        "lastTimestamp": ago(95),
        "source": {"component": "kubelet"},
        "involvedObject": {},
    },
]

EXPECTED = """\
Name:         web-n1
Namespace:    default
Node:         n1/192.0.2.2
Start Time:   Fri, 02 Jan 2026 03:02:26 +0000
Labels:       a=1
              b=2
Annotations:  note:
                line one
                line two
              other: x
Status:       Running
IP:           10.0.0.5
IPs:
  IP:  10.0.0.5
Containers:
  server:
    Container ID:  minikubelet://abc
    Image:         img:1
    Image ID:      sha256:def
    Ports:         8080/TCP (http), 53/UDP
    Host Ports:    80/TCP (http), 0/UDP
    Command:
      httpd
      -f
    Args:
      a
      b
    State:          Waiting
      Reason:       CrashLoopBackOff
    Last State:     Terminated
      Reason:       OOMKilled
      Exit Code:    137
      Started:      Fri, 02 Jan 2026 03:03:15 +0000
      Finished:     Fri, 02 Jan 2026 03:03:25 +0000
    Ready:          False
    Restart Count:  2
    Limits:
      cpu:     1
      memory:  64Mi
    Requests:
      cpu:      100m
    Liveness:   exec [test -e /x] delay=0s timeout=1s period=5s #success=1 #failure=3
    Readiness:  http-get https://:http/ delay=0s timeout=1s period=10s #success=1 #failure=3
    Startup:    grpc <pod>:9 db delay=0s timeout=1s period=10s #success=1 #failure=30
    Environment:
      A:     1
      NODE:  n1 (v1:spec.nodeName)
      PW:    <set to the key 'k' in secret 's'>  Optional: false
    Mounts:
      /etc/x from etc (rw,path="x")
      /site from site (ro)
Conditions:
  Type           Status
  Ready          False
  PodScheduled   True
Volumes:
  site:
    Type:       EmptyDir (a temporary directory that shares a pod's lifetime)
    Medium:
    SizeLimit:  <unset>
  etc:
    Type:          HostPath (bare host directory volume)
    Path:          /etc
    HostPathType:  Directory
QoS Class:         Burstable
Node-Selectors:    <none>
Tolerations:       :NoExecute op=Exists
Events:
  Type     Reason   Age                From     Message
  ----     ------   ----               ----     -------
  Normal   Pulled   95s                kubelet  Pulled it
  Warning  BackOff  10s (x3 over 90s)  kubelet  spec.containers{server}: Back-off restarting failed container
"""


def test_description(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    assert describe(POD, EVENTS, NOW) == EXPECTED


def test_termination_messages_are_shown_harmless() -> None:
    ended = {"exitCode": 1, "message": "\x1b[31mred\x1b[0m\n"}
    status = {"containerStatuses": [{"name": "c", "state": {"terminated": ended}}]}
    pod = {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c"}]}, "status": status}
    shown = describe(pod, [], NOW)
    assert "\x1b" not in shown and "^[[31mred^[[0m" in shown


def test_a_pod_that_is_being_terminated_and_has_nothing() -> None:
    meta = {"name": "p", "deletionTimestamp": ago(5), "deletionGracePeriodSeconds": 30}
    shown = describe({"metadata": meta, "spec": {"containers": []}, "status": {"phase": "Running"}}, [], NOW)
    lines = shown.splitlines()
    assert "Status:                    Terminating (lasts 5s)" in lines
    assert "Termination Grace Period:  30s" in lines
    assert "Node:                      <none>" in lines
    assert lines[-1] == "Events:          <none>"  # in the columns of what stands above, as with kubectl
