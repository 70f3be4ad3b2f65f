"""Image volumes: layers of another image as a read-only mount."""

from __future__ import annotations

import json

import grpc
import pytest

from minikubelet.criapi import api_pb2 as api
from minikubelet.criapi import services
from tests.host.node import Node
from tests.host.runtime.client import Client, Refused
from tests.images.build import Layer, build_image
from tests.registry import Registry


@pytest.fixture
async def volumes(client: Client, registry: Registry) -> dict[str, str]:
    """References of an image of one layer and one of two, the upper hiding a file of the lower."""
    lower = Layer().directory("etc").file("etc/one", b"lower").file("etc/two", b"lower").directory("tools")
    lower = lower.symlink("tools/escape", "../../../../etc").file(
        "tools/run", b"#!/bin/sh\necho ran\n", 0o755
    )
    upper = Layer().file("etc/two", b"upper").whiteout("etc/one")
    images = services.IMAGE.connect(client.channel)
    found = {}
    for name, layers in (("single", [lower]), ("double", [lower, upper])):
        registry.add(f"volume-{name}:1", build_image(layers, {}))
        reference = f"{registry.address}/volume-{name}:1"
        await images.PullImage(api.PullImageRequest(image=api.ImageSpec(image=reference)))
        found[name] = reference
    return found


def volume(reference: str, path: str = "/data", sub_path: str = "") -> api.Mount:
    image = api.ImageSpec(image=reference)
    return api.Mount(container_path=path, image=image, image_sub_path=sub_path, readonly=True)


async def test_one_layer_and_several(node: Node, client: Client, volumes: dict[str, str]) -> None:
    pod = await client.run_pod()
    mounts = [volume(volumes["single"], "/single"), volume(volumes["double"], "/double")]
    app = await client.run(pod, client.container_config("sleep", "1000", mounts=mounts))
    assert await client.output(app, "cat /single/etc/one /single/etc/two") == "lowerlower"
    assert await client.output(app, "ls /double/etc; cat /double/etc/two") == "two\nupper"
    assert await client.output(app, "/double/tools/run") == "ran"
    for name in ("single", "double"):
        assert (await client.exec(app, "touch", f"/{name}/etc/new")).exit_code != 0
        assert (await client.exec(app, "mount", "-o", "remount,rw", f"/{name}")).exit_code != 0
    reported = (await client.status(app)).mounts
    assert [(each.container_path, each.image.image) for each in reported] == [
        (each.container_path, each.image.image) for each in mounts
    ]
    assert [each.image.image_ref for each in reported] == [
        json.loads(node.crictl("inspecti", volumes[name]))["status"]["id"] for name in ("single", "double")
    ]


async def test_a_part_of_an_image(client: Client, volumes: dict[str, str]) -> None:
    pod = await client.run_pod()
    mounts = [
        volume(volumes["double"], "/folder", "etc"),
        volume(volumes["single"], "/file", "etc/one"),
        volume(volumes["double"], "/inside", "tools/escape"),
    ]
    app = await client.run(pod, client.container_config("sleep", "1000", mounts=mounts))
    assert await client.output(app, "ls /folder") == "two"
    assert await client.output(app, "cat /file") == "lower"
    assert await client.output(app, "ls /inside") == "two", "a link leads nowhere outside the image"


async def test_a_part_that_is_not_there_is_told(client: Client, volumes: dict[str, str]) -> None:
    pod = await client.run_pod()
    for number, name in enumerate(("single", "double")):
        mount = volume(volumes[name], sub_path="no/such")
        app = await client.create(pod, client.container_config("true", name=f"c{number}", mounts=[mount]))
        with Refused(grpc.StatusCode.INTERNAL) as call:
            await client.start(app)
        assert "config.mounts[0].image_sub_path" in call.details
        assert "no/such" in call.details


async def test_the_image_may_be_removed_under_its_volume(client: Client, volumes: dict[str, str]) -> None:
    pod = await client.run_pod()
    config = client.container_config("sleep", "1000", mounts=[volume(volumes["double"])])
    app = await client.create(pod, config)
    images = services.IMAGE.connect(client.channel)
    await images.RemoveImage(api.RemoveImageRequest(image=api.ImageSpec(image=volumes["double"])))
    await client.start(app)
    assert await client.output(app, "cat /data/etc/two") == "upper"


async def test_a_pod_with_users_of_its_own_sees_its_own_owners(
    client: Client, volumes: dict[str, str]
) -> None:
    users = api.UserNamespace(
        mode=api.POD,
        uids=[api.IDMapping(host_id=200000, container_id=0, length=65536)],
        gids=[api.IDMapping(host_id=200000, container_id=0, length=65536)],
    )
    options = api.NamespaceOption(pid=api.CONTAINER, userns_options=users)
    pod_config = client.pod_config()
    pod_config.linux.security_context.namespace_options.CopyFrom(options)
    pod = await client.run_pod(pod_config)
    mounts = [volume(volumes["single"], "/single"), volume(volumes["double"], "/double")]
    config = client.container_config("sleep", "1000", mounts=mounts)
    config.linux.security_context.namespace_options.CopyFrom(options)
    app = await client.run(pod, config)
    assert await client.output(app, "stat -c %u /single/etc/one /double/etc/two") == "0\n0"
    assert await client.output(app, "cat /double/etc/two") == "upper"
