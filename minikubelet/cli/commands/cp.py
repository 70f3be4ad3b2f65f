"""``cp``."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import re
import sys
import threading
from collections.abc import Callable

from minikubelet.cli import options
from minikubelet.cli.api_client import ApiClient
from minikubelet.cli.commands.exec import need_live
from minikubelet.cli.commands.logs import choose_container, one_pod
from minikubelet.cli.options import CommandError
from minikubelet.cli.stream_path import Target

_EXAMPLES = """
# A file or a folder into a pod
minikubelet cp ./site web:/srv/site

# Out of one container of a pod in another namespace
minikubelet cp kube-system/dns:/etc/hosts ./hosts -c server
"""

_NO_TAR = re.compile(r"""['"]tar['"].*(executable file not found|no such file)""", re.I | re.S)
"""How runtimes say that they found no such program."""


def parser() -> options.Parser:
    """See :mod:`minikubelet.cli.commands`."""
    description = (
        "Copy files and folders to and from a container. The image must have tar.\n"
        "Links that come out of a container are skipped."
    )
    made = options.Parser("cp", description, "SOURCE DESTINATION [options]", _EXAMPLES)
    made.add_argument("source", metavar="SOURCE", help="a path here, or [NAMESPACE/]POD:PATH")
    made.add_argument("destination", metavar="DESTINATION", help="the same")
    made.add_argument("-c", "--container", metavar="NAME", help="default: the first container")
    made.add_argument("--no-preserve", action="store_true", help="neither modes and times nor owners")
    options.add_namespace(made)
    options.add_sockets(made)
    return made


def run(args: argparse.Namespace) -> int:
    """See :mod:`minikubelet.cli.commands`."""
    source, destination = _split(args.source), _split(args.destination)
    if (source is None) == (destination is None):
        raise CommandError(
            "one of SOURCE and DESTINATION must be POD:PATH, the other a path here", usage=True
        )
    remote, path = source or destination or ("", "")
    if not path:
        raise CommandError(f"{remote}: name a path in the pod, as in {remote}:/tmp", usage=True)
    namespace, _, name = remote.rpartition("/")
    namespace = namespace or args.namespace
    socket = options.kubelet_socket(args)
    pod = one_pod(ApiClient(socket), namespace, name)
    need_live(pod, "exec into")
    container = choose_container(pod, args.container)
    there = _Container(socket, Target(namespace, pod["metadata"]["name"], container))
    try:
        if source is None:
            return _upload(there, args.source, path, preserve=not args.no_preserve)
        return _download(there, path, args.destination, preserve=not args.no_preserve)
    except CommandError as exc:
        if not _NO_TAR.search(str(exc)):
            raise
        raise CommandError(f"cp needs tar, and the image of container {container} has none ({exc})") from None


def _split(word: str) -> tuple[str, str] | None:
    """``[NAMESPACE/]POD:PATH``; None for a path here, which begins with ``/``, ``./`` or has no colon."""
    remote, colon, path = word.partition(":")
    if not colon or not remote or remote.startswith((".", "/")) or remote.count("/") > 1:
        return None
    return remote, path


class _Container:
    """Where commands are executed."""

    def __init__(self, socket: str, target: Target) -> None:
        self._socket = socket
        self._target = target

    def execute(self, command: list[str], *, stdin: int | None = None, stdout: int, stderr: int = 2) -> int:
        """The exit code; what the command writes goes to the descriptors."""
        from minikubelet.cli.exec_session import Ends, Session

        path = self._target.exec_path(command, stdin=stdin is not None)
        ends = Ends(stdin, stdout, stderr)
        session = Session(self._socket, path, stdin=stdin is not None, tty=False, ends=ends)
        return asyncio.run(session.run())

    def is_folder(self, path: str) -> bool:
        """Whether there is a folder of that name in the container."""
        with open(os.devnull, "wb") as nowhere:
            fd = nowhere.fileno()
            try:
                return self.execute(["test", "-d", path], stdout=fd, stderr=fd) == 0
            except CommandError:  # no such program: what tar says then is more to the point
                return False


def _upload(there: _Container, source: str, path: str, *, preserve: bool) -> int:
    from minikubelet.cli.copy_files import pack

    os.stat(source)  # what can't be read is said before anything is done
    folder, name = os.path.split(path.rstrip("/"))
    if path.endswith("/") or there.is_folder(path):
        folder, name = path.rstrip("/") or "/", os.path.basename(os.path.abspath(source))
    options_ = [] if preserve else ["--no-same-permissions", "--no-same-owner"]
    reading, writing = os.pipe()

    def work() -> None:
        # A tar that gives up early says why by itself.
        with contextlib.suppress(BrokenPipeError), os.fdopen(writing, "wb") as stream:
            pack(source, name, stream)

    packer = _Worker(work)
    with packer, os.fdopen(reading, "rb"):
        code = there.execute(["tar", "-xmf", "-", *options_, "-C", folder or "."], stdin=reading, stdout=1)
    packer.check()
    if code:
        print(f"error: tar in the container ended with exit code {code}", file=sys.stderr)
    return code


def _download(there: _Container, path: str, destination: str, *, preserve: bool) -> int:
    from minikubelet.cli.copy_files import unpack

    if os.path.isdir(destination):
        destination = os.path.join(destination, os.path.basename(path.rstrip("/")) or "root")
    counts: list[int] = []
    reading, writing = os.pipe()

    def work() -> None:
        with os.fdopen(reading, "rb") as stream:
            counts.append(unpack(stream, path, destination, preserve=preserve))

    unpacker = _Worker(work)
    with unpacker:
        try:
            code = there.execute(["tar", "cf", "-", path], stdout=writing)
        except BrokenPipeError:  # the unpacker has given up, and says why
            code = 1
        finally:
            os.close(writing)
    unpacker.check()
    if code or not sum(counts):
        print(f"error: {path}: tar in the container ended with exit code {code}", file=sys.stderr)
    return code or int(not sum(counts))


class _Worker:
    """Blocking work beside an exec; ends with its block."""

    def __init__(self, work: Callable[[], None]) -> None:
        self._work = work
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        try:
            self._work()
        except BaseException as exc:
            self._error = exc

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *exc: object) -> None:
        self._thread.join()

    def check(self) -> None:
        """Raises what the work raised."""
        if self._error is not None:
            raise self._error
