"""Images as files: OCI layouts (a directory or its tar) and the archives `docker save` writes."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Mapping
from pathlib import Path

from tests.images.build import EPOCH, OCI_INDEX, Image, Manifest, digest_of

REF_NAME = "org.opencontainers.image.ref.name"


def layout_files(images: Mapping[str, Image]) -> dict[str, bytes]:
    """The files of an OCI layout that holds `images` under their reference names."""
    files = {"oci-layout": b'{"imageLayoutVersion":"1.0.0"}'}
    entries = []
    for name, image in images.items():
        entries.append(image.top.descriptor(annotations={REF_NAME: name}))
        blobs = {**image.blobs, **{digest: each.data for digest, each in image.manifests.items()}}
        files.update({f"blobs/{digest.replace(':', '/')}": data for digest, data in blobs.items()})
    index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}
    files["index.json"] = json.dumps(index).encode()
    return files


def write_layout(directory: Path, images: Mapping[str, Image]) -> None:
    for name, data in layout_files(images).items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def read_layout(directory: Path) -> dict[str, Image]:
    """The single-platform images of a layout that `write_layout` made."""
    found = {}
    for entry in json.loads((directory / "index.json").read_bytes())["manifests"]:
        top = Manifest(entry["mediaType"], _blob(directory, entry["digest"]))
        parsed = json.loads(top.data)
        digests = [parsed["config"]["digest"], *(layer["digest"] for layer in parsed["layers"])]
        blobs = {digest: _blob(directory, digest) for digest in digests}
        found[entry["annotations"][REF_NAME]] = Image(top, {top.digest: top}, blobs)
    return found


def _blob(directory: Path, digest: str) -> bytes:
    """A blob of a layout; ValueError if it is not what its name says."""
    data = (directory / "blobs" / digest.replace(":", "/")).read_bytes()
    if digest_of(data) != digest:
        raise ValueError(f"{directory}: blob {digest} is damaged")
    return data


def oci_archive(images: Mapping[str, Image]) -> bytes:
    """The tar of an OCI layout."""
    return _tar(layout_files(images))


def docker_archive(images: Mapping[str, Image]) -> bytes:
    """What `docker save` writes (manifest.json, no layout). The images' layers must be plain tars."""
    files: dict[str, bytes] = {}
    manifest = []
    for name, image in images.items():
        config, layers = f"{image.id[7:]}.json", [f"{digest[7:]}/layer.tar" for digest in image.layers]
        files[config] = image.blobs[image.id]
        files.update(zip(layers, (image.blobs[digest] for digest in image.layers), strict=True))
        manifest.append({"Config": config, "RepoTags": [name], "Layers": layers})
    return _tar({**files, "manifest.json": json.dumps(manifest).encode()})


def _tar(files: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mtime = len(data), EPOCH
            tar.addfile(member, io.BytesIO(data))
    return buffer.getvalue()
