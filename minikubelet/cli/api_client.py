"""The kubelet's local API from the command line: HTTP over a unix socket with the standard library alone."""

from __future__ import annotations

import http.client
import json
import socket
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote, urlencode

from minikubelet.cli.options import CommandError

_CONNECT_TIMEOUT = 5.0
Json = dict[str, Any]


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost")
        self.path = path

    def connect(self) -> None:
        self.sock = connect(self.path)


def connect(path: str) -> socket.socket:
    """A connection to the kubelet. Raises CommandError that says what to do."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        sock.settimeout(_CONNECT_TIMEOUT)
        sock.connect(path)
        sock.settimeout(None)
        return sock
    except (FileNotFoundError, ConnectionRefusedError, NotADirectoryError):
        raise not_running(path) from None
    except PermissionError:
        raise CommandError(f"no permission to use {path}: only its owner may; try sudo") from None
    except OSError as exc:
        raise CommandError(f"{path}: {exc.strerror or exc}") from None
    finally:
        if sock.gettimeout() is not None:
            sock.close()


def not_running(path: str) -> CommandError:
    """Nobody answers on a socket."""
    return CommandError(
        f"no minikubelet daemon answers on {path}; start one with 'sudo minikubelet daemon', "
        "or name the folder of one that runs with --run DIR"
    )


class ApiClient:
    """One request a call; each opens a connection of its own."""

    def __init__(self, path: str) -> None:
        self.path = path

    def pods(self) -> list[Json]:
        """All pods of the node."""
        return list(json.loads(self._get("/pods").read())["items"])

    def events(self, uid: str = "") -> list[Json]:
        """Events, oldest first; with ``uid`` those of one pod."""
        return list(json.loads(self._get("/events", uid=uid).read())["items"])

    def objects(self, *, sizes: bool = False) -> list[Json]:
        """ConfigMaps, Secrets (without values), claims and so on of the node's manifests.

        With ``sizes`` a Secret has ``sizes``, the number of bytes by key.
        """
        return list(json.loads(self._get("/objects", sizes="1" if sizes else "").read())["items"])

    def node(self) -> Json:
        """The v1 Node."""
        return dict(json.loads(self._get("/node").read()))

    def config(self) -> Json:
        """The KubeletConfiguration in force."""
        return dict(json.loads(self._get("/configz").read())["kubeletconfig"])

    def stats_summary(self) -> Json:
        """What the node and its pods use (stats/v1alpha1 Summary)."""
        return dict(json.loads(self._get("/stats/summary").read()))

    def watch(self, path: str, **query: str) -> Iterator[Json]:
        """The lines of a watch as they come; ends when the kubelet does."""
        return self.open_watch(path, **query).changes()

    def open_watch(self, path: str, **query: str) -> Watch:
        """A watch that begins now, to be read later."""
        connection = _UnixConnection(self.path)
        return Watch(_answer(connection, "GET", _with_query(path, {"watch": "1", **query})), connection)

    def logs(self, namespace: str, pod: str, container: str, query: dict[str, str]) -> Iterator[bytes]:
        """A log in pieces as they come."""
        path = "/containerLogs/" + "/".join(quote(word, safe="") for word in (namespace, pod, container))
        response = self._get(path, **query)
        try:
            while piece := response.read1(65536):
                yield piece
        except (http.client.IncompleteRead, ConnectionError) as exc:
            raise CommandError(f"the connection to the kubelet broke off: {exc}") from None

    def find_pod(self, namespace: str, name: str) -> Json:
        """One pod. Raises CommandError in kubectl's words."""
        here = [pod for pod in self.pods() if pod["metadata"].get("namespace") == namespace]
        for pod in here:
            if pod["metadata"]["name"] == full_name(here, name):
                return pod
        raise not_found(name)

    def add_ephemeral(self, namespace: str, pod: str, container: bytes) -> None:
        """Give a pod an ephemeral container, JSON of core/v1. Raises CommandError."""
        path = "/ephemeralContainers/" + "/".join(quote(word, safe="") for word in (namespace, pod))
        self._ask("POST", path, container)

    def _get(self, path: str, **query: str) -> http.client.HTTPResponse:
        return self._ask("GET", _with_query(path, query))

    def _ask(self, method: str, path: str, body: bytes | None = None) -> http.client.HTTPResponse:
        return _answer(_UnixConnection(self.path), method, path, body)


class Watch:
    """An open watch."""

    def __init__(self, response: http.client.HTTPResponse, connection: _UnixConnection) -> None:
        self._response = response
        self._socket: socket.socket = connection.sock

    def changes(self, end: float | None = None) -> Iterator[Json]:
        """The lines as they come; ends when the kubelet does.

        Raises TimeoutError at ``end``, seconds of :func:`time.monotonic`.
        """
        try:
            while True:
                if end is not None:
                    left = end - time.monotonic()
                    if left <= 0:
                        raise TimeoutError
                    self._socket.settimeout(left)
                line = self._response.readline()
                if not line:
                    return
                yield json.loads(line)
        except (http.client.IncompleteRead, ConnectionError):
            return


def _with_query(path: str, query: dict[str, str]) -> str:
    words = urlencode({name: value for name, value in query.items() if value})
    return f"{path}?{words}" if words else path


def _answer(
    connection: _UnixConnection, method: str, path: str, body: bytes | None = None
) -> http.client.HTTPResponse:
    """The answer to one request. Raises CommandError unless it is a success."""
    try:
        connection.request(method, path, body)
        response = connection.getresponse()
    except (http.client.HTTPException, ConnectionError) as exc:
        raise CommandError(f"{connection.path} does not answer as a kubelet: {exc}") from None
    if response.status not in (200, 201):
        raise CommandError(response.read(65536).decode("utf-8", "replace").strip() or response.reason)
    return response


def full_name(pods: list[Json], name: str) -> str:
    """The name of the pod that is meant: a manifest's pod is called NAME-NODE, and NAME will do for it."""
    names: dict[str, Json] = {pod["metadata"]["name"]: pod for pod in pods}
    if name in names:
        return name
    for full, pod in names.items():
        if full == f"{name}-{pod.get('spec', {}).get('nodeName', '').lower()}":
            return full
    return name


def not_found(name: str) -> CommandError:
    """kubectl's words for a pod that isn't there."""
    return CommandError(f'pods "{name}" not found')
