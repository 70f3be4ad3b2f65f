"""CDI devices in a running container; the spec lies where the daemon looks for it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from minikubelet.criapi import api_pb2 as api
from tests.host.runtime.client import Client, Refused

_FOLDER = Path("/var/run/cdi")
_KIND = "minikubelet.test/device"


@pytest.fixture
def spec(tmp_path: Path) -> Iterator[str]:
    """The kind of a spec with the devices ``zero`` and ``hooked``."""
    (tmp_path / "library").write_text("from the host")
    edits = {
        "env": ["ACCELERATOR=on"],
        "deviceNodes": [
            {"path": "/dev/accelerator", "hostPath": "/dev/zero"},
            {"path": "/dev/narrow", "type": "c", "major": 10, "minor": 237, "permissions": "r"},
        ],
        "mounts": [{"hostPath": str(tmp_path), "containerPath": "/opt/driver", "options": ["ro", "rbind"]}],
        "additionalGids": [4242],
    }
    hooks = {"hooks": [{"hookName": "createContainer", "path": "/bin/true"}]}
    devices = [{"name": "zero", "containerEdits": edits}, {"name": "hooked", "containerEdits": hooks}]
    existed = _FOLDER.exists()
    _FOLDER.mkdir(exist_ok=True)
    path = _FOLDER / f"minikubelet-test-{os.getpid()}.json"
    path.write_text(json.dumps({"cdiVersion": "0.7.0", "kind": _KIND, "devices": devices}))
    yield _KIND
    path.unlink()
    if not existed:
        _FOLDER.rmdir()


async def test_a_device_by_its_name(client: Client, spec: str) -> None:
    pod = await client.run_pod()
    device = api.CDIDevice(name=f"{spec}=zero")
    app = await client.run(pod, client.container_config("sleep", "1000", CDI_devices=[device]))
    assert await client.output(app, "head -c 3 /dev/accelerator | wc -c") == "3"
    # Whether or not the kernel has the driver: what the device filter refuses is EPERM.
    writing = await client.exec(app, "sh", "-c", "echo > /dev/narrow")
    reading = await client.exec(app, "sh", "-c", "true < /dev/narrow")
    assert b"not permitted" in writing.stderr
    assert b"not permitted" not in reading.stderr
    assert await client.output(app, "echo $ACCELERATOR; cat /opt/driver/library") == "on\nfrom the host"
    assert (await client.exec(app, "touch", "/opt/driver/x")).exit_code != 0
    assert "4242" in (await client.output(app, "id -G")).split()


async def test_hooks_are_refused_by_name(client: Client, spec: str) -> None:
    pod = await client.run_pod()
    config = client.container_config("true", annotations={"cdi.k8s.io/test": f"{spec}=hooked"})
    with Refused(grpc.StatusCode.UNIMPLEMENTED) as call:
        await client.create(pod, config)
    assert "createContainer /bin/true" in call.details
