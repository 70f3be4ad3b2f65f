"""ConfigMaps and Secrets from words and files, as ``kubectl create`` makes them."""

from __future__ import annotations

import argparse
import base64
import json
import os
import re
from collections.abc import Iterator
from typing import Any

from minikubelet.cli.options import CommandError

Json = dict[str, Any]
_MOST_BYTES = 1 << 20
"""Of one value, and more than an object may have in all."""
_KEY = re.compile(r"[-._a-zA-Z0-9]{1,253}\Z")
_VARIABLE = re.compile(r"[-._a-zA-Z][-._a-zA-Z0-9]*\Z")


def config_map(args: argparse.Namespace, name: str) -> Json:
    """A ConfigMap of the values that the options give. Raises CommandError, OSError."""
    text: dict[str, str] = {}
    binary: dict[str, str] = {}
    for key, value in _values(args, "ConfigMap"):
        try:
            text[key] = value.decode()
        except UnicodeDecodeError:
            binary[key] = base64.b64encode(value).decode()
    made = _object("ConfigMap", name, args.namespace)
    return made | ({"data": text} if text else {}) | ({"binaryData": binary} if binary else {})


def secret(args: argparse.Namespace, name: str, kind: str) -> Json:
    """A Secret: ``generic``, ``tls`` or ``docker-registry``. Raises CommandError, OSError."""
    made = _object("Secret", name, args.namespace)
    if kind == "generic":
        values = dict(_values(args, "Secret"))
        made |= {"type": args.type} if args.type else {}
    elif kind == "tls":
        if not args.cert or not args.key:
            raise CommandError("key and cert must be specified: --cert FILE --key FILE", usage=True)
        values = {"tls.crt": _read(args.cert), "tls.key": _read(args.key)}
        made["type"] = "kubernetes.io/tls"
    else:
        values = {".dockerconfigjson": _docker_config(args)}
        made["type"] = "kubernetes.io/dockerconfigjson"
    data = {key: base64.b64encode(value).decode() for key, value in values.items()}
    return made | ({"data": data} if data else {})


def _object(kind: str, name: str, namespace: str) -> Json:
    meta = {"name": name} | ({"namespace": namespace} if namespace else {})
    return {"apiVersion": "v1", "kind": kind, "metadata": meta}


def _docker_config(args: argparse.Namespace) -> bytes:
    """What ``docker login`` writes."""
    if not args.docker_username or not args.docker_password:
        raise CommandError("--docker-username and --docker-password are needed", usage=True)
    both = base64.b64encode(f"{args.docker_username}:{args.docker_password}".encode()).decode()
    entry = {"username": args.docker_username, "password": args.docker_password}
    entry |= {"email": args.docker_email} if args.docker_email else {}
    auths = {args.docker_server: {**entry, "auth": both}}
    return json.dumps({"auths": auths}, separators=(",", ":")).encode()


def _values(args: argparse.Namespace, kind: str) -> Iterator[tuple[str, bytes]]:
    """Keys and values of all options. Raises CommandError for a key that is wrong or there twice."""
    if args.from_env_file and (args.from_file or args.from_literal):
        raise CommandError("from-env-file cannot be combined with from-file or from-literal", usage=True)
    seen = set()
    for key, value in _given(args):
        if not _KEY.match(key) or key in (".", "..") or key.startswith(".."):
            raise CommandError(
                f'"{key}" is not a valid key name for a {kind}: a valid config key must consist of '
                "alphanumeric characters, '-', '_' or '.'"
            )
        if key in seen:
            raise CommandError(f'cannot add key "{key}", another key by that name already exists')
        seen.add(key)
        yield key, value


def _given(args: argparse.Namespace) -> Iterator[tuple[str, bytes]]:
    for word in args.from_file:
        yield from _from_file(word)
    for word in args.from_literal:
        key, equals, value = word.partition("=")
        if not key or not equals:
            raise CommandError(f"invalid literal source {word}, expected key=value", usage=True)
        yield key, value.encode("utf-8", "surrogateescape")
    for path in args.from_env_file:
        yield from _from_env_file(path)


def _from_file(word: str) -> Iterator[tuple[str, bytes]]:
    """``KEY=FILE``, ``FILE``, or a folder's files by their names."""
    key, equals, path = word.partition("=")
    if equals and (not key or not path):
        raise CommandError(f"--from-file {word!r}: expected FILE or KEY=FILE", usage=True)
    path = path if equals else word
    if not os.path.isdir(path):
        yield key if equals else os.path.basename(path), _read(path)
        return
    if equals:
        raise CommandError("cannot give a key name for a directory path", usage=True)
    for name in sorted(os.listdir(path)):
        if os.path.isfile(os.path.join(path, name)) and _KEY.match(name):
            yield name, _read(os.path.join(path, name))


def _from_env_file(path: str) -> Iterator[tuple[str, bytes]]:
    """Lines of ``NAME=VALUE``; of ``NAME`` alone the variable of this process, if it has one."""
    try:
        lines = _read(path).decode("utf-8-sig").split("\n")
    except UnicodeDecodeError:
        raise CommandError(f"env file {path} contains invalid utf8 bytes") from None
    for line in lines:
        line = line.removesuffix("\r").lstrip()
        if not line or line.startswith("#"):
            continue
        name, equals, value = line.partition("=")
        if not _VARIABLE.match(name):
            raise CommandError(f'"{name}" is not a valid key name: it is a variable\'s in {path}')
        if equals or name in os.environ:
            yield name, (value if equals else os.environ[name]).encode()


def _read(path: str) -> bytes:
    with open(path, "rb") as file:
        content = file.read(_MOST_BYTES + 1)
    if len(content) > _MOST_BYTES:
        raise CommandError(f"{path} has more than {_MOST_BYTES} bytes")
    return content
