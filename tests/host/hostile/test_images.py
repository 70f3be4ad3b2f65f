"""What an image can be made of to reach the host."""

from __future__ import annotations

import platform
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest

from minikubelet.criapi import api_pb2 as api
from tests.host.runtime.client import Client, Refused
from tests.images.build import Layer

Serve = Callable[..., str]

LOADER = Path(__file__).with_name("loader.c")


def of(client: Client, image: str, *command: str, **fields: Any) -> api.ContainerConfig:
    config = client.container_config(*command, **fields)
    config.image.image = image
    return config


async def control(client: Client, pod: str) -> None:
    """A refusal counts only where a harmless container starts."""
    await client.start(await client.create(pod, client.container_config("true", name="control")))


async def starts(client: Client, config: api.ContainerConfig) -> tuple[str, str]:
    """The container, and why it did not start, if so: it alone, a harmless one starts in the same pod."""
    pod = await client.run_pod()
    container = ""
    try:
        container = await client.create(pod, config)
        await client.start(container)
    except grpc.aio.AioRpcError as exc:
        assert exc.code() is not grpc.StatusCode.INTERNAL or container, exc.details()
        await control(client, pod)
        return container, exc.details() or "?"
    return container, ""


@pytest.fixture
def loader(tmp_path: Path) -> bytes:
    flags = ("-Os", "-static-pie", "-fPIE", "-nostdlib", "-fno-stack-protector")
    subprocess.run(["cc", *flags, "-o", tmp_path / "loader", LOADER], check=True)
    return (tmp_path / "loader").read_bytes()


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the attack is written for x86-64")
async def test_an_entrypoint_that_is_the_runtime_itself(
    client: Client, serve: Serve, loader: bytes, tmp_path: Path
) -> None:
    """CVE-2019-5736: the interpreter starts with the image's loader, which keeps it open and writes to it."""
    layer = Layer().directory("lib64").file("lib64/ld-linux-x86-64.so.2", loader, 0o755)
    image = serve(layer, Entrypoint=["/proc/self/exe"], Cmd=[])
    pod = await client.run_pod(client.pod_config(log_directory=str(tmp_path)))
    container = await client.create(pod, of(client, image, log_path="attack.log"))
    await client.start(container)
    await client.wait_exited(container)
    said = (tmp_path / "attack.log").read_text()
    assert "tried" in said and said.count("Read-only file system") == 3, said


@pytest.mark.parametrize("number", [0, 3, 4, 5, 6, 7, 8, 9, 10, 12, 15, 20])
async def test_a_working_directory_that_is_a_descriptor(client: Client, tmp_path: Path, number: int) -> None:
    """CVE-2024-21626."""
    pod = await client.run_pod(client.pod_config(log_directory=str(tmp_path)))
    show = ("sh", "-c", "readlink /proc/self/cwd; ls -a . ..; cat ../../../../../etc/passwd")
    await control(client, pod)
    for count, path in enumerate((f"/proc/self/fd/{number}", f"/proc/1/fd/{number}", f"/dev/fd/{number}")):
        config = client.container_config(*show, working_dir=path, name=f"c{count}", log_path=f"{count}.log")
        try:
            container = await client.create(pod, config)
            await client.start(container)
        except grpc.aio.AioRpcError:
            continue
        await client.wait_exited(container)
        said = (tmp_path / f"{count}.log").read_text()
        assert "unreachable" not in said and "F /proc/" in said.splitlines()[0], said


async def test_the_images_own_working_directory_is_a_link_out(
    client: Client, serve: Serve, canary: Path
) -> None:
    image = serve(Layer().symlink("away", str(canary)), WorkingDir="/away/new")
    container, refused = await starts(client, of(client, image))
    if not refused:
        assert await client.output(container, "ls -d /proc/1/cwd/; readlink /proc/1/cwd") != ""
    assert not (canary / "new").exists()


@pytest.mark.parametrize("path", ["proc", "sys", "dev", "etc", "tmp", "run", "var"])
async def test_a_folder_of_the_image_is_a_link_to_the_host(
    client: Client, serve: Serve, canary: Path, path: str
) -> None:
    layer = Layer().whiteout(path).symlink(path, str(canary))
    container, refused = await starts(client, of(client, serve(layer)))
    if not refused:
        for name in ("file", "etc/passwd", "hosts"):
            assert (await client.exec(container, "cat", f"{canary}/{name}")).stdout != (
                canary / name
            ).read_bytes()


@pytest.mark.parametrize("path", ["proc", "sys"])
async def test_a_folder_that_procfs_or_sysfs_must_cover_is_a_link_inside(
    client: Client, serve: Serve, path: str
) -> None:
    """CVE-2019-19921: masks and sysctls would go to files of the image's choice."""
    layer = Layer().whiteout(path).directory("fake").symlink(path, "/fake")
    container, refused = await starts(client, of(client, serve(layer)))
    if not refused:
        kind = await client.output(container, f"grep ' /{path} ' /proc/mounts || echo none")
        assert kind.split()[2].startswith(path), kind


