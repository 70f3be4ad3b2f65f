"""The rest of crictl: what test_crictl.py and test_crictl_streams.py leave out, and every form of output."""

from __future__ import annotations

import base64
import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.host.node import CrictlFailed, Node
from tests.images import catalog
from tests.registry import Auth, Registry

FORMS = {
    "images": "json yaml table",
    "inspect": "json yaml table go-template",
    "inspecti": "json yaml table go-template",
    "inspectp": "json yaml table go-template",
    "imagefsinfo": "json yaml table go-template",
    "info": "json yaml go-template",
    "pods": "json yaml table",
    "ps": "json yaml table",
    "stats": "json yaml table",
    "statsp": "json yaml table",
    "metricsp": "json yaml",
    "metricdescs": "json yaml",
}
ROOT = {
    "images": "images",
    "inspect": "status",
    "inspecti": "status",
    "inspectp": "status",
    "imagefsinfo": "status",
    "info": "status",
    "pods": "items",
    "ps": "containers",
    "stats": "stats",
    "statsp": "stats",
    "metricsp": "podMetrics",
    "metricdescs": "descriptors",
}
"""The field that each answer has at its top; in it is what was asked for."""


@pytest.mark.parametrize(("verb", "form"), [(verb, form) for verb in FORMS for form in FORMS[verb].split()])
def test_output(node: Node, busybox: str, verb: str, form: str) -> None:
    pod = node.run_pod("output")
    container = node.start_container(pod, "main", busybox, "sleep", "1000")
    target = {"inspect": [container], "inspectp": [pod], "inspecti": [busybox]}.get(verb, [])
    options = ["--output", form]
    if form == "go-template":
        options += ["--template", "{{.status}}"]
    shown = node.crictl(verb, *options, *target)
    if form in ("json", "yaml"):
        answer: dict[str, Any] = json.loads(shown) if form == "json" else yaml.safe_load(shown)
        assert answer[ROOT[verb]]
    elif form == "table":
        assert len(shown.splitlines()) > 1
    else:
        assert shown.startswith(("map[", "{"))
    if verb in ("inspect", "inspectp", "ps", "pods", "stats", "statsp") and form != "go-template":
        assert (container if verb in ("inspect", "ps", "stats") else pod)[:13] in shown


def test_two_at_once(node: Node, busybox: str) -> None:
    pods = [node.run_pod(name) for name in ("one", "two")]
    containers = [node.start_container(pod, "main", busybox, "sleep", "1000") for pod in pods]
    inspected = json.loads(node.crictl("inspect", *containers))
    assert [each["status"]["id"] for each in inspected] == containers
    node.crictl("stop", "--timeout", "0", *containers)
    node.crictl("rm", *containers)
    node.crictl("stopp", *pods)
    node.crictl("rmp", *pods)
    assert node.crictl("pods", "--quiet") == ""


def test_filters(node: Node, busybox: str) -> None:
    first = node.run_pod("first", labels={"tier": "front"})
    second = node.run_pod("second", labels={"tier": "back"})
    container = node.start_container(first, "main", busybox, "sleep", "1000", labels={"role": "main"})
    node.wait_exited(node.start_container(second, "other", busybox, "true"))
    quiet = ("--quiet", "--no-trunc")
    assert node.crictl("pods", *quiet, "--label", "tier=back") == second
    assert node.crictl("pods", *quiet, "--name", "first") == first
    assert node.crictl("pods", *quiet, "--latest") == second
    assert node.crictl("ps", *quiet) == container
    assert node.crictl("ps", *quiet, "--label", "role=main") == container
    assert node.crictl("ps", *quiet, "--pod", first) == container
    assert len(node.crictl("ps", *quiet, "--all").splitlines()) == 2
    assert node.crictl("ps", *quiet, "--all", "--state", "Exited") != container
    assert node.crictl("exec", "--sync", "--label", "role=main", "--quiet", "hostname") == "first"


def test_update(node: Node, busybox: str) -> None:
    container = node.start_container(node.run_pod("update"), "main", busybox, "sleep", "1000")
    try:
        node.crictl("update", "--cpu-share", "512", container)
    except CrictlFailed as failed:  # where no controller could enforce it
        assert "cpu" in failed.output
        return
    resources = node.status(container)["resources"]["linux"]
    assert int(resources["cpuShares"]) == 512


