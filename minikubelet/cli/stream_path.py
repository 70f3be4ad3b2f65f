"""The kubelet's paths for exec, attach and port-forward."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import quote, urlencode


@dataclass(frozen=True)
class Target:
    """A container, or with an empty name the pod."""

    namespace: str
    pod: str
    container: str = ""

    def path(self, verb: str, query: Sequence[tuple[str, str]] = ()) -> str:
        """``/VERB/NAMESPACE/POD[/CONTAINER]?QUERY``."""
        names = [self.namespace, self.pod, *([self.container] if self.container else [])]
        path = "/".join(["", verb, *(quote(name, safe="") for name in names)])
        return f"{path}?{urlencode(query)}" if query else path

    def exec_path(self, command: Sequence[str], *, stdin: bool = False, tty: bool = False) -> str:
        """The path that runs ``command``; with a terminal there is no stderr."""
        return self.path("exec", [*(("command", word) for word in command), *_streams(stdin=stdin, tty=tty)])

    def attach_path(self, *, stdin: bool = False, tty: bool = False) -> str:
        """The path to the container's own streams."""
        return self.path("attach", _streams(stdin=stdin, tty=tty))


def _streams(*, stdin: bool, tty: bool) -> list[tuple[str, str]]:
    wanted = {"stdout": True, "stderr": not tty, "tty": tty, "stdin": stdin}
    return [(name, str(int(value))) for name, value in wanted.items()]
