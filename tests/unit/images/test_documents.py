"""Manifests, indexes and configs: what is taken and what is refused."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

from minikubelet.base.errors import Code, NodeError
from minikubelet.images import documents
from minikubelet.images.documents import Descriptor, Index, Manifest, PlatformDocument
from minikubelet.images.models import Platform
from minikubelet.images.platforms import choose

DIGEST = "sha256:" + "a" * 64


def descriptor(**more: Any) -> dict[str, Any]:
    return {"mediaType": documents.OCI_CONFIG, "digest": DIGEST, "size": 3, **more}


def layer(**more: Any) -> dict[str, Any]:
    return {**descriptor(mediaType="application/vnd.oci.image.layer.v1.tar+gzip"), **more}


def manifest(**more: Any) -> dict[str, Any]:
    return {"schemaVersion": 2, "config": descriptor(), "layers": [layer()], **more}


def parse(value: object, media_type: str = "") -> Manifest | Index:
    return documents.parse_manifest(json.dumps(value).encode(), media_type, "it")


def refused(value: object, media_type: str = "") -> str:
    with pytest.raises(NodeError) as caught:
        parse(value, media_type)
    assert caught.value.code is Code.FAILED_PRECONDITION
    return caught.value.message


def test_manifest_and_index_are_told_apart_without_media_types() -> None:
    assert isinstance(parse(manifest()), Manifest)
    assert isinstance(parse({"schemaVersion": 2, "manifests": [descriptor()]}), Index)


def test_content_type_parameters_and_generic_types_do_not_matter() -> None:
    assert isinstance(parse(manifest(), documents.OCI_MANIFEST + "; charset=utf-8"), Manifest)
    assert isinstance(parse(manifest(), "application/json"), Manifest)


@pytest.mark.parametrize("media_type", ["", documents.OCI_MANIFEST, documents.OCI_INDEX])
def test_both_index_and_manifest_is_refused(media_type: str) -> None:
    assert "both an index and a manifest" in refused(manifest(manifests=[]), media_type)
    assert "both" in refused({"schemaVersion": 2, "manifests": [], "layers": []}, media_type)


def test_type_confusion_is_refused() -> None:
    assert "other kind" in refused(manifest(), documents.OCI_INDEX)
    assert "other kind" in refused({"schemaVersion": 2, "manifests": []}, documents.OCI_MANIFEST)
    assert "was sent as" in refused(manifest(mediaType=documents.OCI_MANIFEST), documents.DOCKER_MANIFEST)
    assert "unknown media type" in refused(manifest(mediaType="text/html"))
    assert "unknown media type" in refused(manifest(), "text/html")


def test_schema_1_is_refused() -> None:
    assert "schema 1" in refused({"schemaVersion": 1, "fsLayers": [], "name": "x"})


@pytest.mark.parametrize(
    "value",
    [
        None,
        [],
        3,
        {},
        manifest(layers=None),
        manifest(config=None),
        manifest(config=descriptor(digest="sha256:../../x")),
        manifest(config=descriptor(digest="md5:" + "a" * 32)),
        manifest(config=descriptor(size=-1)),
        manifest(config=descriptor(size=1 << 60)),
        manifest(config=descriptor(size=documents.MAX_CONFIG + 1)),
        manifest(config=descriptor(size="3")),
        manifest(layers=[layer()] * (documents.MAX_LAYERS + 1)),
        manifest(layers=[layer(mediaType="application/vnd.oci.image.layer.v1.tar+gzip+encrypted")]),
        {"schemaVersion": 2, "manifests": [descriptor()] * (documents.MAX_MANIFESTS + 1)},
    ],
)
def test_malformed_documents_are_refused(value: object) -> None:
    refused(value)


def test_bombs_are_refused() -> None:
    for data in (
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"schemaVersion":2,"layers":' + b"[" * 100_000,
        b'{"schemaVersion":2,"manifests":[],"x":' + b"[" * 200_000 + b"]" * 200_000 + b"}",
        b" " * (documents.MAX_MANIFEST + 1),
        b"\xff\xfe",
        b"",
    ):
        with pytest.raises(NodeError):
            documents.parse_manifest(data, "", "it")


def test_mutated_manifests_give_clean_errors() -> None:
    source = random.Random(2)
    good = json.dumps(manifest(mediaType=documents.OCI_MANIFEST)).encode()
    for _ in range(5_000):
        data = bytearray(good)
        for _ in range(source.randrange(1, 6)):
            data[source.randrange(len(data))] = source.randrange(256)
        try:
            documents.parse_manifest(bytes(data), "", "it")
        except NodeError as exc:
            assert exc.code is Code.FAILED_PRECONDITION


def config(**more: Any) -> bytes:
    return json.dumps({"rootfs": {"type": "layers", "diff_ids": [DIGEST]}, **more}).encode()


def test_config_nulls_become_empty() -> None:
    nulls = dict.fromkeys(
        ("User", "Env", "Cmd", "Entrypoint", "Volumes", "Labels", "WorkingDir", "StopSignal")
    )
    parsed = documents.parse_config(config(config=nulls, os="linux", architecture="amd64"), 1, "it")
    assert (parsed.user, parsed.env, parsed.cmd, parsed.labels, parsed.volumes) == ("", (), (), {}, ())
    assert documents.parse_config(config(config=None), 1, "it").entrypoint == ()


def test_config_values() -> None:
    inner = {
        "User": "web:1",
        "Env": ["A=1"],
        "Cmd": ["c"],
        "Entrypoint": ["e"],
        "Volumes": {"/v": {}},
        "Labels": {"k": "v"},
        "WorkingDir": "/w",
        "StopSignal": "SIGUSR1",
        "ExposedPorts": {"80/tcp": {}},
        "Unknown": [1],
    }
    parsed = documents.parse_config(
        config(config=inner, os="linux", architecture="arm", variant="v7"), 1, "it"
    )
    assert parsed.diff_ids == (DIGEST,)
    assert (parsed.user, parsed.env, parsed.cmd, parsed.entrypoint) == ("web:1", ("A=1",), ("c",), ("e",))
    assert (parsed.volumes, parsed.labels, parsed.working_dir) == (("/v",), {"k": "v"}, "/w")
    assert (parsed.stop_signal, parsed.exposed_ports) == ("SIGUSR1", ("80/tcp",))
    assert (parsed.os, parsed.architecture, parsed.variant) == ("linux", "arm", "v7")


@pytest.mark.parametrize(
    ("data", "part"),
    [
        (config(), "names 1 layers, the manifest 2"),
        (b"{}", "malformed"),
        (b'{"rootfs":{"diff_ids":["x","y"]}}', "DiffID"),
        (config(config={"Env": [1]}), "malformed"),
    ],
)
def test_bad_configs(data: bytes, part: str) -> None:
    with pytest.raises(NodeError, match=part):
        documents.parse_config(data, 2, "it")


def entry(architecture: str, variant: str = "", system: str = "linux", name: str = "") -> Descriptor:
    letter = name or (architecture + variant)
    return Descriptor(letter, 1, platform=PlatformDocument(system, architecture, variant))


@pytest.mark.parametrize(
    ("entries", "wanted", "expected"),
    [
        ([entry("arm64"), entry("amd64")], Platform("linux", "amd64"), "amd64"),
        ([entry("amd64", "v3"), entry("amd64")], Platform("linux", "amd64"), "amd64"),
        ([entry("amd64", "v3")], Platform("linux", "amd64"), None),
        ([entry("amd64"), entry("amd64", "v2")], Platform("linux", "amd64", "v3"), "amd64v2"),
        ([entry("arm", "v6"), entry("arm", "v7")], Platform("linux", "arm", "v7"), "armv7"),
        ([entry("arm", "v6"), entry("arm", "v5")], Platform("linux", "arm", "v7"), "armv6"),
        ([entry("arm", "v7")], Platform("linux", "arm", "v6"), None),
        ([entry("arm64", "v8")], Platform("linux", "arm64", "v8"), "arm64v8"),
        ([entry("arm64")], Platform("linux", "arm64", "v8"), "arm64"),
        ([entry("amd64", system="windows")], Platform("linux", "amd64"), None),
        ([entry("unknown", system="unknown"), entry("amd64")], Platform("linux", "amd64"), "amd64"),
        ([entry("x86_64")], Platform("linux", "amd64"), "x86_64"),
        ([entry("s390x", name="first"), entry("s390x", name="second")], Platform("linux", "s390x"), "first"),
        ([Descriptor("bare", 1)], Platform("linux", "amd64"), "bare"),
        ([Descriptor("bare", 1), entry("arm64")], Platform("linux", "amd64"), None),
        ([], Platform("linux", "amd64"), None),
    ],
)
def test_choice_by_platform(entries: list[Descriptor], wanted: Platform, expected: str | None) -> None:
    chosen = choose(entries, wanted)
    assert (chosen.digest if chosen else None) == expected
