"""A node whose signature policy refuses an image: what crictl says, and what the pod waits with."""

from __future__ import annotations

import base64
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.host.node import PROGRAM, CrictlFailed, Node, wait_for
from tests.images import catalog, signing
from tests.registry import Registry

POD = """
apiVersion: v1
kind: Pod
metadata: {name: NAME}
spec:
  terminationGracePeriodSeconds: 0
  containers: [{name: app, image: IMAGE, command: [sleep, "1000"]}]
"""
KEY = signing.make_key()


@pytest.fixture
def node(certs_dir: Path, tmp_path: Path, registry: Registry) -> Iterator[Node]:
    signed = {
        "type": "sigstoreSigned",
        "keyData": base64.b64encode(signing.public_pem(KEY)).decode(),
        "signedIdentity": {"type": "matchRepository"},
    }
    policy = tmp_path / "policy.json"
    policy.write_text(json.dumps({"default": [signed]}))
    config = tmp_path / "config.yaml"
    config.write_text(f"signaturePolicy: {policy}\n")
    made = Node(tmp_path / "n", certs_dir, "--config", str(config), "--unenforced-limits=allow", kubelet=True)
    made.start()
    yield made
    made.finish()


def pod(node: Node, name: str) -> dict[str, Any]:
    command = [str(PROGRAM), "get", "pod", name, "-o", "json", "--run", str(node.run)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    found: dict[str, Any] = json.loads(done.stdout) if done.returncode == 0 else {}
    return found


def container(node: Node, name: str) -> dict[str, Any]:
    statuses = pod(node, name).get("status", {}).get("containerStatuses", [])
    return statuses[0] if statuses else {}


def test_refused_until_it_is_signed(node: Node, registry: Registry) -> None:
    image = catalog.busybox()
    unsigned, signed = registry.add("policy/unsigned:1", image), registry.add("policy/signed:1", image)
    data = signing.payload(image.digest, signed.rpartition(":")[0])
    signature = signing.signature_image((data, signing.sign(KEY, data)))
    registry.add(f"policy/signed:{signing.signature_tag(image.digest)}", signature)

    with pytest.raises(CrictlFailed, match=r"Unknown desc = SignatureValidationFailed: pull .*no signature"):
        node.crictl("pull", unsigned)
    node.crictl("pull", signed)

    for name, reference in (("good", signed), ("bad", unsigned)):
        (node.manifests / f"{name}.yaml").write_text(POD.replace("NAME", name).replace("IMAGE", reference))
    wait_for("the signed one runs", lambda: container(node, "good").get("started"))
    words = (
        f"image pull failed for {unsigned} because the signature validation failed: pull {unsigned}: there is"
    )

    def refused() -> bool:
        waiting = container(node, "bad").get("state", {}).get("waiting", {})
        reasons = ("SignatureValidationFailed", "ImagePullBackOff")
        return waiting.get("reason") in reasons and words in waiting.get("message", "")

    wait_for("the other is refused, and why", refused)
