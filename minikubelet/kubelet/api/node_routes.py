"""Health, configuration, metrics and statistics of the node."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Iterable
from typing import Any

import msgspec
from aiohttp import web

from minikubelet.base.errors import NodeError
from minikubelet.kubelet.api import manners
from minikubelet.kubelet.api.backend import Backend, NodeFacts
from minikubelet.kubelet.configuration.apply import shown
from minikubelet.kubelet.metrics.cadvisor import cadvisor_families, machine_families, scrape_error
from minikubelet.kubelet.metrics.disks import disk_families, volume_family
from minikubelet.kubelet.metrics.families import CONTENT_TYPE, Family, render
from minikubelet.kubelet.metrics.node import BORN, start_time
from minikubelet.kubelet.metrics.resource import resource_families

log = logging.getLogger(__name__)

_SIZES = 5.0
"""Seconds for what /metrics has from the runtime and the disk; its own numbers don't wait longer."""

CHECKS = ("ping", "log", "syncloop")


def add_health(router: web.UrlDispatcher, facts: NodeFacts | None) -> None:
    """/healthz and its parts."""

    def respond(
        names: Iterable[str], *, verbose: bool, excluded: Collection[str] = frozenset()
    ) -> web.Response:
        wrong = facts.health() if facts is not None else {}
        if facts is not None:
            for name in names:
                if name not in excluded:
                    facts.metrics.health.note(name, well=not wrong.get(name))
        failing = [name for name in names if wrong.get(name) and name not in excluded]
        if not failing and not verbose:
            return web.Response(text="ok")
        lines = []
        for name in names:
            well = f"[+]{name} {'excluded: ' if name in excluded else ''}ok"
            lines.append(f"[-]{name} failed: {wrong[name]}" if name in failing else well)
        if unknown := sorted(set(excluded) - set(names)):
            words = ", ".join(f'"{each}"' for each in unknown)
            lines.append(f"warn: some health checks cannot be excluded: no matches for {words}")
        lines.append(f"healthz check {'failed' if failing else 'passed'}")
        return web.Response(status=500 if failing else 200, text="\n".join(lines) + "\n")

    async def healthz(request: web.Request) -> web.StreamResponse:
        excluded = frozenset(request.query.getall("exclude", ()))
        return respond(CHECKS, verbose="verbose" in request.query, excluded=excluded)

    async def one(request: web.Request) -> web.StreamResponse:
        name = request.match_info["name"]
        if name not in CHECKS:
            raise web.HTTPNotFound
        return respond([name], verbose=False)

    router.add_get("/healthz", healthz)
    router.add_get("/healthz/{name}", one)


def add_routes(router: web.UrlDispatcher, backend: Backend, facts: NodeFacts) -> None:
    """What a read-only port may show as well."""
    handlers = _Node(backend, facts)
    router.add_get("/metrics", handlers.metrics)
    router.add_get("/metrics/probes", handlers.probes)
    router.add_get("/metrics/resource", handlers.resource)
    router.add_get("/metrics/cadvisor", handlers.cadvisor)
    router.add_get("/metrics/slis", handlers.slis)
    router.add_route("*", "/stats", manners.with_slash)
    for path in ("/stats/summary", "/stats/summary/"):
        router.add_get(path, handlers.summary, allow_head=False)
        router.add_post(path, handlers.summary)


def add_configz(router: web.UrlDispatcher, backend: Backend, facts: NodeFacts) -> None:
    """What a read-only port may not show."""
    router.add_get("/configz", _Node(backend, facts).configz)


class _Node:
    """One method a path."""

    def __init__(self, backend: Backend, facts: NodeFacts) -> None:
        self._backend = backend
        self._facts = facts

    async def configz(self, request: web.Request) -> web.StreamResponse:
        """The KubeletConfiguration in force."""
        return _json({"kubeletconfig": shown(self._facts.config)})

    async def metrics(self, request: web.Request) -> web.StreamResponse:
        """The kubelet's own."""
        pods = self._backend.pods.pods()
        summary = None
        try:
            async with asyncio.timeout(_SIZES):
                summary = await self._facts.statistics.summary()
        except (NodeError, OSError) as exc:  # TimeoutError is one
            log.error("sizes of volumes and logs can't be had: %s", exc or "it takes too long")
        families = self._facts.metrics.kubelet(pods, self._facts.desired())
        volumes = volume_family(pods, self._facts.config.pods_dir)
        return _metrics(request, [*families, *disk_families(summary), volumes])

    async def probes(self, request: web.Request) -> web.StreamResponse:
        """How often probes ended how."""
        return _metrics(request, [*self._facts.metrics.probes(self._backend.pods.pods()), start_time()])

    async def slis(self, request: web.Request) -> web.StreamResponse:
        """How the checks of /healthz have gone, for who reckons how available the node is (KEP-3466)."""
        return _metrics(request, [*self._facts.metrics.health.families(), start_time()])

    async def resource(self, request: web.Request) -> web.StreamResponse:
        """For the metrics server."""
        try:
            summary = await self._facts.statistics.summary(only_cpu_and_memory=True)
        except NodeError as exc:
            log.error("statistics can't be had: %s", exc)
            summary = None
        return _metrics(request, resource_families(summary))

    async def cadvisor(self, request: web.Request) -> web.StreamResponse:
        """What cAdvisor would say."""
        try:
            families = await cadvisor_families(self._backend.runtime)
        except NodeError as exc:
            log.error("metrics of the containers can't be had: %s", exc)
            families = [*machine_families(), scrape_error(1)]
        return _metrics(request, families)

    async def summary(self, request: web.Request) -> web.StreamResponse:
        """The Summary; ``only_cpu_and_memory=true`` leaves out disks and network."""
        short = request.query.get("only_cpu_and_memory", "").lower() in ("1", "true")
        return _json(await self._facts.statistics.summary(only_cpu_and_memory=short))


def running_pods(facts: NodeFacts) -> dict[str, Any]:
    """A PodList of what runs in the runtime, whoever wants it: names and images, nothing more."""
    items = []
    for uid in sorted(facts.cache.uids()):
        view = facts.cache.view(uid)
        sandbox = view.sandbox
        if sandbox is None or not sandbox.ready:
            continue
        running = [each for each in view.containers if each.is_running]
        containers = [{"name": each.name, "image": each.image, "resources": {}} for each in running]
        metadata = {"name": sandbox.name, "namespace": sandbox.namespace, "uid": uid}
        items.append({"metadata": metadata, "spec": {"containers": containers}, "status": {}})
    return {"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items}


def _metrics(request: web.Request, families: Iterable[Family]) -> web.Response:
    headers = {"Content-Type": CONTENT_TYPE, "Process-Start-Time-Unix": str(int(BORN))}
    response = web.Response(body=render(families).encode(), headers=headers)
    if "gzip" in request.headers.get("Accept-Encoding", ""):
        response.enable_compression(web.ContentCoding.gzip)
    return response


def _json(body: Any) -> web.Response:
    return web.Response(body=msgspec.json.encode(body), content_type="application/json")
