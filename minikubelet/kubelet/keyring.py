"""Credentials for pulls: a pod's imagePullSecrets, then the node's docker configuration and providers.

Which fit an image, and in which order, is upstream's rule (pkg/credentialprovider/keyring.go): an entry names
a host, maybe with a port and a path; labels of the host may hold wildcards; specific entries come first.
"""

from __future__ import annotations

import base64
import binascii
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from minikubelet.criapi import api_pb2 as api
from minikubelet.kubelet.credential_providers import CredentialProviders
from minikubelet.kubelet.events import WARNING, EventRecorder
from minikubelet.kubelet.image_match import Entry, fits, without_tag
from minikubelet.kubelet.lookups import Lookups
from minikubelet.kubelet.objects import Pod
from minikubelet.kubelet.pull_records import SecretKey, digest

log = logging.getLogger(__name__)

_DOCKER_HUB = "index.docker.io"
_KEYS = {
    "kubernetes.io/dockerconfigjson": ".dockerconfigjson",
    "kubernetes.io/dockercfg": ".dockercfg",
}
_LARGEST_FILE = 10 << 20


@dataclass(frozen=True)
class Credential:
    """One to be tried, and whose it is."""

    auth: api.AuthConfig
    secret: SecretKey | None = None
    """The pod's; None: the node's own."""


class Keyring:
    """One node's."""

    def __init__(
        self,
        lookups: Lookups,
        events: EventRecorder,
        folders: Sequence[str] = (),
        providers: CredentialProviders | None = None,
    ) -> None:
        """``folders`` hold the node's own ``config.json``; the first that is there counts."""
        self._lookups = lookups
        self._events = events
        self._folders = folders
        self._providers = providers

    async def credentials(self, pod: Pod, image: str) -> list[Credential]:
        """All that fit ``image``, in the order they are to be tried."""
        entries: list[Entry] = []
        sources: dict[int, SecretKey] = {}
        missing = []
        for reference in pod.spec.image_pull_secrets:
            if not reference.name:
                continue
            secret = await self._lookups.secret(pod.metadata.namespace, reference.name)
            if secret is None:
                missing.append(reference.name)
            elif (key := _KEYS.get(secret.type, "")) in secret.data:
                for entry in _entries(secret.data[key], inner=key == ".dockerconfigjson"):
                    entries.append(entry)
                    content = digest(entry[1])
                    sources[id(entry[1])] = SecretKey(pod.metadata.namespace, reference.name, content)
        if missing:
            message = (
                f"Unable to retrieve some image pull secrets ({', '.join(missing)}); attempting to pull the "
                "image may not succeed."
            )
            self._events.pod(pod, WARNING, "FailedToRetrieveImagePullSecret", message)
        place = _full(image)
        own = self._node_entries()
        if self._providers is not None:
            own += await self._providers.entries(without_tag(place))
        fitting = [*find(entries, place), *find(own, place)]
        return [Credential(auth, sources.get(id(auth))) for auth in fitting]

    def _node_entries(self) -> list[Entry]:
        for folder in self._folders:
            try:
                with open(os.path.join(folder, "config.json"), "rb") as file:
                    return _entries(file.read(_LARGEST_FILE), inner=True)
            except OSError:
                continue
        return []


def node_folders(root: str) -> list[str]:
    """Where the node's own credentials may be: the kubelet's folder, then the user's and the root's."""
    return [root, os.path.expanduser("~/.docker"), "/.docker"]


def _entries(text: bytes, *, inner: bool) -> list[Entry]:
    """What a docker configuration holds; what can't be read is left out. ``inner``: below ``auths``."""
    try:
        data: Any = msgspec.json.decode(text)
        auths = (data.get("auths") or {}) if inner else data
        return [_entry(place, each) for place, each in auths.items() if isinstance(each, dict)]
    except (msgspec.DecodeError, AttributeError, UnicodeDecodeError):
        log.warning("credentials for pulls: not a docker configuration")  # its text is secret
        return []


def _entry(place: str, given: Mapping[str, Any]) -> Entry:
    user, password = str(given.get("username") or ""), str(given.get("password") or "")
    if given.get("auth"):
        text = str(given["auth"]).strip()
        try:
            plain = base64.b64decode(text + "=" * (-len(text) % 4), validate=True).decode()
        except (binascii.Error, UnicodeDecodeError):
            log.warning("credentials for %s: 'auth' is not base64 of user:password", place)
            plain = ""
        user, _, password = plain.partition(":")
    return _key(place), api.AuthConfig(username=user, password=password)


def _key(place: str) -> str:
    """``https://HOST/v1/`` and ``HOST`` are one."""
    bare = place.removeprefix("https://").removeprefix("http://")
    host, slash, path = bare.partition("/")
    path = slash + path
    if path.startswith(("/v1/", "/v2/")):
        path = path[3:]
    return host if path in ("", "/") else host + path


def find(entries: Sequence[Entry], image: str) -> Iterator[api.AuthConfig]:
    """Credentials that fit ``image``, the most specific first."""
    fitting = [each for each in entries if fits(each[0], image)]
    if not fitting and _is_docker_hub(image):
        fitting = [each for each in entries if each[0] == _DOCKER_HUB]
    for _, credentials in sorted(fitting, key=lambda each: each[0], reverse=True):
        yield credentials


def _full(image: str) -> str:
    """``image`` with the registry's name."""
    if not _is_docker_hub(image) or image.startswith(("docker.io/", _DOCKER_HUB + "/")):
        return image
    return f"docker.io/{image}" if "/" in image else f"docker.io/library/{image}"


def _is_docker_hub(image: str) -> bool:
    host, slash, _ = image.partition("/")
    if not slash or host in ("docker.io", "index.docker.io"):
        return True
    return "." not in host and ":" not in host
