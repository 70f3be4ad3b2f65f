"""Images of containers: present or pulled by policy, with upstream's backoff, events and error words."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import re
from collections.abc import Callable
from dataclasses import dataclass

from minikubelet.base.errors import Code, NodeError
from minikubelet.criapi import api_pb2 as api
from minikubelet.kubelet.backoff import Backoff
from minikubelet.kubelet.clock import Clock
from minikubelet.kubelet.cri_client import CriClient
from minikubelet.kubelet.events import NORMAL, WARNING, EventRecorder
from minikubelet.kubelet.keyring import Credential, Keyring
from minikubelet.kubelet.lookups import NoLookups
from minikubelet.kubelet.metrics.images import ImageInstruments
from minikubelet.kubelet.objects import Pod
from minikubelet.kubelet.pull_records import PullRecords, SecretKey

_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_HOST = r"(?:[a-zA-Z0-9](?:[a-zA-Z0-9.-]*[a-zA-Z0-9])?|\[[0-9a-fA-F:]+\])(?::[0-9]+)?"
_REFERENCE = re.compile(
    rf"(?:{_HOST}/)?{_COMPONENT}(?:/{_COMPONENT})*(?P<tag>:[\w][\w.-]{{0,127}})?"
    r"(?P<digest>@[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,})?\Z"
)
_IMAGE_ID = re.compile(r"(?:sha256:)?[0-9a-f]{64}\Z")
_LONGEST = 1024


class ImageError(Exception):
    """An image that a container can't have now: the waiting reason, the message, seconds until a retry."""

    def __init__(self, reason: str, message: str, retry_after: float = 0.0) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.retry_after = retry_after


@dataclass(frozen=True)
class LocalImage:
    """An image the runtime has: what to create containers with, and the user it names."""

    ref: str
    uid: int | None
    user: str
    pulled: bool = False
    """It was pulled just now, so that the event is out already."""


@dataclass(frozen=True)
class Wanted:
    """An image that a pod's container (or image volume) asks for."""

    pod: Pod
    image: str
    policy: str
    container: str = ""
    sandbox: api.PodSandboxConfig | None = None


def normalized(image: str) -> str:
    """``image`` with ``:latest`` where it has neither tag nor digest. Raises ValueError."""
    if _IMAGE_ID.match(image):
        return image
    match = _REFERENCE.match(image) if len(image) <= _LONGEST else None
    if match is None:
        raise ValueError("invalid reference format")
    return image if match["tag"] or match["digest"] else f"{image}:latest"


