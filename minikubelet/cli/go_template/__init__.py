"""Go's templates as kubectl's ``-o go-template=`` takes them: text, and ``{{actions}}`` over an object.

https://pkg.go.dev/text/template, over JSON; no library on PyPI reads them. What isn't there is printed as
``<no value>``.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import Any

from minikubelet.cli.go_template.functions import FUNCTIONS
from minikubelet.cli.go_template.lexer import SyntaxFault
from minikubelet.cli.go_template.parser import parse
from minikubelet.cli.go_template.quoting import quote
from minikubelet.cli.go_template.runner import Failure, Runner
from minikubelet.cli.go_template.values import encoded, of_object
from minikubelet.cli.options import CommandError

_FRAMES = 20_000
"""Calls inside one another: 500 templates, each with some bodies inside one another."""


def template(text: str, *, allow_missing: bool = True) -> Callable[[Any], str]:
    """What ``text`` makes of an object. Raises CommandError for a template that isn't one."""
    try:
        with _deep_calls():
            templates = parse(text, FUNCTIONS)
    except SyntaxFault as exc:
        raise CommandError(f"error parsing template {text}, {exc}", usage=True) from None

    def render(value: Any) -> str:
        runner = Runner(text, templates, missing_is_fault=not allow_missing)
        try:
            with _deep_calls():
                return encoded(runner.run(of_object(value))).decode("utf-8", "replace")
        except Failure as exc:
            raise CommandError(f"error executing template {quote(text)}: {exc}") from None

    return render


@contextlib.contextmanager
def _deep_calls() -> Iterator[None]:
    """Python's calls of Python take no stack of C's: they may be many."""
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(max(limit, _FRAMES))
    try:
        yield
    finally:
        sys.setrecursionlimit(limit)
