"""Credential providers: programs of the node's that are asked for a registry's credentials (KEP-2133).

Which programs, and for which images, a CredentialProviderConfig says (kubelet.config.k8s.io/v1). A program
reads a CredentialProviderRequest on its standard input and writes a CredentialProviderResponse; that says how
long and for which other images it holds. Nothing of an answer is ever logged.
"""

from __future__ import annotations

import asyncio
import logging
import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from minikubelet.base.clock import monotonic
from minikubelet.base.errors import invalid
from minikubelet.criapi import api_pb2 as api
from minikubelet.kubelet.clock import Clock
from minikubelet.kubelet.configuration.document import only_document
from minikubelet.kubelet.configuration.kinds import seconds
from minikubelet.kubelet.image_match import Entry, fits
from minikubelet.kubelet.manifests.decode import convert
from minikubelet.kubelet.manifests.errors import ManifestError
from minikubelet.kubelet.metrics.images import ImageInstruments
from minikubelet.kubelet.objects.base import Object

log = logging.getLogger(__name__)

TIMEOUT = 60.0
"""Seconds that a program has for its answer, as upstream gives it."""
MAX_BYTES = 1 << 20
"""As much of an answer is read."""
_GROUP = "kubelet.config.k8s.io"
_KIND = "CredentialProviderConfig"
_VERSIONS = tuple(f"credentialprovider.kubelet.k8s.io/{each}" for each in ("v1", "v1beta1", "v1alpha1"))
_SUFFIXES = (".json", ".yaml", ".yml")


class ExecEnvVar(Object):
    """A variable of the program's, beside the kubelet's own."""

    name: str
    value: str = ""


class CredentialProvider(Object):
    """One program: when it is asked, and how."""

    name: str
    match_images: list[str]
    default_cache_duration: str
    api_version: str
    args: list[str] = msgspec.field(default_factory=list)
    env: list[ExecEnvVar] = msgspec.field(default_factory=list)
    token_attributes: dict[str, Any] | None = None


class CredentialProviderConfig(Object):
    """The file."""

    api_version: str
    kind: str
    providers: list[CredentialProvider]


class _Auth(msgspec.Struct, rename="camel"):
    username: str = ""
    password: str = ""


class _Response(msgspec.Struct, rename="camel"):
    api_version: str
    kind: str
    cache_key_type: str
    cache_duration: str | None = None
    auth: dict[str, _Auth] | None = None


class ProviderFailed(Exception):
    """A program gave no usable answer; the text says why, and holds nothing of the answer."""


@dataclass(frozen=True)
class _Kept:
    until: float
    entries: list[Entry]


@dataclass
class _Plugin:
    provider: CredentialProvider
    program: str
    kept: dict[str, _Kept] = field(default_factory=dict)
    asked: dict[str, asyncio.Task[list[Entry]]] = field(default_factory=dict)
    """By image: who wants the same waits for the same answer."""

    def done(self, image: str, task: asyncio.Task[list[Entry]]) -> None:
        """Whoever asks next starts anew; a failure that nobody waited for is no news to asyncio either."""
        self.asked.pop(image, None)
        if not task.cancelled():
            task.exception()


class CredentialProviders:
    """All that a node has."""

    def __init__(
        self,
        providers: list[CredentialProvider],
        bin_dir: str,
        clock: Clock,
        counted: ImageInstruments | None = None,
    ) -> None:
        self._counted = counted or ImageInstruments()
        self._plugins = [_Plugin(each, os.path.join(bin_dir, each.name)) for each in providers]
        self._clock = clock

    async def entries(self, image: str) -> list[Entry]:
        """What all that are meant for ``image`` (host and path, no tag) give. Failures are logged."""
        found: list[Entry] = []
        for plugin in self._plugins:
            if not any(fits(pattern, image) for pattern in plugin.provider.match_images):
                continue
            try:
                found += await self._ask(plugin, image)
            except ProviderFailed as exc:
                log.warning("credential provider %s, for %s: %s", plugin.provider.name, image, exc)
                self._counted.provider_errors.inc((plugin.provider.name,))
        return found

    async def _ask(self, plugin: _Plugin, image: str) -> list[Entry]:
        now = self._clock.monotonic()
        plugin.kept = {key: kept for key, kept in plugin.kept.items() if kept.until > now}
        for key in (image, _registry(image), ""):
            if key in plugin.kept:
                return plugin.kept[key].entries
        task = plugin.asked.get(image)
        if task is None:
            task = plugin.asked[image] = asyncio.create_task(self._run(plugin, image))
            task.add_done_callback(lambda task: plugin.done(image, task))
        return await asyncio.shield(task)

    async def _run(self, plugin: _Plugin, image: str) -> list[Entry]:
        began, name = monotonic(), plugin.provider.name
        try:
            response = await asyncio.to_thread(_execute, plugin.provider, plugin.program, image)
        finally:
            self._counted.provider_seconds.observe(monotonic() - began, (name,))
        keys = {"Image": image, "Registry": _registry(image), "Global": ""}
        if response.cache_key_type not in keys:
            raise ProviderFailed("cacheKeyType is none of Image, Registry, Global")
        entries = [
            (pattern, api.AuthConfig(username=each.username, password=each.password))
            for pattern, each in (response.auth or {}).items()
        ]
        given = response.cache_duration
        try:
            lasts = seconds(plugin.provider.default_cache_duration if given is None else given)
        except ValueError:
            raise ProviderFailed("cacheDuration is no duration") from None
        if lasts > 0:
            until = self._clock.monotonic() + lasts
            plugin.kept[keys[response.cache_key_type]] = _Kept(until, entries)
        return entries


