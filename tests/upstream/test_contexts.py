"""What the upstream kubelet asks for in a container: volumes, users, rights, namespaces, names."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from tests.ports import free_port
from tests.upstream.site import Site
from tests.upstream_kubelet import wait_for

SLEEP = 'command: [sleep, "1000"]'


def test_volumes(site: Site, tmp_path: Path) -> None:
    (tmp_path / "given").write_text("from the host\n")
    spec = f"""
    containers:
    - name: app
      image: BUSYBOX
      {SLEEP}
      env: [{{name: POD, valueFrom: {{fieldRef: {{fieldPath: metadata.name}}}}}}]
      volumeMounts:
      - {{name: disk, mountPath: /disk}}
      - {{name: memory, mountPath: /memory}}
      - {{name: host, mountPath: /host, readOnly: true}}
      - {{name: host, mountPath: /given, subPath: given}}
      - {{name: host, mountPath: /own, subPathExpr: of/$(POD)}}
      - {{name: about, mountPath: /about}}
      - {{name: image, mountPath: /image}}
      - {{name: image, mountPath: /bin2, subPath: bin}}
    - name: other
      image: BUSYBOX
      {SLEEP}
      volumeMounts: [{{name: disk, mountPath: /disk}}]
    volumes:
    - {{name: disk, emptyDir: {{}}}}
    - {{name: memory, emptyDir: {{medium: Memory, sizeLimit: 1Mi}}}}
    - {{name: host, hostPath: {{path: {tmp_path}, type: Directory}}}}
    - {{name: about, downwardAPI: {{items: [{{path: labels, fieldRef: {{fieldPath: metadata.labels}}}}]}}}}
    - {{name: image, image: {{reference: CONFIGURED, pullPolicy: IfNotPresent}}}}
    """
    site.ready("volumes", spec, "labels: {colour: green}")
    site.run("volumes", "sh", "-c", "echo shared >/disk/file")
    assert site.run("volumes", "cat", "/disk/file", container="other") == "shared"
    mounts = site.run("volumes", "cat", "/proc/mounts").splitlines()
    kinds = {line.split()[1]: line.split()[2:4] for line in mounts}
    assert kinds["/memory"][0] == "tmpfs" and "size=1024k" in kinds["/memory"][1]
    assert kinds["/host"][1].startswith("ro")
    assert site.run("volumes", "cat", "/given") == "from the host"
    site.run("volumes", "sh", "-c", "echo mine >/own/file")
    assert (tmp_path / "of/volumes-host/file").read_text() == "mine\n"
    assert site.run("volumes", "cat", "/about/labels") == 'colour="green"'
    assert "from image" not in site.run("volumes", "ls", "/image")
    assert site.run("volumes", "cat", "/image/app/show").startswith("#!/bin/sh")
    assert "busybox" in site.run("volumes", "ls", "/bin2").split()
    assert kinds["/image"][1].startswith("ro")


def test_an_image_volume_that_is_nowhere(site: Site, images: dict[str, str]) -> None:
    nowhere = images["BUSYBOX"].replace("busybox:1", "no-such-image:1")
    site.write(
        "nowhere",
        f"""
        containers:
        - {{name: app, image: BUSYBOX, {SLEEP}, volumeMounts: [{{name: image, mountPath: /image}}]}}
        volumes: [{{name: image, image: {{reference: "{nowhere}"}}}}]
        """,
    )

    def reason() -> str:
        return str(site.container("nowhere").get("state", {}).get("waiting", {}).get("reason", ""))

    wait_for("a reason", lambda: reason() in ("ErrImagePull", "ImagePullBackOff"))


def status_of(site: Site, pod: str, container: str = "app") -> dict[str, str]:
    """/proc/self/status of a program run in the container."""
    lines = site.run(pod, "cat", "/proc/1/status", container=container).splitlines()
    return {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}


def test_security_contexts(site: Site) -> None:
    spec = f"""
    securityContext:
      runAsUser: 1000
      runAsGroup: 3000
      fsGroup: 2000
      supplementalGroups: [4000]
      seccompProfile: {{type: RuntimeDefault}}
      sysctls: [{{name: net.ipv4.ip_unprivileged_port_start, value: "80"}}]
    containers:
    - name: app
      image: BUSYBOX
      {SLEEP}
      securityContext:
        allowPrivilegeEscalation: false
        readOnlyRootFilesystem: true
        runAsNonRoot: true
        capabilities: {{drop: [ALL]}}
      volumeMounts: [{{name: disk, mountPath: /disk}}]
    - name: root
      image: BUSYBOX
      {SLEEP}
      securityContext:
        runAsUser: 0
        capabilities: {{drop: [ALL], add: [NET_BIND_SERVICE]}}
        seccompProfile: {{type: Unconfined}}
    - name: mighty
      image: BUSYBOX
      {SLEEP}
      securityContext: {{runAsUser: 0, privileged: true}}
    volumes: [{{name: disk, emptyDir: {{}}}}]
    """
    site.ready("contexts", spec)
    app = status_of(site, "contexts")
    assert app["Uid"].split() == ["1000"] * 4
    assert app["Gid"].split() == ["3000"] * 4
    assert {"2000", "4000"} <= set(app["Groups"].split())
    assert (app["NoNewPrivs"], app["Seccomp"], int(app["CapBnd"], 16)) == ("1", "2", 0)
    site.run("contexts", "touch", "/disk/file")
    assert site.run("contexts", "stat", "-c", "%g", "/disk/file") == "2000"
    assert "Read-only" in site.run("contexts", "sh", "-c", "touch /file 2>&1; true")
    assert site.run("contexts", "cat", "/proc/sys/net/ipv4/ip_unprivileged_port_start") == "80"
    root = status_of(site, "contexts", "root")
    assert (root["Seccomp"], int(root["CapEff"], 16)) == ("0", 1 << 10)
    own = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    mighty = status_of(site, "contexts", "mighty")
    assert int(mighty["CapBnd"], 16) == int(own["CapBnd"], 16)
    assert mighty["Seccomp"] == "0"


def test_run_as_non_root_is_refused_to_root(site: Site) -> None:
    spec = f"containers: [{{name: app, image: BUSYBOX, {SLEEP}, securityContext: {{runAsNonRoot: true}}}}]"
    site.write("nonroot", spec)

    def waiting() -> str:
        return str(site.container("nonroot").get("state", {}).get("waiting", {}).get("reason", ""))

    wait_for("it is refused", lambda: waiting() == "CreateContainerConfigError")


def test_user_namespaces(site: Site) -> None:
    release = tuple(int(part) for part in os.uname().release.split(".")[:2])
    if release < (6, 3):
        pytest.skip("user namespaces need Linux 6.3")
    spec = f"""
    hostUsers: false
    containers:
    - {{name: app, image: BUSYBOX, {SLEEP}, volumeMounts: [{{name: disk, mountPath: /disk}}]}}
    volumes: [{{name: disk, emptyDir: {{}}}}]
    """
    for name in ("first", "second"):
        site.write(name, spec)
    maps = []
    for name in ("first", "second"):
        site.kubelet.wait_ready(name)
        inside, outside, size = site.run(name, "cat", "/proc/self/uid_map").split()
        assert (inside, size) == ("0", "65536")
        maps.append(int(outside))
        site.run(name, "touch", "/disk/file")
        assert site.run(name, "stat", "-c", "%u", "/disk/file", "/bin/busybox").split() == ["0", "0"]
    assert 0 not in maps
    assert abs(maps[0] - maps[1]) >= 65536


def test_shared_namespaces(site: Site) -> None:
    spec = f"""
    shareProcessNamespace: true
    hostname: named
    hostAliases: [{{ip: 10.1.2.3, hostnames: [alias.example]}}]
    dnsPolicy: None
    dnsConfig: {{nameservers: [192.0.2.53], searches: [one.example]}}
    containers:
    - {{name: app, image: BUSYBOX, {SLEEP}}}
    - {{name: other, image: BUSYBOX, command: [sleep, "2000"]}}
    """
    site.ready("shared", spec)
    assert "sleep 2000" in site.run("shared", "ps", "-o", "args")
    assert site.run("shared", "hostname") == "named"
    hosts = [line.split() for line in site.run("shared", "cat", "/etc/hosts").splitlines()]
    assert ["10.1.2.3", "alias.example"] in hosts
    assert site.run("shared", "cat", "/etc/resolv.conf").splitlines() == [
        "search one.example",
        "nameserver 192.0.2.53",
    ]


def test_host_namespaces(site: Site) -> None:
    spec = f"""
    hostNetwork: true
    hostPID: true
    hostIPC: true
    containers: [{{name: app, image: BUSYBOX, {SLEEP}}}]
    """
    site.ready("host", spec)
    for name in ("net", "pid", "ipc"):
        assert site.run("host", "readlink", f"/proc/self/ns/{name}") == os.readlink(f"/proc/self/ns/{name}")
    assert site.run("host", "hostname") == socket.gethostname()


def test_a_host_port(site: Site) -> None:
    port = free_port()
    spec = f"""
    containers:
    - name: app
      image: AGNHOST
      args: [netexec, --http-port=8080]
      ports: [{{containerPort: 8080, hostPort: {port}}}]
    """
    site.ready("port", spec)

    def answer() -> bytes:
        try:
            with socket.create_connection(("127.0.0.1", port), 10) as connection:
                connection.sendall(b"GET /hostname HTTP/1.0\r\n\r\n")
                return connection.makefile("rb").read()
        except OSError:
            return b""

    wait_for("the host port answers", lambda: answer().endswith(b"port-host"))


def test_the_image_says_who_runs(site: Site) -> None:
    site.write("image", "restartPolicy: Never\ncontainers: [{name: app, image: CONFIGURED}]")
    site.kubelet.wait_pod("image", "Succeeded", lambda pod: pod["status"]["phase"] == "Succeeded")
    assert site.logs("image").startswith("uid=1000 gid=1000 groups=1000 29 44 pwd=/app greeting=hello")
