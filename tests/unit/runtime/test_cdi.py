"""CDI devices: specs are found, checked and carried out."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from minikubelet.base.errors import Code, NodeError
from minikubelet.runtime import cdi, container_spec, mounts, resources
from minikubelet.runtime.models import ContainerConfig, ContainerSecurity, DeviceConfig, Edits
from minikubelet.wire.messages import Device, Mount
from tests.unit.runtime.fakes import container_config, sandbox_config
from tests.unit.runtime.test_spec import container

GPU = {"path": "/dev/gpu0", "type": "c", "major": 195, "minor": 7, "permissions": "rw"}


def write(folder: Path, name: str, *devices: dict[str, Any], kind: str = "acme.com/gpu", **more: Any) -> Path:
    folder.mkdir(exist_ok=True)
    spec = {"cdiVersion": "0.6.0", "kind": kind, "devices": list(devices), **more}
    (folder / name).write_text(json.dumps(spec))
    return folder / name


def device(name: str = "0", **edits: Any) -> dict[str, Any]:
    return {"name": name, "containerEdits": edits}


def resolve(tmp_path: Path, config: ContainerConfig | None = None) -> Edits:
    config = config or container_config(cdi_devices=("acme.com/gpu=0",))
    return cdi.resolve(config, [str(tmp_path / "etc"), str(tmp_path / "run")])


def refusal(tmp_path: Path, config: ContainerConfig | None = None) -> NodeError:
    with pytest.raises(NodeError) as caught:
        resolve(tmp_path, config)
    return caught.value


def test_all_edits_of_a_device_and_its_spec(tmp_path: Path) -> None:
    edits: dict[str, Any] = {
        "deviceNodes": [GPU, {"path": "/dev/inside", "hostPath": "/dev/null", "uid": 5, "fileMode": 0o640}],
        "mounts": [
            {"hostPath": str(tmp_path), "containerPath": "/opt/gpu/", "options": ["ro", "nosuid", "rbind"]}
        ],
        "additionalGids": [44, 0, 44],
    }
    write(tmp_path / "etc", "gpu.json", device(**edits), containerEdits={"env": ["SHARED=1"]})
    config = container_config(
        cdi_devices=("acme.com/gpu=0",), security=ContainerSecurity(run_as_user=7, run_as_group=8)
    )
    assert resolve(tmp_path, config) == Edits(
        env=("SHARED=1",),
        devices=(
            Device(path="/dev/gpu0", kind="c", major=195, minor=7, mode=0o666, uid=7, gid=8),
            Device(path="/dev/inside", kind="c", major=1, minor=3, mode=0o640, uid=5, gid=8),
        ),
        permissions={"/dev/gpu0": "rw", "/dev/inside": "rwm"},
        mounts=(
            Mount(kind="bind", source=os.path.realpath(tmp_path), target="/opt/gpu", flags=["ro", "nosuid"]),
        ),
        gids=(44,),
    )


def test_yaml_annotations_and_each_spec_once(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/nic.yaml").write_text(
        "cdiVersion: 0.6.0\nkind: acme.com/nic\ncontainerEdits: {env: [ALL=1]}\n"
        "devices:\n- {name: a, containerEdits: {env: [A=1]}}\n- {name: b, containerEdits: {env: [B=1]}}\n"
    )
    config = container_config(
        cdi_devices=("acme.com/nic=b",),
        annotations={"cdi.k8s.io/plugin_1": "acme.com/nic=a,acme.com/nic=b", "other": "acme.com/nic=c"},
    )
    assert resolve(tmp_path, config).env == ("ALL=1", "B=1", "A=1")
    assert resolve(tmp_path, container_config()) == Edits()


def test_the_second_folder_wins_and_equals_conflict(tmp_path: Path) -> None:
    write(tmp_path / "etc", "a.json", device(env=["FROM=etc"]))
    write(tmp_path / "etc", "b.json", device(env=["FROM=other"]))
    error = refusal(tmp_path)
    assert error.code is Code.FAILED_PRECONDITION
    assert "a.json" in str(error) and "b.json" in str(error)
    write(tmp_path / "run", "c.json", device(env=["FROM=run"]))
    assert resolve(tmp_path).env == ("FROM=run",)


def test_an_unknown_device_names_field_and_broken_specs(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/broken.json").write_text("{")
    (tmp_path / "etc/broken.yaml").write_text("a: [")
    (tmp_path / "etc/ignored.txt").write_text("{")
    error = refusal(tmp_path)
    assert (error.code, error.field) == (Code.NOT_FOUND, "config.CDI_devices[0].name")
    assert "broken.json" in str(error) and "broken.yaml" in str(error)
    assert "ignored.txt" not in str(error)


@pytest.mark.parametrize("name", ["", "gpu", "acme.com/gpu", "acme.com/gpu=", "a/b=c\n", "a/b=../x", "/b=c"])
def test_a_wrong_name(tmp_path: Path, name: str) -> None:
    error = refusal(tmp_path, container_config(cdi_devices=("acme.com/x=1", name)))
    assert (error.code, error.field) == (Code.INVALID_ARGUMENT, "config.CDI_devices[1].name")
    error = refusal(tmp_path, container_config(annotations={"cdi.k8s.io/x": name}))
    assert (error.code, error.field) == (Code.INVALID_ARGUMENT, "config.annotations['cdi.k8s.io/x']")


@pytest.mark.parametrize(
    ("edits", "code", "text"),
    [
        ({"hooks": [{"hookName": "prestart", "path": "/bin/x"}]}, Code.UNIMPLEMENTED, "hooks"),
        ({"netDevices": [{"hostInterfaceName": "a", "name": "b"}]}, Code.UNIMPLEMENTED, "netDevices"),
        ({"intelRdt": {"closID": "x"}}, Code.UNIMPLEMENTED, "intelRdt"),
        (
            {"mounts": [{"hostPath": "/", "containerPath": "/x", "type": "tmpfs"}]},
            Code.UNIMPLEMENTED,
            "mounts[0].type",
        ),
        (
            {"mounts": [{"hostPath": "/", "containerPath": "/x", "options": ["odd"]}]},
            Code.UNIMPLEMENTED,
            "mounts[0].options",
        ),
        (
            {"mounts": [{"hostPath": "/no/such", "containerPath": "/x"}]},
            Code.FAILED_PRECONDITION,
            "mounts[0].hostPath",
        ),
        (
            {"mounts": [{"hostPath": "/", "containerPath": "/"}]},
            Code.FAILED_PRECONDITION,
            "mounts[0].containerPath",
        ),
        ({"env": ["=x"]}, Code.FAILED_PRECONDITION, "env[0]"),
        ({"deviceNodes": [{"path": "/dev/../x"}]}, Code.FAILED_PRECONDITION, "deviceNodes[0].path"),
        ({"deviceNodes": [{"path": "/etc/passwd"}]}, Code.FAILED_PRECONDITION, "deviceNodes[0].hostPath"),
        ({"deviceNodes": [{**GPU, "permissions": "x"}]}, Code.FAILED_PRECONDITION, "permissions"),
    ],
)
def test_what_cannot_be_done_is_refused(tmp_path: Path, edits: dict[str, Any], code: Code, text: str) -> None:
    path = write(tmp_path / "etc", "gpu.json", device(**edits))
    error = refusal(tmp_path)
    assert error.code is code
    assert str(path) in str(error)
    assert text in str(error)


def test_the_edits_reach_the_container() -> None:
    node = Device(path="/dev/gpu0", kind="c", major=195, minor=7)
    config = container_config(
        envs=(("A", b"request"),),
        devices=(DeviceConfig(container_path="/dev/gpu0", host_path="/dev/null"),),
        edits=Edits(
            env=("A=device",),
            devices=(node,),
            permissions={"/dev/gpu0": "r"},
            mounts=(Mount(kind="bind", source="/", target="/opt"), Mount(kind="bind", target="/etc/hosts")),
            gids=(44,),
        ),
    )
    assert mounts.container_devices(config) == [node], "over the request's own of the same path"
    made = container(envs=config.envs, edits=config.edits)
    assert b"A=device" in container_spec.environment(made)
    assert container_spec.process(made).user.supplemental == [44]
    found = mounts.container_mounts(config, sandbox_config(), "/run/pod")
    assert [m.target for m in found].count("/etc/hosts") == 1
    assert Mount(kind="bind", source="/", target="/opt") in found
    narrow = resources.device_program(config, [node])
    wide = resources.device_program(container_config(), [node])
    assert narrow and narrow != wide
