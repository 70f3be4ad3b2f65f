"""An upstream kubelet on our daemon's CRI socket, and what tests ask of the two."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.host.node import CrictlFailed, Node
from tests.upstream_kubelet import UpstreamKubelet, container_status, wait_for


class Site:
    """The daemon without its own kubelet, and upstream's in its place."""

    def __init__(
        self, node: Node, home: Path, images: Mapping[str, str], settings: Mapping[str, Any] | None = None
    ) -> None:
        self.node = node
        self.images = images
        self.kubelet = UpstreamKubelet(home, node.config.listen, settings=settings)

    def write(self, name: str, spec: str, metadata: str = "") -> None:
        """A static pod; in its spec BUSYBOX, CONFIGURED and AGNHOST stand for the images.

        Its grace period is short unless it says so: a shell's `sleep` as PID 1 does not hear SIGTERM.
        """
        if "terminationGracePeriodSeconds" not in spec:
            spec = f"terminationGracePeriodSeconds: 1\n{textwrap.dedent(spec)}"
        body = textwrap.indent(textwrap.dedent(spec), "  ")
        for word, reference in self.images.items():
            body = body.replace(word, reference)
        text = f"apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, {metadata}}}\nspec:\n{body}"
        self.kubelet.write(name, text)

    def ready(self, name: str, spec: str, metadata: str = "") -> dict[str, Any]:
        """Write the manifest and wait until the pod is Ready; the pod."""
        self.write(name, spec, metadata)
        return self.kubelet.wait_ready(name)

    def container(self, pod: str, name: str = "app") -> dict[str, Any]:
        """A container's status now; empty as long as there is none."""
        found = self.kubelet.pod(pod)
        try:
            return container_status(found or {}, name)
        except LookupError:
            return {}

    def container_id(self, pod: str, name: str = "app") -> str:
        """The ID that the runtime gave it."""
        identifier: str = self.container(pod, name).get("containerID", "")
        assert identifier.startswith("minikubelet://"), identifier
        return identifier.removeprefix("minikubelet://")

    def run(self, pod: str, *command: str, container: str = "app") -> str:
        """Run a program in a pod's container; what it prints."""
        return self.node.crictl("exec", "--sync", self.container_id(pod, container), *command)

    def wait_output(self, pod: str, text: str, *command: str, container: str = "app") -> None:
        """Wait until a program in the pod prints exactly that."""

        def output() -> str:
            try:
                return self.run(pod, *command, container=container)
            except (CrictlFailed, AssertionError) as exc:
                return str(exc)

        wait_for(f"{command} in {pod} prints {text!r}", lambda: output() == text)

    def logs(self, pod: str, container: str = "app", query: str = "") -> str:
        """Through the kubelet's API."""
        path = f"/containerLogs/default/{pod}-{self.kubelet.node_name}/{container}"
        return self.kubelet.get(path + (f"?{query}" if query else "")).decode()

    def clean(self) -> None:
        """Take away all pods, by the kubelet if it still works, and in any case by the runtime."""
        try:
            self.kubelet.drain()
        finally:
            self.node.crictl("rmp", "--all", "--force")