def test_runtime_config(node: Node) -> None:
    assert re.search(r"cgroup driver: +CGROUPFS", node.crictl("runtime-config"))
    node.crictl("update-runtime-config", "--pod-cidr", "10.99.0.0/24")


def test_checkpoint_works_or_says_what_is_missing(node: Node, busybox: str, tmp_path: Path) -> None:
    container = node.start_container(node.run_pod("checkpoint"), "main", busybox, "sleep", "1000")
    archive = tmp_path / "checkpoint.tar"
    try:
        node.crictl("checkpoint", "--export", str(archive), container)
    except CrictlFailed as failed:
        assert "Unimplemented" in failed.output or "FailedPrecondition" in failed.output
        assert "CRIU" in failed.output.upper()  # it isn't there, or can't on this kernel
        assert not archive.exists()
        return
    assert archive.stat().st_size > 0


@pytest.mark.parametrize("option", ["creds", "auth"])
def test_pull_with_credentials(
    node: Node, certs_dir: Path, option: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Registry(auth=Auth("basic", "someone", "secret")) as private:
        reference = private.add("private:1", catalog.busybox())
        host = certs_dir / private.address
        host.mkdir(exist_ok=True)
        (host / "hosts.toml").write_text(f'server = "{private.url}"\n')
        with pytest.raises(CrictlFailed, match=r"401|Unauthori[sz]ed|Unauthenticated|PermissionDenied"):
            node.crictl("pull", reference)
        given = "someone:secret"
        value = given if option == "creds" else base64.b64encode(given.encode()).decode()
        assert "up to date" in node.crictl("pull", f"--{option}", value, reference)
        node.crictl("rmi", reference)


def test_images_are_removed(node: Node, busybox: str, registry: Registry) -> None:
    other = f"{registry.address}/configured:1"
    node.crictl("pull", other)
    assert node.crictl("images", "--quiet", other).startswith("sha256:")
    node.crictl("rmi", "--prune")  # those that no container uses
    assert json.loads(node.crictl("images", "-o", "json"))["images"] == []
    node.crictl("pull", busybox)


def test_stats_of_one(node: Node, busybox: str) -> None:
    pod = node.run_pod("stats")
    containers = [node.start_container(pod, name, busybox, "sleep", "1000") for name in ("one", "two")]
    (entry,) = json.loads(node.crictl("stats", "-o", "json", "--id", containers[0]))["stats"]
    assert entry["attributes"]["id"] == containers[0]
    assert int(entry["memory"]["workingSetBytes"]["value"]) >= 0
    assert entry["writableLayer"]["fsId"]["mountpoint"]
    (entry,) = json.loads(node.crictl("statsp", "-o", "json", "--id", pod))["stats"]
    assert entry["linux"]["network"]["defaultInterface"]["name"] == "eth0"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(node: Node, shell: str) -> None:
    assert "crictl" in node.crictl("completion", shell)


def test_config(node: Node, tmp_path: Path) -> None:
    file = tmp_path / "crictl.yaml"
    file.touch()
    assert node.crictl_path is not None
    crictl = (node.crictl_path, "--config", file)
    assignment = f"runtime-endpoint={node.config.listen},image-endpoint={node.config.listen}"
    subprocess.run([*crictl, "config", "--set", assignment], check=True)
    version = subprocess.check_output([*crictl, "version"], text=True)
    assert "RuntimeName:  minikubelet" in version
    got = subprocess.check_output([*crictl, "config", "--get", "runtime-endpoint"], text=True)
    assert got.strip() == node.config.listen


def test_run_and_create_can_pull(node: Node, busybox: str) -> None:
    node.crictl("rmi", busybox)
    pod = node.run_pod("pulls")
    files = (node.container_file("pulled", busybox, "sleep", "1000"), node.home / "pod-pulls.json")
    container = node.crictl("create", "--with-pull", pod, *files)
    assert node.status(container)["state"] == "CONTAINER_CREATED"
    node.crictl("start", container)
    node.crictl("rmp", "--force", pod)
    node.crictl("rmi", busybox)
    ran = node.crictl("run", node.container_file("ran", busybox, "sleep", "1000"), node.pod_file("runs"))
    assert node.status(ran)["state"] == "CONTAINER_RUNNING"


def test_an_unknown_runtime_handler(node: Node) -> None:
    with pytest.raises(CrictlFailed, match="no-such-handler"):
        node.crictl("runp", "--runtime", "no-such-handler", node.pod_file("handler"))
