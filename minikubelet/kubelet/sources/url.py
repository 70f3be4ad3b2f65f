"""Pod manifests from a URL, asked for again and again; what was good last stays until something is better."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping, Sequence

import aiohttp
from multidict import CIMultiDict
from yarl import URL

from minikubelet.base.errors import invalid
from minikubelet.kubelet.manifests.errors import ManifestError
from minikubelet.kubelet.manifests.yaml_reader import MAX_BYTES
from minikubelet.kubelet.object_store import ObjectStore
from minikubelet.kubelet.objects import Pod
from minikubelet.kubelet.sources.reading import Reading, Report, read_manifest

log = logging.getLogger(__name__)

_TIMEOUT = aiohttp.ClientTimeout(total=10)
"""As upstream's."""
_REDIRECTS = 5
_CHUNK = 64 * 1024


class UrlSource:
    """See the module; one reader at a time.

    A Pod, a PodList or any manifest that a file could be. An empty answer is a failure, not "no pods".
    """

    def __init__(
        self,
        url: str,
        headers: Mapping[str, Sequence[str]],
        period: float,
        node_name: str,
        report: Report,
        objects: ObjectStore | None = None,
    ) -> None:
        """``period``: seconds between two requests. Raises NodeError INVALID_ARGUMENT."""
        try:
            self._url = URL(url)
        except ValueError as exc:
            raise invalid("staticPodURL", str(exc)) from None
        if self._url.scheme not in ("http", "https") or not self._url.host:
            raise invalid("staticPodURL", "is not an http or https URL")
        self._headers = CIMultiDict((name, value) for name, values in headers.items() for value in values)
        self._period = period
        self._node_name = node_name
        self._report = report
        self._objects = objects or ObjectStore()
        self._problem = ""
        self._last: bytes | None = None
        self.name = str(self._url.with_user(None).with_query(None).with_fragment(None))
        """The URL as people may see it: passwords and queries left out."""

    async def watch(self) -> AsyncIterator[list[Pod]]:
        """See :class:`PodSource`."""
        while True:
            reading = await self._look()
            if reading is not None:
                self._objects.replace(self.name, reading.objects)
                yield reading.pods
            await asyncio.sleep(self._period)

    async def _look(self) -> Reading | None:
        """What is there if it has changed and is good. A problem is told once, until there is another."""
        try:
            text = await self._fetch()
            if text == self._last:
                self._good()
                return None
            reading = await asyncio.to_thread(read_manifest, text, self.name, self._node_name, "http")
            self._check_names(reading)
        except ManifestError as exc:
            exc.file = exc.file or self.name
            self._bad(exc)
            return None
        except (aiohttp.ClientError, OSError, TimeoutError) as exc:
            # Its words may hold the whole URL with its secrets.
            words = exc.strerror if isinstance(exc, OSError) and exc.strerror else type(exc).__name__
            self._bad(ManifestError(f"can't be read: {words}", file=self.name))
            return None
        except Exception as exc:
            log.exception("manifest %s", self.name)
            self._bad(ManifestError(f"can't be understood: {exc!r}"[:500], file=self.name))
            return None
        self._last = text
        self._good()
        for warning in reading.warnings:
            self._report(warning, "warning")
        return reading

    @staticmethod
    def _check_names(reading: Reading) -> None:
        seen: set[str] = set()
        for pod in reading.pods:
            if pod.key in seen or pod.uid in seen:
                raise ManifestError(f"pod {pod.key} is defined twice")
            seen |= {pod.key, pod.uid}

    def _bad(self, problem: ManifestError) -> None:
        if self._problem != str(problem):
            self._problem = str(problem)
            self._report(problem, "error")

    def _good(self) -> None:
        if self._problem:
            log.info("%s is good again", self.name)
            self._problem = ""

    async def _fetch(self) -> bytes:
        url = self._url
        async with aiohttp.ClientSession(timeout=_TIMEOUT, trust_env=True) as session:
            for _ in range(_REDIRECTS):
                async with session.get(url, headers=self._headers, allow_redirects=False) as response:
                    if response.status in (301, 302, 303, 307, 308):
                        url = self._redirected(url, response.headers.get("Location", ""))
                        continue
                    if response.status != 200:
                        raise ManifestError(f"answers with {response.status}")
                    return await _read(response)
        raise ManifestError(f"redirects more than {_REDIRECTS} times")

    def _redirected(self, url: URL, location: str) -> URL:
        """Where to look next: only on the same server, as the headers are meant for nobody else."""
        try:
            target = url.join(URL(location))
        except ValueError:
            raise ManifestError("redirects to what is no URL") from None
        if not location or target.origin() != self._url.origin():
            raise ManifestError("redirects to another server")
        return target


async def _read(response: aiohttp.ClientResponse) -> bytes:
    text = bytearray()
    async for piece in response.content.iter_chunked(_CHUNK):
        text += piece
        if len(text) > MAX_BYTES:
            raise ManifestError(f"larger than {MAX_BYTES} bytes")
    if not text:
        raise ManifestError("answers with nothing")
    return bytes(text)
