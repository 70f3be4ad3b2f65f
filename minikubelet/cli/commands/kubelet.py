"""``kubelet``: the kubelet without the runtime."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal

from minikubelet.cli import options

_EXAMPLES = """
# Over containerd
sudo minikubelet kubelet --container-runtime-endpoint unix:///run/containerd/containerd.sock

# One manifest; its pods go when the kubelet does
sudo minikubelet kubelet --manifests my-pod.yaml --stop-pods-on-exit \\
    --container-runtime-endpoint unix:///run/minikubelet/minikubelet.sock
"""


def parser() -> options.Parser:
    """See :mod:`minikubelet.cli.commands`."""
    made = options.Parser(
        "kubelet",
        "Run the kubelet alone: pods from manifests through any runtime that serves CRI v1.",
        "--container-runtime-endpoint unix:///PATH [options]",
        _EXAMPLES,
    )
    made.add_argument(
        "--container-runtime-endpoint",
        metavar="URL",
        default=os.environ.get("CONTAINER_RUNTIME_ENDPOINT") or None,
        help="the CRI socket (CONTAINER_RUNTIME_ENDPOINT)",
    )
    made.add_argument("--image-service-endpoint", metavar="URL", help="default: the same socket")
    made.add_argument(
        "--manifests",
        metavar="DIR",
        default="/etc/minikubelet/manifests",
        help="folder of pod manifests, watched, or one file (default %(default)s)",
    )
    made.add_argument(
        "--root",
        metavar="DIR",
        default="/var/lib/minikubelet/kubelet",
        help="volumes and other state of pods (default %(default)s)",
    )
    made.add_argument(
        "--run",
        metavar="DIR",
        default=os.environ.get("MINIKUBELET_RUN") or options.DEFAULT_RUN,
        help="folder of the local API's socket, kubelet.sock (default %(default)s)",
    )
    made.add_argument("--log-dir", metavar="DIR", default="/var/log/pods", help="default %(default)s")
    made.add_argument("--node-name", metavar="NAME", help="default: the host name")
    made.add_argument("--stop-pods-on-exit", action="store_true", help="terminate all pods before leaving")
    made.add_argument("--log-level", choices=("debug", "info", "warning", "error"), default="info")
    return made


def run(args: argparse.Namespace) -> int:
    """See :mod:`minikubelet.cli.commands`."""
    if not args.container_runtime_endpoint:
        raise options.CommandError("--container-runtime-endpoint is required", usage=True)
    endpoint = options.unix_url(args.container_runtime_endpoint, "--container-runtime-endpoint")
    images = args.image_service_endpoint
    images = options.unix_url(images, "--image-service-endpoint") if images else ""
    options.need_root("the kubelet makes volumes and reads other users' files")
    from minikubelet.cli.daemon import set_up_logging
    from minikubelet.kubelet.config import KubeletConfig

    set_up_logging(args.log_level)
    config = KubeletConfig(
        container_runtime_endpoint=endpoint,
        image_service_endpoint=images,
        manifests=options.absolute(args.manifests),
        root=options.absolute(args.root),
        socket=os.path.join(options.absolute(args.run), "kubelet.sock"),
        log_dir=options.absolute(args.log_dir),
        stop_pods_on_exit=args.stop_pods_on_exit,
    )
    if args.node_name:
        config.node_name = args.node_name
    asyncio.run(_serve(config))
    return 0


async def _serve(config: object) -> None:
    from minikubelet.base.sd_notify import notify
    from minikubelet.kubelet.config import KubeletConfig
    from minikubelet.kubelet.kubelet import Kubelet

    assert isinstance(config, KubeletConfig)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    notify("READY=1")
    await Kubelet(config).run(stop)
    notify("STOPPING=1")
