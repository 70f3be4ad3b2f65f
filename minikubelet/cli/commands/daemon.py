"""``daemon``: flags and configuration file; :mod:`minikubelet.cli.daemon` does the work."""

from __future__ import annotations

import argparse
import os

from minikubelet.base.config import DaemonConfig
from minikubelet.cli import config_file, options

CONFIG = "/etc/minikubelet/config.yaml"

_EXAMPLES = """
# Runtime and kubelet with the default folders; manifests in /etc/minikubelet/manifests become pods
sudo minikubelet daemon

# The CRI server alone, for another kubelet or crictl
sudo minikubelet daemon --no-kubelet

# A second daemon beside the first
sudo minikubelet daemon --root /srv/two --run /run/two --manifests /srv/two/manifests
"""


def parser() -> options.Parser:
    """See :mod:`minikubelet.cli.commands`."""
    made = options.Parser(
        "daemon",
        "Run the runtime and the kubelet. Pods run on when it stops, and are found again by the next.",
        "[options]",
        _EXAMPLES,
    )
    default = DaemonConfig()
    made.add_argument("--config", metavar="FILE", help=f"YAML; default {CONFIG}, if it is there")
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
    made.add_argument("--no-kubelet", action="store_true", help="serve CRI alone")
    made.add_argument("--log-level", choices=("debug", "info", "warning", "error"), help="default info")
    return made


def configure(args: argparse.Namespace) -> DaemonConfig:
    """Defaults, then the file, then flags. Raises NodeError, OSError."""
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
    if args.no_kubelet:
        config.kubelet = False
    config_file.check(config)
    return config


def run(args: argparse.Namespace) -> int:
    """See :mod:`minikubelet.cli.commands`."""
    config = configure(args)
    options.need_root("the daemon makes namespaces, mounts and network links")
    from minikubelet.cli import daemon

    return daemon.main(config)
