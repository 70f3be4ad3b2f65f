"""What kubectl sends to an API server for ``debug --copy-to``: ``debug_copies.json`` beside this file.

``python -m tests.unit.cli.debug_copies`` asks kubectl (``scripts/peers kubectl``) anew: an HTTP server that
knows one pod takes what it sends. As that is protobuf, a program of a few lines of Go makes it JSON.
"""

from __future__ import annotations

import contextlib
import http.server
import json
import shlex
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

Json = dict[str, Any]
FILE = Path(__file__).with_suffix(".json")
_KUBECTL = "/var/cache/minikubelet-peers/bin/kubectl"
_PODS = "/api/v1/namespaces/default/pods"


def load() -> Json:
    """``pod``, ``custom`` (a profile) and ``copies``: the pod that kubectl makes, by words."""
    with FILE.open() as file:
        return dict(json.load(file))


_GO_MOD = "module asjson\ngo 1.26\nrequire k8s.io/api v0.36.1\nrequire k8s.io/apimachinery v0.36.1\n"
_GO = """\
package main

import (
	"encoding/json"
	"io"
	"os"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

func main() {
	data, _ := io.ReadAll(os.Stdin)
	var envelope runtime.Unknown
	var pod v1.Pod
	if err := envelope.Unmarshal(data[4:]); err != nil {
		panic(err)
	}
	if err := pod.Unmarshal(envelope.Raw); err != nil {
		panic(err)
	}
	json.NewEncoder(os.Stdout).Encode(&pod)
}
"""


class _Server(http.server.ThreadingHTTPServer):
    pod: Json
    sent: bytes = b""


class _Handler(http.server.BaseHTTPRequestHandler):
    server: _Server

    def do_GET(self) -> None:
        verbs = ["create", "delete", "get", "list", "watch"]
        pods = {"name": "pods", "singularName": "pod", "namespaced": True, "kind": "Pod", "verbs": verbs}
        answers: dict[str, Json] = {
            "/api": {"kind": "APIVersions", "versions": ["v1"]},
            "/apis": {"kind": "APIGroupList", "apiVersion": "v1", "groups": []},
            "/api/v1": {"kind": "APIResourceList", "groupVersion": "v1", "resources": [pods]},
            f"{_PODS}/{self.server.pod['metadata']['name']}": self.server.pod,
        }
        self._answer(answers.get(self.path.partition("?")[0]))

    def do_POST(self) -> None:
        self.server.sent = self.rfile.read(int(self.headers["Content-Length"]))
        self._answer(self.server.pod)

    def _answer(self, body: Json | None) -> None:
        self.send_response(200 if body else 404)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(json.dumps(body or {"kind": "Status", "code": 404}).encode())

    def log_message(self, format: str, *args: Any) -> None:
        pass


@contextlib.contextmanager
def _served(pod: Json) -> Iterator[_Server]:
    with _Server(("127.0.0.1", 0), _Handler) as server:
        server.pod = pod
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def _ask(known: Json, words: str, folder: Path) -> Json | str:
    """The pod that kubectl sends, or what it says."""
    (folder / "custom.json").write_text(json.dumps(known["custom"]))
    with _served(known["pod"]) as server:
        where = ["--server", f"http://127.0.0.1:{server.server_port}", "--cache-dir", str(folder)]
        command = [_KUBECTL, "debug", "web", *where, *shlex.split(words)]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        if done.returncode:
            return done.stderr.removeprefix("error: ").strip()
    shown = subprocess.run([folder / "asjson"], input=server.sent, capture_output=True, check=True)
    return dict(json.loads(shown.stdout))


def record() -> None:
    """Write what kubectl sends."""
    known = load()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "go.mod").write_text(_GO_MOD)
        (folder / "main.go").write_text(_GO)
        subprocess.run(["go", "build", "-mod=mod", "-o", "asjson", "."], cwd=folder, check=True)
        known["copies"] = {words: _ask(known, words, folder) for words in known["copies"]}
    copies = ",\n".join(
        f"{json.dumps(words)}:\n  {json.dumps(made)}" for words, made in known["copies"].items()
    )
    rest = [f'"{name}": {json.dumps(known[name])}' for name in ("pod", "custom")]
    FILE.write_text("{\n" + ",\n".join([*rest, f'"copies": {{\n{copies}\n}}']) + "\n}\n")


if __name__ == "__main__":
    record()
