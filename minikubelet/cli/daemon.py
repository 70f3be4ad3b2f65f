"""The daemon: puts the rooms together, serves, and lets go of everything when told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import os
import resource
import signal
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from minikubelet.base.clock import monotonic
from minikubelet.base.collector import settling
from minikubelet.base.config import SIGNATURE_POLICY, DaemonConfig
from minikubelet.base.database import Database
from minikubelet.base.errors import NodeError, precondition
from minikubelet.base.sd_notify import notify, watchdog_seconds

if TYPE_CHECKING:
    from minikubelet.cri.local import LocalChannel
    from minikubelet.kubelet.config import KubeletConfig
    from minikubelet.runtime.runtime import Runtime

log = logging.getLogger(__name__)

_STOP_GRACE = 5.0
"""Seconds that calls under way get when the daemon stops."""


async def run_daemon(
    config: DaemonConfig,
    ready: Callable[[], None] | None = None,
    kubelet: KubeletConfig | None = None,
    warnings: Sequence[str] = (),
) -> None:
    """Run until SIGTERM or SIGINT; pods run on afterwards. ``ready`` is called once everything serves.

    ``warnings``, about the kubelet's settings, are logged.

    Raises NodeError (another daemon runs on these folders, the socket is taken), OSError.
    """
    started = monotonic()
    set_up_logging(config.log_level)
    raise_file_limit()
    for warning in warnings:
        log.warning("%s", warning)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with contextlib.AsyncExitStack() as stack:
        for path in (config.root, config.run):
            stack.enter_context(locked(path))
        with settling():
            await _start(config, stack, stop, kubelet)
        log.info("ready after %.0f ms, serving on %s", (monotonic() - started) * 1000, config.listen)
        notify("READY=1", f"MAINPID={os.getpid()}")
        if ready is not None:
            ready()
        watchdog = asyncio.ensure_future(_watchdog())
        await stop.wait()
        watchdog.cancel()
        notify("STOPPING=1")
        log.info("stopping; pods run on")


async def _start(
    config: DaemonConfig,
    stack: contextlib.AsyncExitStack,
    stop: asyncio.Event,
    kubelet: KubeletConfig | None,
) -> None:
    # Imported here: the command line stays quick, and the spawner gets ready while the rest is imported.
    from minikubelet.runtime.spawner_client import SpawnerClient

    spawner = SpawnerClient()
    spawner.start()
    stack.callback(spawner.close)

    from minikubelet.images.endpoints import Sources
    from minikubelet.images.store import ImageStore
    from minikubelet.network.choice import make_network
    from minikubelet.runtime.runtime import Runtime

    db = Database(f"{config.root}/state.db")
    stack.callback(db.close)
    sources = Sources(
        config.certs_dirs,
        config.registries_conf,
        config.registry_auth_file,
        config.signature_policy,
        signature_policy_required=config.signature_policy != SIGNATURE_POLICY,
    )
    images = ImageStore(db, config.root, sources, config.pinned_images)
    network = make_network(db, config)
    stack.push_async_callback(network.close)
    runtime = Runtime(config, db, images, network, spawner)
    stack.push_async_callback(runtime.close)
    for lack in runtime.host.lacks:
        log.warning("this host lacks %s: %s", lack.what, lack.consequence)
    await images.start()
    stack.push_async_callback(images.close)
    await network.start()
    await runtime.start()

    from minikubelet.cri.image_service import ImageService
    from minikubelet.cri.local import LocalChannel
    from minikubelet.cri.node_service import ImageStoreService
    from minikubelet.cri.runtime_service import RuntimeService
    from minikubelet.cri.server import CriServer
    from minikubelet.cri.stream_sessions import StreamOpener, StreamUrls
    from minikubelet.criapi import services
    from minikubelet.streaming.server import StreamingServer

    streaming = StreamingServer(StreamOpener(runtime), config.stream_address)
    await streaming.start()
    stack.push_async_callback(streaming.close)
    servicers = {
        services.RUNTIME.name: RuntimeService(runtime, StreamUrls(runtime, streaming)),
        services.IMAGE.name: ImageService(images),
        services.IMAGE_STORE.name: ImageStoreService(images),
    }
    server = CriServer(config.socket_path, servicers)
    await server.start()
    stack.push_async_callback(server.stop, _STOP_GRACE)
    if config.nri_path:
        await _serve_plugins(config.nri_path, stack, runtime)
    if config.kubelet:
        await stack.enter_async_context(_kubelet(config, stop, kubelet, LocalChannel(servicers)))


async def _serve_plugins(path: str, stack: contextlib.AsyncExitStack, runtime: Runtime) -> None:
    from minikubelet.nri.manager import Manager
    from minikubelet.nri.server import NriServer

    plugins = Manager(runtime)
    server = NriServer(path, plugins)
    await server.start()
    stack.push_async_callback(server.close)
    runtime.use_plugins(plugins)


@contextlib.asynccontextmanager
async def _kubelet(
    config: DaemonConfig, stop: asyncio.Event, settings: KubeletConfig | None, runtime: LocalChannel
) -> AsyncIterator[None]:
    """The kubelet beside the runtime; should it fail, the daemon stops and the service manager knows."""
    from minikubelet.kubelet.config import KubeletConfig
    from minikubelet.kubelet.kubelet import Kubelet

    kubelet = Kubelet(
        settings
        or KubeletConfig(
            container_runtime_endpoint=config.listen,
            manifests=config.manifests,
            root=f"{config.root}/kubelet",
            socket=config.kubelet_socket,
        ),
        runtime=runtime,
    )
    ending = asyncio.Event()
    task = asyncio.ensure_future(kubelet.run(ending))

    def power_off() -> None:
        kubelet.power_off()
        stop.set()

    asyncio.get_running_loop().add_signal_handler(signal.SIGPWR, power_off)

    def ended(done: asyncio.Future[None]) -> None:
        if not done.cancelled() and (error := done.exception()) is not None:
            log.error("the kubelet has failed", exc_info=error)
            stop.set()

    task.add_done_callback(ended)
    try:
        yield
    finally:
        ending.set()
        await asyncio.wait([task], timeout=_STOP_GRACE + kubelet.shutdown_seconds)
        task.cancel()
        await asyncio.wait([task], timeout=_STOP_GRACE)


async def _watchdog() -> None:
    """The loop that sends it is the loop that serves: silence means that it hangs."""
    seconds = watchdog_seconds()
    while seconds:
        notify("WATCHDOG=1")
        await asyncio.sleep(seconds / 2)


@contextlib.contextmanager
def locked(folder: str) -> Iterator[None]:
    """Hold ``folder/lock`` (flock(2), so it ends with the process). Raises FAILED_PRECONDITION."""
    os.makedirs(folder, mode=0o711, exist_ok=True)
    path = f"{folder}/lock"
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.pread(fd, 32, 0).decode("ascii", "replace").strip() or "unknown"
            raise precondition(f"another minikubelet daemon (process {owner}) uses {folder}") from None
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(fd)


def raise_file_limit() -> None:
    """The soft limit of open files to the hard one: each pod takes a few."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def set_up_logging(level: str) -> None:
    """One line a record on stderr; without time stamps where journald adds its own."""
    handler = logging.StreamHandler(sys.stderr)
    journal = "JOURNAL_STREAM" in os.environ
    layout = "%(levelname)s %(name)s: %(message)s"
    handler.setFormatter(_OneLine(layout if journal else f"%(asctime)s {layout}"))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for noisy in ("asyncio", "aiohttp", "pyroute2"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


class _OneLine(logging.Formatter):
    """A traceback's lines follow, indented; a message never breaks the line."""

    default_msec_format = "%s.%03d"

    def formatMessage(self, record: logging.LogRecord) -> str:
        return super().formatMessage(record).replace("\n", "\\n")


def main(config: DaemonConfig, kubelet: KubeletConfig | None = None, warnings: Sequence[str] = ()) -> int:
    """Run the daemon; returns the exit code."""
    try:
        asyncio.run(run_daemon(config, None, kubelet, warnings))
    except (NodeError, OSError) as exc:
        print(f"minikubelet daemon: {exc}", file=sys.stderr)
        return 1
    return 0
