"""``run``: pods from manifests in the foreground."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from minikubelet.base.config import DaemonConfig
from minikubelet.cli import options
from minikubelet.cli.options import CommandError
from minikubelet.cli.text import escape

if TYPE_CHECKING:
    from minikubelet.kubelet.objects.data import DataObject

ROOT = "/var/lib/minikubelet-run"
RUN = "/run/minikubelet-run"

_EXAMPLES = """
# Run a pod until Ctrl-C
sudo minikubelet run my-pod.yaml

# Without network: its images come from a tar
sudo minikubelet run --load images.tar my-pod.yaml

# Meanwhile, in another terminal
sudo minikubelet --run /run/minikubelet-run get pods
"""


class _Parser(options.Parser):
    def parse_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: Any = None
    ) -> argparse.Namespace:
        """Says what ``kubectl run NAME --image=…`` comes to here."""
        if any(word.partition("=")[0] == "--image" for word in args or []):
            why = "run is for manifests, on a node of their own: write one for the pod, then apply -f it"
            raise CommandError(why, usage=True)
        return super().parse_args(args, namespace)


def parser() -> options.Parser:
    """See :mod:`minikubelet.cli.commands`."""
    made = _Parser(
        "run",
        "Run pods from manifests in the foreground: a runtime and a kubelet of their own, until Ctrl-C.\n"
        "Then the pods are stopped gracefully and nothing but pulled images is left. Ends by itself when\n"
        "all pods have ended; the exit code is then 1 if one has failed.",
        "FILE... [options]",
        _EXAMPLES,
    )
    made.add_argument("files", metavar="FILE", nargs="+", help="manifests, YAML or JSON")
    made.add_argument(
        "--load", metavar="TAR", action="append", default=[], help="first load images, may be repeated"
    )
    made.add_argument("--root", metavar="DIR", default=ROOT, help="image store (default %(default)s)")
    made.add_argument("--run", metavar="DIR", default=RUN, help="sockets and live pods (default %(default)s)")
    made.add_argument(
        "--certs-dir", metavar="DIR", action="append", help="folder of HOST/hosts.toml, may be repeated"
    )
    made.add_argument(
        "--unenforced-limits",
        choices=("refuse", "allow"),
        default="refuse",
        help="containers with limits that this host can't enforce (default %(default)s)",
    )
    made.add_argument(
        "--log-level",
        choices=("debug", "info", "warning", "error"),
        default="error",
        help="what the daemon says beside the pods' events (default %(default)s)",
    )
    return made


def run(args: argparse.Namespace) -> int:
    """See :mod:`minikubelet.cli.commands`."""
    from minikubelet.cli import foreground

    settings = foreground.Settings(
        root=options.absolute(args.root),
        run=options.absolute(args.run),
        certs_dirs=[options.absolute(path) for path in args.certs_dir or DaemonConfig().certs_dirs],
        load=[options.absolute(path) for path in args.load],
        unenforced_limits=args.unenforced_limits,
        log_level=args.log_level,
    )
    files = [os.path.abspath(path) for path in args.files]
    pods, objects = foreground.read_manifests(files), foreground.read_objects(files)
    if not pods:
        raise CommandError("there is no pod in these manifests")
    _look_over(files, objects)
    options.need_root("pods need namespaces, mounts and network links")
    foreground.claim(settings)
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    return asyncio.run(foreground.Foreground(settings, pods, objects).run())


def _look_over(files: list[str], objects: Sequence[DataObject]) -> None:
    """Say what has no effect here. Raises CommandError for what would keep a pod from ever starting."""
    from minikubelet.cli import node_folder
    from minikubelet.cli.manifest_check import check_manifest

    for path in files:
        for each in check_manifest(node_folder.read(path), path, objects):
            if each.level == "error":
                raise CommandError(str(each))
            print(escape(f"Warning: {each}"), file=sys.stderr)
