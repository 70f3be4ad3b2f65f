"""``kubelet``: the kubelet without the runtime."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal

from minikubelet.base.collector import settling
from minikubelet.cli import options
from minikubelet.kubelet.config import KubeletConfig
from minikubelet.kubelet.configuration import flags
from minikubelet.kubelet.server_config import ServerConfig

log = logging.getLogger(__name__)

MANIFESTS = "/etc/minikubelet/manifests"
PORT = 10250
HEALTHZ_PORT = 10248
_EXAMPLES = """
# Over containerd
sudo minikubelet kubelet --container-runtime-endpoint unix:///run/containerd/containerd.sock

# One manifest; its pods go when the kubelet does
sudo minikubelet kubelet --manifests my-pod.yaml --stop-pods-on-exit \\
    --container-runtime-endpoint unix:///run/minikubelet/minikubelet.sock

# With a KubeletConfiguration, as upstream's kubelet is started
sudo minikubelet kubelet --config /var/lib/kubelet/config.yaml --config-dir /etc/kubernetes/kubelet.conf.d
"""


def parser() -> options.Parser:
    """See :mod:`minikubelet.cli.commands`."""
    made = options.Parser(
        "kubelet",
        "Run the kubelet alone: pods from manifests through any runtime that serves CRI v1.",
        "--container-runtime-endpoint unix:///PATH [options]",
        _EXAMPLES,
    )
    made.add_argument("--config", metavar="FILE", help="a KubeletConfiguration (v1beta1), YAML or JSON")
    made.add_argument("--config-dir", metavar="DIR", help="drop-ins for it: *.conf, in lexical order")
    made.add_argument(
        "--manifests", metavar="DIR", help=f"pod manifests, watched; or one file (default {MANIFESTS})"
    )
    made.add_argument(
        "--root",
        "--root-dir",
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
    made.add_argument("--log-dir", metavar="DIR", help="logs of containers (default /var/log/pods)")
    made.add_argument("--node-name", metavar="NAME", help="default: the host name")
    made.add_argument("--stop-pods-on-exit", action="store_true", help="terminate all pods before leaving")
    made.add_argument("--log-level", choices=("debug", "info", "warning", "error"), default="info")
    flags.add(made)
    return made


def configure(args: argparse.Namespace) -> tuple[KubeletConfig, list[str]]:
    """Settings and warnings from file, drop-ins and flags. Raises NodeError, OSError."""
    config = KubeletConfig(
        container_runtime_endpoint=os.environ.get("CONTAINER_RUNTIME_ENDPOINT", ""),
        root=options.absolute(args.root),
        socket=os.path.join(options.absolute(args.run), "kubelet.sock"),
        stop_pods_on_exit=args.stop_pods_on_exit,
        manifests=MANIFESTS,
        server=ServerConfig(port=PORT, healthz_port=HEALTHZ_PORT),
    )
    warnings = flags.configure(args, config, args.config or "", args.config_dir or "")
    if not config.container_runtime_endpoint:
        raise options.CommandError("--container-runtime-endpoint is required", usage=True)
    for name in ("container_runtime_endpoint", "image_service_endpoint"):
        if url := getattr(config, name):
            setattr(config, name, options.unix_url(url, "--" + name.replace("_", "-")))
    config.manifests = options.absolute(args.manifests or config.manifests or MANIFESTS)
    config.log_dir = options.absolute(args.log_dir or config.log_dir)
    if args.node_name:
        config.node_name = args.node_name
    return config, warnings


def run(args: argparse.Namespace) -> int:
    """See :mod:`minikubelet.cli.commands`."""
    config, warnings = configure(args)
    options.need_root("the kubelet makes volumes and reads other users' files")
    from minikubelet.cli.daemon import set_up_logging

    set_up_logging(args.log_level)
    for warning in warnings:
        log.warning("%s", warning)
    asyncio.run(_serve(config))
    return 0


async def _serve(config: KubeletConfig) -> None:
    with settling():
        from minikubelet.base.sd_notify import notify
        from minikubelet.kubelet.kubelet import Kubelet

    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    kubelet = Kubelet(config)

    def power_off() -> None:
        kubelet.power_off()
        stop.set()

    asyncio.get_running_loop().add_signal_handler(signal.SIGPWR, power_off)
    notify("READY=1")
    await kubelet.run(stop)
    notify("STOPPING=1")
