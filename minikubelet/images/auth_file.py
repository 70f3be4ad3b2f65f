"""Credentials that this machine has for registries: docker's ``config.json`` or containers' ``auth.json``.

Sources: containers-auth.json(5); docker's ``config.json`` (``auths``, ``credHelpers``, ``credsStore``) and
the protocol of docker-credential-helpers. The file is read when a registry asks for credentials, so that
changes need no restart. Nothing of it is ever logged or part of a message but registries' names.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import stat
import subprocess
from collections.abc import Mapping
from typing import Any

from minikubelet.base.errors import Code, NodeError
from minikubelet.images.auth import check_credentials
from minikubelet.images.hosts import DOCKER_HUB, Host, read_small
from minikubelet.images.models import Credentials
from minikubelet.images.reference import DEFAULT_DOMAIN

HELPER_SECONDS = 10.0
"""How long a credential helper may take; it may ask a cloud's metadata service."""
_HELPER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")
_HELPER_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_HUB_NAMES = (DEFAULT_DOMAIN, "index.docker.io", DOCKER_HUB)
_HUB_URL = "https://index.docker.io/v1/"
"""What Docker Hub is called in docker's files and by its helpers."""
_TOKEN_USER = "<token>"
"""The user name by which helpers mark an identity token."""


class AuthFile:
    """The file at ``path``, and the helpers it names."""

    def __init__(self, path: str) -> None:
        self._path = path

    async def credentials(self, host: Host, repository: str) -> Credentials | None:
        """What there is for a repository of ``host``, the most specific entry first; None without one.

        Raises NodeError(FAILED_PRECONDITION) that names file and key.
        """
        return await asyncio.to_thread(self.find, host, repository)

    def find(self, host: Host, repository: str) -> Credentials | None:
        """As ``credentials``; blocks on the file, and on a helper."""
        document = self._read()
        names = _names(host, repository)
        helper = _look_up(self._table(document, "credHelpers"), names)
        if helper is not None:
            return self._from_helper(helper[1], f"credHelpers.{helper[0]!r}", host)
        entry = _look_up(self._table(document, "auths"), names)
        if entry is not None and entry[1]:
            return self._from_entry(entry[1], f"auths.{entry[0]!r}")
        if document.get("credsStore"):
            return self._from_helper(document["credsStore"], "credsStore", host)
        return None

    def _read(self) -> Mapping[str, Any]:
        try:
            status = os.stat(self._path)
            if status.st_uid not in (0, os.geteuid()):
                raise self._wrong(f"belongs to user {status.st_uid}, not to root")
            if status.st_mode & 0o077:
                mode = stat.S_IMODE(status.st_mode)
                raise self._wrong(f"others may read or write it (mode {mode:04o}): chmod 600")
            document = json.loads(read_small(self._path))
        except OSError as exc:
            raise self._wrong(exc.strerror or str(exc)) from None
        except (ValueError, RecursionError):
            raise self._wrong("is not JSON") from None  # the parser's words could quote a secret
        if not isinstance(document, dict):
            raise self._wrong("must be an object")
        return document

    def _table(self, document: Mapping[str, Any], key: str) -> Mapping[str, Any]:
        table = document.get(key, {})
        if not isinstance(table, dict):
            raise self._wrong(f"{key}: must be an object")
        return table

    def _from_entry(self, entry: Any, key: str) -> Credentials:
        if not isinstance(entry, dict):
            raise self._wrong(f"{key}: must be an object")
        known = ("username", "password", "auth", "identitytoken", "registrytoken")
        values = {name: entry.get(name) or "" for name in known}
        for name, value in values.items():
            if not isinstance(value, str):
                raise self._wrong(f"{key}.{name}: must be a string")
        credentials = Credentials(
            username=values["username"],
            password=values["password"],
            auth=values["auth"],
            identity_token=values["identitytoken"],
            registry_token=values["registrytoken"],
        )
        return self._checked(credentials, key)

    def _from_helper(self, name: Any, key: str, host: Host) -> Credentials | None:
        if not isinstance(name, str) or not _HELPER.match(name):
            raise self._wrong(f"{key}: must be the end of a program's name, docker-credential-…")
        program = shutil.which(f"docker-credential-{name}", path=_HELPER_PATH)
        if program is None:
            raise self._wrong(f"{key}: there is no program docker-credential-{name}")
        server = _HUB_URL if host.authority == DOCKER_HUB else host.authority
        try:
            # By vfork(2): the size of this process doesn't matter.
            done = subprocess.run(
                [program, "get"],
                input=server.encode(),
                capture_output=True,
                timeout=HELPER_SECONDS,
                check=False,
                cwd="/",
            )
        except subprocess.TimeoutExpired:
            raise self._wrong(f"{key}: {program} gave no answer within {HELPER_SECONDS:.0f} s") from None
        except OSError as exc:
            raise self._wrong(f"{key}: {program}: {exc.strerror}") from None
        if done.returncode != 0:
            if b"credentials not found" in done.stdout:
                return None
            raise self._wrong(f"{key}: {program} failed with status {done.returncode}")
        return self._answer(done.stdout, f"{key}: {program}")

    def _answer(self, output: bytes, key: str) -> Credentials:
        try:
            answer = json.loads(output)
            user, secret = answer["Username"], answer["Secret"]
        except (ValueError, RecursionError, KeyError, TypeError):
            user = secret = None
        if not isinstance(user, str) or not isinstance(secret, str):
            raise self._wrong(f"{key}: has answered something else than Username and Secret")
        token = user == _TOKEN_USER
        return self._checked(
            Credentials(identity_token=secret) if token else Credentials(username=user, password=secret), key
        )

    def _checked(self, credentials: Credentials, key: str) -> Credentials:
        try:
            check_credentials(credentials)
        except NodeError as exc:
            raise self._wrong(f"{key}: {exc.message}") from None
        return credentials

    def _wrong(self, why: str) -> NodeError:
        return NodeError(Code.FAILED_PRECONDITION, f"{self._path}: {why}", reason="RegistryCredentials")


def _names(host: Host, repository: str) -> list[str]:
    """The keys that fit, the most specific first: HOST/A/B, HOST/A, HOST."""
    parts = repository.split("/")
    paths = ["/".join(parts[:count]) for count in range(len(parts), 0, -1)]
    authority = host.authority.lower()
    servers = _HUB_NAMES if authority == DOCKER_HUB else (authority,)
    return [f"{server}/{path}" for path in paths for server in servers] + list(servers)


def _look_up(table: Mapping[str, Any], names: list[str]) -> tuple[str, Any] | None:
    known = {_normal(key): (key, value) for key, value in table.items()}
    return next((known[name] for name in names if name in known), None)


def _normal(key: str) -> str:
    """``https://index.docker.io/v1/`` as ``index.docker.io``; docker writes keys that way."""
    name = key.removeprefix("https://").removeprefix("http://").rstrip("/")
    for version in ("/v1", "/v2"):
        name = name.removesuffix(version)
    host, slash, path = name.partition("/")
    return host.lower() + slash + path
