"""Which images a pattern of registries is meant for, as credentials are chosen by it."""

from __future__ import annotations

import fnmatch

from minikubelet.criapi import api_pb2 as api

Entry = tuple[str, api.AuthConfig]
"""Host, port and path that credentials are for, and the credentials."""


def fits(key: str, image: str) -> bool:
    """Whether ``key`` (HOST[:PORT][/PATH], wildcards in the host's labels) is meant for ``image``.

    A wildcard stays within its label, the port must be the same, the path is a prefix (upstream's
    pkg/credentialprovider, URLsMatch).
    """
    host, _, path = key.partition("/")
    target, _, rest = image.partition("/")
    name, _, port = host.partition(":")
    target_name, _, target_port = target.partition(":")
    labels, target_labels = name.split("."), target_name.split(".")
    if port != target_port or len(labels) != len(target_labels):
        return False
    if path and not f"/{rest}".startswith(f"/{path}"):
        return False
    pairs = zip(labels, target_labels, strict=True)
    return all(fnmatch.fnmatchcase(target_label, label) for label, target_label in pairs)


def without_tag(image: str) -> str:
    """The name alone, without tag and digest."""
    name = image.partition("@")[0]
    head, colon, tag = name.rpartition(":")
    return head if colon and "/" not in tag else name
