"""Images by policy, and what is said when they can't be had, over the fake runtime."""

from __future__ import annotations

import asyncio

import pytest

from minikubelet.kubelet.images import normalized
from tests.unit.kubelet.harness import IMAGE, Harness, make_pod


async def test_a_missing_image_is_pulled(harness: Harness) -> None:
    harness.cri.images.clear()
    async with harness.running():
        harness.source.set(make_pod())
        await harness.ready()
        assert harness.reasons() == ["Pulling", "Pulled", "Created", "Started"]
        messages = [e.message for e in harness.kubelet.events() if e.reason in ("Pulling", "Pulled")]
        assert messages[0] == f'Pulling image "{IMAGE}"'
        assert messages[1].startswith(f'Successfully pulled image "{IMAGE}" in ')
        assert messages[1].endswith("Image size: 1000 bytes.")


async def test_pods_that_begin_together_have_one_answer(harness: Harness) -> None:
    async with harness.running():
        harness.source.set(*(make_pod(f"web-{number}") for number in range(5)))
        for number in range(5):
            await harness.ready(f"web-{number}")
        assert len(harness.cri.called("ImageStatus")) == 1
        harness.source.set(*(make_pod(f"web-{number}") for number in range(6)))
        await harness.ready("web-5")
        assert len(harness.cri.called("ImageStatus")) == 2


async def test_always_pulls_what_is_there(harness: Harness) -> None:
    async with harness.running():
        harness.source.set(make_pod("web", {"name": "app", "imagePullPolicy": "Always"}))
        await harness.ready()
        assert len(harness.cri.called("PullImage")) == 1


async def test_a_failed_pull_backs_off_and_recovers(harness: Harness) -> None:
    harness.cri.images.clear()
    harness.cri.registry[IMAGE] = "manifest unknown"
    async with harness.running():
        harness.source.set(make_pod())
        await harness.until(lambda: harness.waiting() == "ErrImagePull")
        waiting = harness.container().state.waiting
        assert waiting is not None and waiting.message == "manifest unknown"
        harness.clock.advance(3)
        await harness.until(lambda: harness.waiting() == "ImagePullBackOff")
        waiting = harness.container().state.waiting
        expected = f'Back-off pulling image "{IMAGE}": ErrImagePull: manifest unknown'
        assert waiting is not None and waiting.message == expected
        messages = [event.message for event in harness.kubelet.events()]
        assert f'Failed to pull image "{IMAGE}": manifest unknown' in messages
        assert "Error: ErrImagePull" in messages and "Error: ImagePullBackOff" in messages
        harness.clock.advance(5)
        await harness.settle()
        assert len(harness.cri.called("PullImage")) == 1
        harness.cri.add_image(IMAGE, here=False)
        harness.clock.advance(2)
        await harness.ready()
        assert len(harness.cri.called("PullImage")) == 2


async def test_an_image_loaded_by_hand_ends_the_backoff(harness: Harness) -> None:
    harness.cri.images.clear()
    harness.cri.registry[IMAGE] = "no route to host"
    async with harness.running():
        harness.source.set(make_pod())
        await harness.until(lambda: harness.waiting() == "ErrImagePull")
        harness.cri.add_image(IMAGE)
        harness.clock.advance(3)
        await harness.ready()


async def test_never_pulls_nothing(harness: Harness) -> None:
    harness.cri.images.clear()
    async with harness.running():
        harness.source.set(make_pod("web", {"name": "app", "imagePullPolicy": "Never"}))
        await harness.until(lambda: harness.waiting() == "ErrImageNeverPull")
        assert not harness.cri.called("PullImage")
        assert "ErrImageNeverPull" in harness.reasons()


async def test_an_impossible_name_is_said_to_be_one(harness: Harness) -> None:
    async with harness.running():
        harness.source.set(make_pod("web", {"name": "app", "image": "example.org/UPPER:1"}))
        await harness.until(lambda: harness.waiting() == "InvalidImageName")
        assert "InspectFailed" in harness.reasons()


async def test_run_as_non_root_is_checked_against_the_image(harness: Harness) -> None:
    app = {"name": "app", "securityContext": {"runAsNonRoot": True}}
    async with harness.running():
        harness.source.set(make_pod("web", app))
        await harness.until(lambda: harness.waiting() == "CreateContainerConfigError")
        waiting = harness.container().state.waiting
        assert waiting is not None
        assert "container has runAsNonRoot and image will run as root" in waiting.message


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        ("nginx", "nginx:latest"),
        ("localhost:5000/a/b", "localhost:5000/a/b:latest"),
        ("a/b:1", "a/b:1"),
        ("a@sha256:" + "0" * 64, "a@sha256:" + "0" * 64),
        ("0" * 64, "0" * 64),
    ],
)
def test_names_are_completed(image: str, expected: str) -> None:
    assert normalized(image) == expected


@pytest.mark.parametrize("image", ["", "UPPER", "a b", "a:", "a@sha256:short", "-a", "a" * 2000])
def test_bad_names_are_refused(image: str) -> None:
    with pytest.raises(ValueError, match="invalid reference format"):
        normalized(image)


@pytest.mark.parametrize(
    ("setting", "value", "most"), [("max_parallel_pulls", 2, 2), ("serialize_pulls", True, 1)]
)
async def test_so_many_pulls_at_a_time(harness: Harness, setting: str, value: object, most: int) -> None:
    setattr(harness.config, setting, value)
    names = ["one", "two", "three"]
    for name in names:
        harness.cri.add_image(f"r.example/{name}:1", here=False)
    harness.cri.gate["PullImage"] = asyncio.Event()
    async with harness.running():
        harness.source.set(
            *(make_pod(name, {"name": "app", "image": f"r.example/{name}:1"}) for name in names)
        )
        await harness.until(lambda: harness.reasons().count("Pulling") == 3)
        await harness.settle()
        assert len(harness.cri.called("PullImage")) == most
        harness.cri.gate["PullImage"].set()
        for name in names:
            await harness.ready(name)
        assert len(harness.cri.called("PullImage")) == 3
