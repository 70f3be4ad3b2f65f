"""The generated modules are what proto/ gives, and proto/ says what upstream's published module says."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from google.protobuf import descriptor_pb2

ROOT = Path(__file__).resolve().parents[3]
CRI_API = "k8s.io/cri-api@v0.37.0"
NRI = "github.com/containerd/nri@v0.12.0"
F = descriptor_pb2.FieldDescriptorProto


def test_committed_modules_are_up_to_date(tmp_path: Path) -> None:
    subprocess.run([sys.executable, str(ROOT / "scripts" / "gen-proto"), str(tmp_path)], check=True)
    made = sorted(path.name for path in tmp_path.iterdir())
    modules = ("api", "deviceplugin", "node", "nri", "pluginregistration", "podresources", "ttrpc")
    assert made == [f"{module}_pb2.{ending}" for module in modules for ending in ("py", "pyi")]
    for name in made:
        committed = ROOT / "minikubelet" / "criapi" / name
        assert committed.read_text() == (tmp_path / name).read_text(), (
            f"{name} is stale: run scripts/gen-proto"
        )


def enum_facts(path: str, enum: descriptor_pb2.EnumDescriptorProto) -> Iterator[str]:
    for value in enum.value:
        yield f"enum {path}.{enum.name}.{value.name} = {value.number}"


def message_facts(path: str, message: descriptor_pb2.DescriptorProto) -> Iterator[str]:
    here = f"{path}.{message.name}"
    yield f"message {here} {text(message.options)}"
    for oneof in message.oneof_decl:
        yield f"oneof {here}.{oneof.name}"
    for span in message.reserved_range:
        yield f"reserved {here} {span.start} {span.end}"
    for name in message.reserved_name:
        yield f"reserved {here} {name}"
    for field in message.field:
        label, kind = F.Label.Name(field.label), F.Type.Name(field.type)
        oneof_index = field.oneof_index if field.HasField("oneof_index") else None
        yield (
            f"field {here}.{field.name} = {field.number} {label} {kind} {field.type_name} "
            f"json={field.json_name} oneof={oneof_index} {text(field.options)}"
        )
    for enum in message.enum_type:
        yield from enum_facts(here, enum)
    for nested in message.nested_type:
        yield from message_facts(here, nested)


def text(options: object) -> str:
    return str(options).strip().replace("\n", " ")


def facts(file: descriptor_pb2.FileDescriptorProto) -> set[str]:
    """Everything that the interface consists of, one line a fact; comments and order are no part of it."""
    found = {f"syntax {file.syntax}", f"package {file.package}", f"options {text(file.options)}"}
    for enum in file.enum_type:
        found.update(enum_facts(file.package, enum))
    for message in file.message_type:
        found.update(message_facts(file.package, message))
    for service in file.service:
        for method in service.method:
            streams = f"{method.client_streaming} {method.server_streaming}"
            found.add(
                f"rpc {service.name}.{method.name} {method.input_type} {method.output_type} {streams} "
                f"{text(method.options)}"
            )
    return found


def published_proto(module: str = CRI_API, folder: str = "pkg/apis/runtime/v1") -> Path:
    """The module's directory with api.proto; skips, saying why, where it can't be had."""
    go = shutil.which("go")
    if go is None:
        pytest.skip(f"no Go toolchain to download {module} with")
    command = [go, "mod", "download", "-json", module]
    env = {**os.environ, "GOFLAGS": "-mod=mod", "GO111MODULE": "on"}
    done = subprocess.run(command, cwd="/", env=env, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"go mod download {module} failed: {done.stdout.strip()} {done.stderr.strip()}")
    return Path(json.loads(done.stdout)["Dir"], folder)


def parse(directory: Path, scratch: Path, name: str = "api.proto") -> descriptor_pb2.FileDescriptorProto:
    from grpc_tools import protoc

    out = scratch / "set.pb"
    assert protoc.main(["protoc", f"-I{directory}", f"--descriptor_set_out={out}", name]) == 0
    (file,) = descriptor_pb2.FileDescriptorSet.FromString(out.read_bytes()).file
    return file


def test_transcription_equals_the_published_module(tmp_path: Path) -> None:
    ours = facts(parse(ROOT / "proto/runtime/v1", tmp_path))
    upstream = facts(parse(published_proto(), tmp_path))
    assert sorted(ours - upstream) == []
    assert sorted(upstream - ours) == []
    assert len(ours) > 800


def test_nri_transcription_equals_the_published_module(tmp_path: Path) -> None:
    ours = facts(parse(ROOT / "proto/nri/v1alpha1", tmp_path, "nri.proto"))
    upstream = facts(parse(published_proto(NRI, "pkg/api"), tmp_path))
    assert sorted(ours - upstream) == []
    assert sorted(upstream - ours) == []
    assert len(ours) > 400


def test_facts_tell_files_apart(tmp_path: Path) -> None:
    """The comparison above can fail: each kind of slip in a transcription changes the facts."""
    source = (ROOT / "proto/runtime/v1/api.proto").read_text()
    good = facts(parse(ROOT / "proto/runtime/v1", tmp_path))
    slips = {
        "string pod_cidr = 1;": "string pod_cidr = 2;",
        "bool privileged = 6;": "int32 privileged = 6;",
        "repeated string searches = 2;": "string searches = 2;",
        "string runtime_name = 2;": "string runtimeName = 2;",
        "  SCTP = 2;": "  SCTP = 3;",
        "string seccomp_profile_path = 7 [deprecated = true];": "string seccomp_profile_path = 7;",
        "returns (stream ContainerEventResponse)": "returns (ContainerEventResponse)",
        "map<string, string> sysctls = 3;": "map<string, int64> sysctls = 3;",
    }
    for right, wrong in slips.items():
        assert source.count(right) == 1, right
        (tmp_path / "api.proto").write_text(source.replace(right, wrong))
        assert facts(parse(tmp_path, tmp_path)) != good, wrong
