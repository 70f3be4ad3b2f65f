"""``daemon``: flags and configuration file; :mod:`minikubelet.cli.daemon` does the work."""

from __future__ import annotations

import argparse
import os

from minikubelet.base.config import DaemonConfig
from minikubelet.cli import config_file, options
from minikubelet.cli.commands.kubelet import HEALTHZ_PORT, PORT
from minikubelet.kubelet.config import KubeletConfig
from minikubelet.kubelet.configuration import document, flags
from minikubelet.kubelet.server_config import ServerConfig

CONFIG = "/etc/minikubelet/config.yaml"

_EXAMPLES = """
# Runtime and kubelet with the default folders; manifests in /etc/minikubelet/manifests become pods
sudo minikubelet daemon

# The CRI server alone, for another kubelet or crictl
sudo minikubelet daemon --no-kubelet

# A second daemon beside the first, without ports
sudo minikubelet daemon --root /srv/two --run /run/two --manifests /srv/two/manifests --enable-server=false

# With a KubeletConfiguration, as upstream's kubelet has it
sudo minikubelet daemon --kubelet-config /var/lib/kubelet/config.yaml --max-pods 50
"""

_OWN_FLAGS = ("container-runtime-endpoint", "image-service-endpoint", "cni-conf-dir", "cni-bin-dir")
"""Flags of upstream's kubelet that are the runtime's here, or make no sense in one daemon."""


def parser() -> options.Parser:
    """See :mod:`minikubelet.cli.commands`."""
    made = options.Parser(
        "daemon",
        "Run the runtime and the kubelet. Pods run on when it stops, and are found again by the next. "
        "All flags of 'minikubelet kubelet' are taken as well.",
        "[options]",
        _EXAMPLES,
    )
    default = DaemonConfig()
    made.add_argument("--config", metavar="FILE", help=f"YAML; default {CONFIG}, if it is there")
    made.add_argument(
        "--kubelet-config", metavar="FILE", help="a KubeletConfiguration (v1beta1); --config takes it as well"
    )
    made.add_argument("--config-dir", metavar="DIR", help="drop-ins for the KubeletConfiguration: *.conf")
    made.add_argument("--root", metavar="DIR", help=f"state and images (default {default.root})")
    made.add_argument("--run", metavar="DIR", help=f"sockets and live pods (default {default.run})")
    made.add_argument("--listen", metavar="URL", help="the CRI socket (default unix://RUN/minikubelet.sock)")
    made.add_argument(
        "--manifests", metavar="DIR", help=f"pod manifests, watched (default {default.manifests})"
    )
    made.add_argument(
        "--certs-dir",
        metavar="DIR",
        action="append",
        help=f"folder of HOST/hosts.toml, may be repeated (default {' and then '.join(default.certs_dirs)})",
    )
    made.add_argument(
        "--unenforced-limits",
        choices=("refuse", "allow"),
        help="containers with limits that this host can't enforce (default refuse)",
    )
    made.add_argument(
        "--network", choices=("builtin", "cni"), help="who connects pods (default builtin: a bridge)"
    )
    made.add_argument(
        "--ipv6",
        metavar="off|auto|NETWORK",
        help="IPv6 addresses for pods of the builtin network (default off)",
    )
    made.add_argument(
        "--cni-conf-dir", metavar="DIR", help=f"for cni (default {default.network.cni_conf_dir})"
    )
    made.add_argument(
        "--cni-bin-dir",
        metavar="DIR",
        action="append",
        help=f"plugins, may be repeated (default {' and then '.join(default.network.cni_bin_dirs)})",
    )
    made.add_argument("--no-kubelet", action="store_true", help="serve CRI alone")
    made.add_argument("--log-level", choices=("debug", "info", "warning", "error"), help="default info")
    made.add_argument("--log-dir", metavar="DIR", help="logs of containers (default /var/log/pods)")
    flags.add(made, _OWN_FLAGS, hidden=True)
    return made


def configure(args: argparse.Namespace) -> DaemonConfig:
    """Defaults, then the file, then flags. Raises NodeError, OSError."""
    if args.config and document.is_kubelet_configuration(args.config):
        args.config, args.kubelet_config = "", args.kubelet_config or args.config
    path = args.config or (CONFIG if os.path.exists(CONFIG) else "")
    config = config_file.read(path) if path else DaemonConfig()
    for name in ("root", "run", "manifests"):
        if getattr(args, name):
            setattr(config, name, options.absolute(getattr(args, name)))
    if args.run:
        config.listen = f"unix://{config.run}/minikubelet.sock"
    if args.listen:
        config.listen = args.listen
    config.listen = options.unix_url(config.listen, "listen")
    if args.certs_dir:
        config.certs_dirs = [options.absolute(folder) for folder in args.certs_dir]
    config.unenforced_limits = args.unenforced_limits or config.unenforced_limits
    config.log_level = args.log_level or config.log_level
    config.network.mode = args.network or config.network.mode
    config.network.ipv6 = args.ipv6 or config.network.ipv6
    if args.cni_conf_dir:
        config.network.cni_conf_dir = options.absolute(args.cni_conf_dir)
    if args.cni_bin_dir:
        config.network.cni_bin_dirs = [options.absolute(folder) for folder in args.cni_bin_dir]
    if args.no_kubelet:
        config.kubelet = False
    config_file.check(config)
    return config


def configure_kubelet(args: argparse.Namespace, config: DaemonConfig) -> tuple[KubeletConfig, list[str]]:
    """The kubelet's settings, and warnings about what has no effect. Raises NodeError, OSError.

    Call after :func:`configure`, which sorts out what ``--config`` is.
    """
    kubelet = KubeletConfig(
        container_runtime_endpoint=config.listen,
        manifests=config.manifests,
        root=f"{config.root}/kubelet",
        socket=config.kubelet_socket,
        server=ServerConfig(port=PORT, healthz_port=HEALTHZ_PORT),
    )
    warnings = flags.configure(args, kubelet, args.kubelet_config or "", args.config_dir or "")
    if kubelet.container_runtime_endpoint != config.listen:
        warnings.append("containerRuntimeEndpoint has no effect: the kubelet uses this daemon's runtime")
    kubelet.container_runtime_endpoint, kubelet.image_service_endpoint = config.listen, ""
    kubelet.manifests = options.absolute(args.manifests or kubelet.manifests or config.manifests)
    kubelet.log_dir = options.absolute(args.log_dir or kubelet.log_dir)
    return kubelet, warnings


def run(args: argparse.Namespace) -> int:
    """See :mod:`minikubelet.cli.commands`."""
    config = configure(args)
    kubelet, warnings = configure_kubelet(args, config)
    options.need_root("the daemon makes namespaces, mounts and network links")
    from minikubelet.cli import daemon

    return daemon.main(config, kubelet, warnings)