class ImageManager:
    """Makes sure that images are there. Pulls run side by side if they may; failures back off."""

    def __init__(
        self,
        client: CriClient,
        events: EventRecorder,
        backoff: Backoff,
        clock: Clock,
        keyring: Keyring | None = None,
        records: PullRecords | None = None,
        at_once: int = 0,
        counted: ImageInstruments | None = None,
        pulled: Callable[[str, float], None] = lambda uid, seconds: None,
    ) -> None:
        """Without ``records`` an image that is there is everybody's. ``at_once``: pulls at a time; 0: all.

        ``pulled`` hears for which pod an image was pulled or was to be, and for how long.
        """
        self._counted = counted or ImageInstruments()
        self._pulled = pulled
        self._records = records
        self._slots = asyncio.Semaphore(at_once) if at_once else contextlib.nullcontext()
        self._keyring = keyring or Keyring(NoLookups(), events)
        self._client = client
        self._events = events
        self._backoff = backoff
        self._clock = clock
        self._last_error: dict[str, str] = {}
        self._asked: dict[str, asyncio.Task[api.Image | None]] = {}
        """Questions under way about images: pods that begin together have one answer."""

    async def ensure(self, wanted: Wanted) -> LocalImage:
        """The image, pulled if the policy asks for it. Raises ImageError; tells nobody if it was there."""
        try:
            image = normalized(wanted.image)
        except ValueError as exc:
            parsing = f'couldn\'t parse image name "{wanted.image}": {exc}'
            message = f'Failed to apply default image tag "{wanted.image}": {parsing}'
            self._event(wanted, WARNING, "InspectFailed", message)
            self._counted.asked(wanted.policy, present=None, pull=None)
            raise ImageError("InvalidImageName", message) from None
        if (found := await self._usable(wanted, image)) is not None:
            return found
        # Whoever may not have the image isn't told either that it is there.
        if wanted.policy == "Never":
            message = f'Container image "{wanted.image}" is not present with pull policy of Never'
            self._event(wanted, WARNING, "ErrImageNeverPull", message)
            raise ImageError("ErrImageNeverPull", message)
        return await self._pull(wanted, image)

    def say_present(self, wanted: Wanted) -> None:
        """The event for an image that needed no pull; made when its container is about to start."""
        message = (
            f'Container image "{wanted.image}" already present on machine and can be accessed by the pod'
        )
        self._event(wanted, NORMAL, "Pulled", message)

    def forget(self, pod_uid: str) -> None:
        """Drop the backoffs of a pod that is gone."""
        self._backoff.forget(pod_uid)
        for key in [key for key in self._last_error if key.startswith(pod_uid)]:
            del self._last_error[key]

    async def _usable(self, wanted: Wanted, image: str) -> LocalImage | None:
        """The image, if it is there and needn't be pulled. Raises ImageError."""
        present: bool | None = None
        pull: bool | None = None
        try:
            if wanted.policy == "Always":
                pull = True
                return None
            found = await self._inspect(wanted, image)
            present = found is not None
            if found is None:
                pull = None if wanted.policy == "Never" else True
                return None
            pull = await self._must_prove(wanted, image, found)
            return None if pull else found
        finally:
            self._counted.asked(wanted.policy, present=present, pull=pull)

    async def _inspect(self, wanted: Wanted, image: str) -> LocalImage | None:
        try:
            status = await self._status(image)
        except NodeError as exc:
            message = f'Failed to inspect image "{wanted.image}": {exc}'
            self._event(wanted, WARNING, "InspectFailed", message)
            raise ImageError("ImageInspectError", message) from None
        return None if status is None else _local(status)

    async def _status(self, image: str) -> api.Image | None:
        task = self._asked.get(image)
        if task is None:
            task = self._asked[image] = asyncio.create_task(self._client.image_status(image))
            task.add_done_callback(functools.partial(self._answered, image))
        return await asyncio.shield(task)

    def _answered(self, image: str, task: asyncio.Task[api.Image | None]) -> None:
        del self._asked[image]
        if not task.cancelled():
            task.exception()  # whoever asked may have gone

    async def _pull(self, wanted: Wanted, image: str) -> LocalImage:
        key = f"{wanted.pod.uid}_{wanted.image}"
        wait = self._backoff.remaining_since_update(key)
        if wait:
            message = f'Back-off pulling image "{wanted.image}"'
            self._event(wanted, NORMAL, "BackOff", message)
            if key in self._last_error:
                message = f"{message}: {self._last_error[key]}"
            raise ImageError("ImagePullBackOff", message, wait)
        self._last_error.pop(key, None)
        self._event(wanted, NORMAL, "Pulling", f'Pulling image "{wanted.image}"')
        begun = self._clock.monotonic()
        spec = api.ImageSpec(image=image, annotations=wanted.pod.metadata.annotations)
        try:
            async with self._slots:
                started = self._clock.monotonic()
                ref = await self._pull_and_note(wanted, spec)
                took = _spell(self._clock.monotonic() - started)
            status = await self._client.image_status(ref)
        except NodeError as exc:
            raise self._failed(wanted, key, exc) from None
        finally:
            self._pulled(wanted.pod.uid, self._clock.monotonic() - begun)
        seconds = self._clock.monotonic() - begun
        whole, size = _spell(seconds), status.size if status else 0
        self._counted.pulled(size, seconds)
        self._event(
            wanted,
            NORMAL,
            "Pulled",
            f'Successfully pulled image "{wanted.image}" in {took} ({whole} including waiting). '
            f"Image size: {size} bytes.",
        )
        if status is None:
            return LocalImage(ref, None, "", pulled=True)
        return _local(status, pulled=True)

    async def _must_prove(self, wanted: Wanted, image: str, found: LocalImage) -> bool:
        """Whether the pod has to pull an image that is there, to show that it may."""
        if self._records is None:
            return False

        async def secrets() -> list[SecretKey]:
            credentials = await self._keyring.credentials(wanted.pod, image)
            return [each.secret for each in credentials if each.secret is not None]

        return await self._records.must_pull(wanted.image, found.ref, secrets)

    async def _pull_and_note(self, wanted: Wanted, spec: api.ImageSpec) -> str:
        """The image's ID; thanks to whose credentials it came is in the records. Raises NodeError."""
        if self._records is None:
            return (await self._pull_with_credentials(wanted, spec))[0]
        try:
            self._records.begin(wanted.image)
        except OSError as exc:
            words = f"Failed to record image pull intent for container image {wanted.image!r}: {exc}"
            raise NodeError(Code.INTERNAL, words) from None
        try:
            ref, used = await self._pull_with_credentials(wanted, spec)
        except BaseException:
            self._records.failed(wanted.image)
            raise
        self._records.pulled(wanted.image, ref, used.secret if used is not None else None)
        return ref

    async def _pull_with_credentials(
        self, wanted: Wanted, spec: api.ImageSpec
    ) -> tuple[str, Credential | None]:
        """Try all credentials that fit, the pod's before the node's, as upstream does; none if none fit."""
        found = await self._keyring.credentials(wanted.pod, spec.image)
        credentials: list[Credential | None] = [*found] if found else [None]
        errors: list[NodeError] = []
        for each in credentials:
            try:
                auth = each.auth if each is not None else None
                return await self._client.pull_image(spec, auth, wanted.sandbox), each
            except NodeError as exc:
                if not any(exc.message == earlier.message for earlier in errors):
                    errors.append(exc)
        if len(errors) == 1:
            raise errors[0]
        raise NodeError(errors[-1].code, f"[{', '.join(str(each) for each in errors)}]")

    def _failed(self, wanted: Wanted, key: str, exc: NodeError) -> ImageError:
        self._event(wanted, WARNING, "Failed", f'Failed to pull image "{wanted.image}": {exc}')
        self._backoff.advance(key, self._clock.monotonic())
        reason, message = "ErrImagePull", str(exc)
        for word, why in (
            ("RegistryUnavailable", "the registry is unavailable"),
            ("SignatureValidationFailed", "the signature validation failed"),
        ):
            if message.startswith(word):
                rest = message.removeprefix(word)
                reason, message = word, f"image pull failed for {wanted.image} because {why}{rest}"
        self._last_error[key] = f"{reason}: {message}"
        return ImageError(reason, message, self._backoff.remaining_since_update(key))

    def _event(self, wanted: Wanted, kind: str, reason: str, message: str) -> None:
        self._events.pod(wanted.pod, kind, reason, message, wanted.container)


def _local(status: api.Image, pulled: bool = False) -> LocalImage:
    if status.HasField("uid"):
        return LocalImage(status.id, status.uid.value, "", pulled)
    return LocalImage(status.id, None if status.username else 0, status.username, pulled)


def _spell(seconds: float) -> str:
    """As Go prints a duration cut to milliseconds."""
    if seconds < 1:
        return f"{int(seconds * 1000)}ms"
    minutes, rest = divmod(seconds, 60)
    text = f"{rest:.3f}".rstrip("0").rstrip(".")
    return f"{int(minutes)}m{text}s" if minutes else f"{text}s"