def load(
    path: str, bin_dir: str, clock: Clock, counted: ImageInstruments | None = None
) -> CredentialProviders:
    """Those that a file, or the files of a folder in order, describe.

    Raises OSError, and NodeError INVALID_ARGUMENT that names file, line and field.
    """
    if not path:
        return CredentialProviders([], bin_dir, clock, counted)
    if not os.path.isdir(bin_dir):
        raise invalid("--image-credential-provider-bin-dir", f"{bin_dir!r} is no folder")
    files = [path]
    if os.path.isdir(path):
        files = [os.path.join(path, name) for name in sorted(os.listdir(path)) if name.endswith(_SUFFIXES)]
    names: dict[str, str] = {}
    providers: list[CredentialProvider] = []
    for file in files:
        for each in _read(file).providers:
            if each.name in names:
                raise invalid(file, f"provider {each.name!r} is in {names[each.name]}, too")
            names[each.name] = file
            if not os.access(os.path.join(bin_dir, each.name), os.X_OK):
                raise invalid(file, f"provider {each.name!r}: there is no such program in {bin_dir}")
            providers.append(each)
    if not providers:
        raise invalid(path, "names no provider")
    return CredentialProviders(providers, bin_dir, clock, counted)


def _read(file: str) -> CredentialProviderConfig:
    document = only_document(file, _KIND)
    try:
        config = convert(document.data, document, CredentialProviderConfig)
        if config.kind != _KIND or config.api_version.partition("/")[0] != _GROUP:
            raise ManifestError(f"expected kind {_KIND} of {_GROUP}/v1", line=document.line(("kind",)))
        for index, each in enumerate(config.providers):
            for name, problem in _problems(each):
                line = document.line(("providers", index, name))
                raise ManifestError(problem, field=f"providers[{index}].{name}", line=line)
    except ManifestError as exc:
        exc.file = file
        raise invalid("", str(exc)) from None
    return config


def _problems(each: CredentialProvider) -> list[tuple[str, str]]:
    """Field and fault, as upstream's validation has them."""
    found = []
    if not each.name or "/" in each.name or " " in each.name or each.name in (".", ".."):
        found.append(("name", f"must be a program's name, without slash or space, is {each.name!r}"))
    if each.api_version not in _VERSIONS:
        found.append(("apiVersion", f"must be one of {', '.join(_VERSIONS)}"))
    if not each.match_images:
        found.append(("matchImages", "at least one is needed"))
    try:
        if seconds(each.default_cache_duration) < 0:
            found.append(("defaultCacheDuration", "must not be negative"))
    except ValueError as exc:
        found.append(("defaultCacheDuration", str(exc)))
    if each.token_attributes is not None:
        found.append(("tokenAttributes", "service account tokens need an API server"))
    return found


def _execute(provider: CredentialProvider, program: str, image: str) -> _Response:
    """Blocks, for a minute at most. Raises ProviderFailed."""
    request = {"kind": "CredentialProviderRequest", "apiVersion": provider.api_version, "image": image}
    try:
        done = subprocess.run(
            [program, *provider.args],
            input=msgspec.json.encode(request),
            capture_output=True,
            timeout=TIMEOUT,
            env=_environment(provider),
            cwd="/",
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise ProviderFailed(f"no answer within {TIMEOUT:.0f} s") from None
    except (OSError, ValueError) as exc:
        raise ProviderFailed(f"{program} can't be run: {exc}") from None
    if done.returncode != 0:
        words = done.stderr.decode(errors="replace").strip().rpartition("\n")[2][:500]
        raise ProviderFailed(f"ended with status {done.returncode}: {words}")
    try:
        response = msgspec.json.decode(done.stdout[:MAX_BYTES], type=_Response)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        raise ProviderFailed("the answer is no CredentialProviderResponse") from None  # it is secret
    if response.kind != "CredentialProviderResponse" or response.api_version != provider.api_version:
        raise ProviderFailed(f"the answer is no CredentialProviderResponse of {provider.api_version}")
    return response


def _environment(provider: CredentialProvider) -> Mapping[str, str]:
    return {**os.environ, **{each.name: each.value for each in provider.env}}


def _registry(image: str) -> str:
    return image.partition("/")[0]