@pytest.mark.parametrize("name", ["resolv.conf", "hosts", "hostname", "passwd"])
async def test_a_file_the_runtime_mounts_or_reads_is_a_link_to_the_host(
    client: Client, serve: Serve, canary: Path, name: str
) -> None:
    layer = Layer().symlink(f"etc/{name}", str(canary / name))
    image = serve(layer, User="canary" if name == "passwd" else "")
    container, refused = await starts(client, of(client, image))
    if name == "passwd":
        assert refused, "a user was found in the host's passwd"
    elif not refused:
        assert "canary" not in await client.output(container, f"cat /etc/{name}")


@pytest.mark.parametrize("target", ["/etc/passwd", "/proc/sysrq-trigger", "/dev/zero"])
async def test_a_null_device_of_the_image_masks_nothing_else(
    client: Client, serve: Serve, target: str
) -> None:
    """CVE-2025-31133."""
    image = serve(Layer().symlink("dev/null", target))
    linux = api.LinuxContainerConfig(
        security_context=api.LinuxContainerSecurityContext(
            namespace_options=api.NamespaceOption(pid=api.CONTAINER),
            masked_paths=["/proc/kcore", "/etc/passwd"],
        )
    )
    container, refused = await starts(client, of(client, image, linux=linux))
    if not refused:
        assert await client.output(container, "cat /proc/kcore /etc/passwd | head -c 9") == ""
        assert await client.output(container, "stat -c %t:%T /dev/null") == "1:3"


def passwds() -> dict[str, Layer]:
    return {
        "fifo": Layer().whiteout("etc/passwd").fifo("etc/passwd"),
        "device": Layer().whiteout("etc/passwd").character_device("etc/passwd", 1, 5),
        "folder": Layer().whiteout("etc/passwd").directory("etc/passwd"),
        "loop": Layer().symlink("etc/passwd", "/etc/passwd"),
        "large": Layer().file("etc/passwd", b"x:x:1:1::/:/bin/sh\n" * 2_000_000 + b"web:x:0:0::/:/bin/sh\n"),
        "overflow": Layer().file("etc/passwd", b"web:x:4294967296:0::/:/bin/sh\n"),
        "minus": Layer().file("etc/passwd", b"web:x:-1:0::/:/bin/sh\n"),
    }


@pytest.mark.parametrize("kind", list(passwds()))
async def test_a_passwd_that_is_none(client: Client, serve: Serve, kind: str) -> None:
    """CVE-2022-2995 and others: no user is better than a wrong one, and nothing may hang."""
    _, refused = await starts(client, of(client, serve(passwds()[kind], User="web")))
    assert refused


@pytest.mark.parametrize(
    "user",
    ["4294967296", "4294967295", "-1", "18446744073709551616", "0x0", "1000:4294967296", "1000:-1"],
)
async def test_a_user_that_cannot_be(client: Client, serve: Serve, user: str) -> None:
    """CVE-2024-40635: numbers that wrap around to root."""
    container, refused = await starts(client, of(client, serve(User=user)))
    assert refused, await client.output(container, "id")


async def test_a_user_whose_name_is_a_number(client: Client, serve: Serve) -> None:
    """CVE-2016-3697: `1000` is UID 1000, or the user of that name; the status tells what it is."""
    image = serve(Layer().file("etc/passwd", b"1000:x:0:0::/:/bin/sh\n"), User="1000")
    container, refused = await starts(client, of(client, image))
    if not refused:
        assert await client.output(container, "id -u") == "1000"
        assert (await client.status(container)).user.linux.uid == 1000
    asked = api.LinuxContainerConfig(
        security_context=api.LinuxContainerSecurityContext(run_as_user=api.Int64Value(value=1000))
    )
    container, refused = await starts(client, of(client, image, linux=asked))
    assert not refused and await client.output(container, "id -u") == "1000"


@pytest.mark.parametrize("volume", ["/../../../canary", "../x", "/proc/self/fd", "/", "/etc/../.."])
async def test_a_volume_outside(client: Client, serve: Serve, volume: str, canary: Path) -> None:
    """CVE-2022-23648."""
    container, refused = await starts(client, of(client, serve(Volumes={volume: {}})))
    if not refused:
        assert (await client.exec(container, "cat", str(canary / "file"))).exit_code != 0


async def test_a_mount_over_a_link_to_the_host(
    client: Client, serve: Serve, canary: Path, tmp_path: Path
) -> None:
    """CVE-2021-30465, CVE-2024-45310: the target is made inside the root, or refused."""
    (tmp_path / "data").mkdir()
    image = serve(Layer().symlink("away", str(canary)).symlink("up", "../../../../.." + str(canary)))
    for target in ("/away/made", "/up/made", "/away", "/up/../made"):
        mount = api.Mount(container_path=target, host_path=str(tmp_path / "data"))
        await starts(client, of(client, image, mounts=[mount]))


async def test_labels_of_an_image_steer_nothing(client: Client, serve: Serve) -> None:
    """CVE-2026-53488: what is ours in labels and annotations comes from callers only."""
    hostile = {"io.kubernetes.container.name": "other", "minikubelet.dev/privileged": "true"}
    image = serve(Labels=hostile)
    container, refused = await starts(client, of(client, image))
    assert not refused
    status = await client.status(container)
    assert not set(hostile) & (set(status.labels) | set(status.annotations))


async def test_an_image_that_is_not_there(client: Client) -> None:
    pod = await client.run_pod()
    with Refused(grpc.StatusCode.NOT_FOUND):
        await client.create(pod, of(client, "localhost/../../etc:1"))
