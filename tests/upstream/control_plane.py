"""etcd and kube-apiserver on loopback, and kubectl to talk to them: a control plane as small as can be."""

from __future__ import annotations

import json
import os
import subprocess
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import yaml

from tests.certificates import make_authority
from tests.host import leaks
from tests.ports import free_port
from tests.terminal import Terminal
from tests.upstream_kubelet import PATIENCE, PEERS, wait_for

ADMIN, KUBELET = "admin-token", "kubelet-token"
NODE = "localhost"
"""The node's name, by which the API server finds its kubelet: the address must not be one of loopback."""


class KubectlFailed(AssertionError):
    """kubectl's exit code wasn't 0."""


class ControlPlane:
    """A context manager. There is no scheduler and no controller: tests name the node themselves."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.port = free_port()
        self.url = f"https://127.0.0.1:{self.port}"
        self._processes: list[subprocess.Popen[bytes]] = []
        home.mkdir(parents=True, exist_ok=True)
        self.admin_config = self._kubeconfig("admin", ADMIN)
        self.kubelet_config = self._kubeconfig("kubelet", KUBELET)
        self.env = {**os.environ, "KUBECONFIG": str(self.admin_config), "HOME": str(home)}

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        self.stop()

    def stop(self) -> None:
        while self._processes:
            process = self._processes.pop()
            leaks.unexpect(process.pid)
            process.kill()
            process.wait()

    def _start(self) -> None:
        etcd = f"http://127.0.0.1:{free_port()}"
        peer = f"http://127.0.0.1:{free_port()}"
        self._run(
            "etcd",
            *("--data-dir", str(self.home / "etcd"), "--unsafe-no-fsync", "--log-level", "warn"),
            *("--listen-client-urls", etcd, "--advertise-client-urls", etcd),
            *("--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer),
            *("--initial-cluster", f"default={peer}"),
        )
        authority = make_authority(self.home)
        tokens = self.home / "tokens.csv"
        tokens.write_text(
            f'{ADMIN},admin,1,"system:masters"\n{KUBELET},system:node:{NODE},2,"system:nodes"\n'
        )
        self._run(
            "kube-apiserver",
            *("--etcd-servers", etcd, "--bind-address", "127.0.0.1", "--secure-port", str(self.port)),
            *("--tls-cert-file", str(authority.certificate), "--tls-private-key-file", str(authority.key)),
            *("--token-auth-file", str(tokens), "--authorization-mode", "Node,RBAC"),
            *("--enable-admission-plugins", "NodeRestriction", "--allow-privileged"),
            *("--service-account-issuer", "https://kubernetes.default.svc"),
            *("--service-account-key-file", str(authority.certificate)),
            *("--service-account-signing-key-file", str(authority.key)),
            *("--service-cluster-ip-range", "10.96.0.0/24", "--endpoint-reconciler-type", "none"),
            *("--kubelet-preferred-address-types", "Hostname"),
        )
        wait_for("the API server is ready", self._ready)
        # What a controller manager would make for each namespace.
        wait_for("the namespace default", lambda: "default" in self.kubectl("get", "namespaces"))
        self.kubectl("create", "serviceaccount", "default")
        self.kubectl("create", "configmap", "kube-root-ca.crt", f"--from-file=ca.crt={authority.path}")

    def _run(self, name: str, *arguments: str) -> None:
        with open(self.home / f"{name}.log", "wb") as log:
            process = subprocess.Popen(
                [str(PEERS / name), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.home,
                start_new_session=True,
            )
        self._processes.append(process)
        leaks.expect(process.pid)

    def _ready(self) -> bool:
        for process, name in zip(self._processes, ("etcd", "kube-apiserver"), strict=True):
            log = (self.home / f"{name}.log").read_text(errors="replace")[-4000:]
            assert process.poll() is None, f"{name} ended ({process.returncode}):\n{log}"
        try:
            return self.kubectl("get", "--raw", "/readyz") == "ok"
        except KubectlFailed:
            return False

    def _kubeconfig(self, name: str, token: str) -> Path:
        path = self.home / f"{name}.conf"
        cluster = {"server": self.url, "certificate-authority": str(self.home / "ca.pem")}
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "test", "cluster": cluster}],
            "users": [{"name": name, "user": {"token": token}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": name}}],
            "current-context": "test",
        }
        path.write_text(yaml.safe_dump(config))
        return path

    # --- kubectl ---------------------------------------------------------------------------------------

    def kubectl(self, *arguments: str | Path, stdin: str | None = None) -> str:
        """Run kubectl; its standard output, stripped. Raises KubectlFailed."""
        done = subprocess.run(
            [PEERS / "kubectl", *arguments],
            env=self.env,
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            timeout=2 * PATIENCE,  # kubectl's own come first
        )
        if done.returncode != 0:
            shown = f"{done.stdout}{done.stderr}"
            raise KubectlFailed(f"kubectl {arguments}: exit code {done.returncode}\n{shown}")
        return done.stdout.strip()

    def json(self, *arguments: str) -> Any:
        return json.loads(self.kubectl(*arguments, "-o", "json"))

    def run_pod(self, name: str, image: str, *command: str, **spec: Any) -> None:
        """`kubectl run` on our node, and wait until the pod is Ready. ``spec`` goes into the pod's."""
        overrides = {"spec": {"nodeName": NODE, "terminationGracePeriodSeconds": 1, **spec}}
        arguments = ["run", name, f"--image={image}", f"--overrides={json.dumps(overrides)}"]
        self.kubectl(*arguments, *(["--command", "--", *command] if command else []))
        self.wait_ready(name)

    def wait_ready(self, name: str) -> None:
        self.kubectl("wait", "--for=condition=Ready", f"pod/{name}", f"--timeout={PATIENCE:.0f}s")

    def terminal(self, *arguments: str, size: tuple[int, int] = (24, 80)) -> Terminal:
        """kubectl on a terminal."""
        return Terminal([PEERS / "kubectl", *arguments], env=self.env, size=size)

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """kubectl in the background, its standard input and output in pipes."""
        command: Sequence[str | Path] = [PEERS / "kubectl", *arguments]
        pipe = subprocess.PIPE
        return subprocess.Popen(
            command, env=self.env, text=True, stdin=pipe, stdout=pipe, stderr=subprocess.STDOUT
        )


def fetch(url: str) -> bytes:
    """The body of a page; empty as long as there is none."""
    try:
        with urllib.request.urlopen(url, timeout=PATIENCE) as answer:
            body: bytes = answer.read()
            return body
    except OSError:
        return b""
