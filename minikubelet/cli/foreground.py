"""A node in the foreground for the pods of some manifests: says what happens, leaves nothing behind."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

from minikubelet.base.config import DaemonConfig
from minikubelet.base.errors import NodeError
from minikubelet.cli import image_files, urls
from minikubelet.cli.options import CommandError, unix_url
from minikubelet.cli.reporter import Reporter
from minikubelet.kubelet.config import KubeletConfig
from minikubelet.kubelet.defaults import apply_defaults
from minikubelet.kubelet.manifests.decode import Manifest, decode_manifest
from minikubelet.kubelet.manifests.errors import ManifestError
from minikubelet.kubelet.manifests.static import make_static
from minikubelet.kubelet.manifests.yaml_reader import MAX_BYTES
from minikubelet.kubelet.objects import Pod
from minikubelet.kubelet.objects.data import DataObject
from minikubelet.kubelet.validation import validate_pod
from minikubelet.kubelet.volumes import removal

_TERMINAL = ("Succeeded", "Failed")
_MARKER = "made-by-minikubelet-run"
"""A file in folders that a run may empty."""
_DOUBLE = 0.5
"""Seconds in which a second signal is the first one again: timeout(1) and sudo(8) may double it."""


@dataclass(frozen=True)
class Settings:
    """What ``run`` was asked for; paths are absolute."""

    root: str
    run: str
    load: list[str] = field(default_factory=list)
    certs_dirs: list[str] = field(default_factory=lambda: DaemonConfig().certs_dirs)
    unenforced_limits: str = "refuse"
    log_level: str = "error"

    @property
    def daemon(self) -> DaemonConfig:
        """Settings of the runtime; the kubelet is run beside it, with its own."""
        return DaemonConfig(
            root=self.root,
            run=self.run,
            listen=f"unix://{self.run}/minikubelet.sock",
            manifests=f"{self.run}/manifests",
            certs_dirs=self.certs_dirs,
            unenforced_limits=self.unenforced_limits,
            kubelet=False,
            cgroup_root=f"/minikubelet-{DaemonConfig(root=self.root).instance}",
            log_level=self.log_level,
        )

    @property
    def kubelet(self) -> KubeletConfig:
        """Settings of the kubelet; its pods go with it."""
        return KubeletConfig(
            container_runtime_endpoint=self.daemon.listen,
            root=f"{self.root}/kubelet",
            socket=self.daemon.kubelet_socket,
            log_dir=f"{self.root}/logs",
            stop_pods_on_exit=True,
        )


def claim(settings: Settings) -> None:
    """Make the folders, or find them made by an earlier run: what is in others is not ours to delete.

    Raises CommandError, OSError.
    """
    unix_url(settings.daemon.listen, "--run")
    if os.path.commonpath([settings.root, settings.run]) in (settings.root, settings.run):
        raise CommandError("--root and --run must not lie in each other", usage=True)
    for option, folder in (("--root", settings.root), ("--run", settings.run)):
        os.makedirs(folder, mode=0o711, exist_ok=True)
        names = os.listdir(folder)
        if names and _MARKER not in names:
            raise CommandError(f"{option}: {folder} is not empty, and not of an earlier 'minikubelet run'")
        with open(os.path.join(folder, _MARKER), "wb"):
            pass


def read_manifests(paths: list[str]) -> list[Pod]:
    """All pods of the files, complete and checked. Raises CommandError with file, line and field."""
    node_name = KubeletConfig().node_name
    pods: dict[str, Pod] = {}
    for path in paths:
        try:
            for pod, document in _decode(path).pods:
                make_static(pod, node_name, path)
                apply_defaults(pod)
                for problem in validate_pod(pod):
                    problem.file, problem.line = path, document.line(problem.path)
                    raise problem
                if pod.key in pods:
                    raise ManifestError(f"pod {pod.key} is defined twice", file=path)
                pods[pod.key] = pod
        except ManifestError as exc:
            raise CommandError(str(exc)) from None
        except OSError as exc:
            raise CommandError(f"{path}: {exc.strerror}") from None
    return list(pods.values())


def read_objects(paths: list[str]) -> list[DataObject]:
    """ConfigMaps and the like in files that :func:`read_manifests` has found good. Raises CommandError."""
    try:
        return [each for path in paths for each in _decode(path).objects]
    except (ManifestError, OSError) as exc:
        raise CommandError(str(exc)) from None


def _decode(path: str) -> Manifest:
    with open(path, "rb") as file:
        manifest = decode_manifest(file.read(MAX_BYTES + 1), path)
    if not manifest and not manifest.warnings:
        raise ManifestError("holds no pod", file=path)
    return manifest


class _Fixed:
    """A source whose pods never change."""

    def __init__(self, pods: list[Pod]) -> None:
        self._pods = pods

    async def watch(self) -> AsyncIterator[list[Pod]]:
        """See :class:`PodSource`."""
        yield self._pods
        await asyncio.Event().wait()


class Foreground:
    """One run from start to end."""

    def __init__(self, settings: Settings, pods: list[Pod], objects: Sequence[DataObject] = ()) -> None:
        self._settings = settings
        self._pods = pods
        self._objects = objects
        self._reporter = Reporter(time.monotonic(), {pod.uid: pod.metadata.name for pod in pods})
        self._interrupted = asyncio.Event()
        self._interrupted_at = 0.0
        self._hurry = asyncio.Event()
        self._all_ended = asyncio.Event()
        self._phases: dict[str, str] = {}

    async def run(self) -> int:
        """The exit code. Raises NodeError, OSError when it can't begin."""
        from minikubelet.cli.daemon import run_daemon

        ready = asyncio.Event()
        daemon = asyncio.create_task(run_daemon(self._settings.daemon, ready.set))
        waiting = asyncio.create_task(ready.wait())
        await asyncio.wait({daemon, waiting}, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        if daemon.done():
            daemon.result()  # its error, if it has one; else a signal came while it started
            return 130
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            asyncio.get_running_loop().add_signal_handler(number, self._signal)
        self._reporter.say(f"runtime ready on {self._settings.daemon.listen}")
        try:
            await self._run_pods(daemon)
        finally:
            daemon.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await daemon
            self._clean()
        self._reporter.say("stopped; nothing is left but the images")
        return int("Failed" in self._phases.values())

    def _signal(self) -> None:
        now = time.monotonic()
        if not self._interrupted.is_set():
            self._interrupted.set()
            self._interrupted_at = now
        elif now - self._interrupted_at > _DOUBLE:
            self._hurry.set()

    async def _run_pods(self, daemon: asyncio.Task[None]) -> None:
        from minikubelet.kubelet.kubelet import Kubelet

        for path in self._settings.load:
            for line in await image_files.load(self._settings.daemon.listen, path, self._settings.root):
                self._reporter.say(line)
        kubelet = Kubelet(self._settings.kubelet, source=_Fixed(self._pods))
        kubelet.objects.replace("files", self._objects)
        stop = asyncio.Event()
        serving = asyncio.create_task(kubelet.run(stop))
        showing = [
            asyncio.create_task(self._show_events(kubelet.watch_events())),
            asyncio.create_task(self._show_pods(kubelet)),
        ]
        ends = [asyncio.create_task(each.wait()) for each in (self._interrupted, self._all_ended)]
        try:
            await asyncio.wait({daemon, serving, *ends}, return_when=asyncio.FIRST_COMPLETED)
            if self._interrupted.is_set():
                self._reporter.say("stopping the pods; Ctrl-C again kills them")
            stop.set()
            hurry = asyncio.create_task(self._kill_when_hurried())
            try:
                await serving
            finally:
                hurry.cancel()
            if daemon.done():
                raise daemon.exception() or CommandError("the runtime has ended")
        finally:
            for task in (*showing, *ends):
                task.cancel()
            await asyncio.gather(*showing, *ends, return_exceptions=True)

    async def _show_events(self, events: AsyncIterator[object]) -> None:
        async for event in events:
            self._reporter.event(event)

    async def _show_pods(self, kubelet: object) -> None:
        from minikubelet.kubelet.kubelet import Kubelet

        assert isinstance(kubelet, Kubelet)
        ready: set[str] = set()
        async for change in kubelet.watch_pods():
            pod = change.object
            if change.type == "DELETED":
                self._reporter.gone(pod)
                continue
            phase = pod.status.phase
            if self._phases.get(pod.uid) != phase and phase in _TERMINAL:
                self._reporter.ended(pod)
            self._phases[pod.uid] = phase
            if pod.uid not in ready and _is_ready(pod):
                ready.add(pod.uid)
                self._reporter.ready(pod, await urls.answering(pod))
                if len(ready) == len(self._pods) and not self._interrupted.is_set():
                    self._reporter.say("Ctrl-C stops " + ("the pod" if len(ready) == 1 else "the pods"))
            ended = sum(each in _TERMINAL for each in self._phases.values())
            if ended == len(self._pods) and not self._interrupted.is_set():
                self._all_ended.set()

    async def _kill_when_hurried(self) -> None:
        """A second Ctrl-C: no grace any more."""
        from minikubelet.kubelet.cri_client import CriClient

        await self._hurry.wait()
        self._reporter.say("killing the pods")
        client = CriClient(self._settings.daemon.listen)
        try:
            for sandbox in await client.list_pod_sandboxes():
                with contextlib.suppress(NodeError):
                    await client.stop_pod_sandbox(sandbox.id)
        finally:
            await client.close()

    def _clean(self) -> None:
        """Delete what this run has made in folders; the image store stays."""
        for folder, names in (
            (self._settings.root, ("kubelet", "logs")),
            (os.path.dirname(self._settings.run), ()),
        ):
            with contextlib.suppress(FileNotFoundError):
                fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
                try:
                    for name in names or (os.path.basename(self._settings.run),):
                        removal.remove_tree_at(fd, name)
                finally:
                    os.close(fd)


def _is_ready(pod: Pod) -> bool:
    return any(each.type == "Ready" and each.status == "True" for each in pod.status.conditions)
