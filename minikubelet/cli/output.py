"""The formats of ``-o`` that show whole objects, and the order and labels that lists are asked for with."""

from __future__ import annotations

import argparse
import contextlib
import json
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from typing import Any

from minikubelet.cli import json_path
from minikubelet.cli.options import CommandError
from minikubelet.cli.text import Table

Json = dict[str, Any]
_Column = tuple[str, Callable[[Any], list[Any]]]
_TEMPLATES = (
    *("go-template=", "go-template-file=", "template=", "templatefile="),
    *("jsonpath=", "jsonpath-as-json=", "jsonpath-file="),
    *("custom-columns=", "custom-columns-file="),
)
_FILES = ("go-template-file", "templatefile", "jsonpath-file", "custom-columns-file")
_MOST_LETTERS = 1 << 20
"""Of a file with a template."""


class Formats(Sequence[str]):
    """argparse's ``choices``: the formats without an argument, and those that go on after a ``=``."""

    def __init__(self, *plain: str) -> None:
        self._shown = (*plain, *_TEMPLATES)

    def __contains__(self, word: object) -> bool:
        if not isinstance(word, str) or word in _TEMPLATES:
            return False
        # One without its template may have it in --template.
        return word in self._shown or f"{word}=" in _TEMPLATES or word.startswith(_TEMPLATES)

    def __getitem__(self, index: Any) -> Any:
        return self._shown[index]

    def __len__(self) -> int:
        return len(self._shown)


def add_format(parser: argparse.ArgumentParser, *plain: str) -> None:
    """``-o``, with these formats that have no argument, and what belongs to those that have one."""
    parser.add_argument("-o", "--output", choices=Formats(*plain), help="format of the output")
    parser.add_argument(
        "--template",
        metavar="TEMPLATE",
        default="",
        help="of -o go-template or jsonpath, or the file with it",
    )
    parser.add_argument(
        "--allow-missing-template-keys",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="a key that isn't there is no error in a template",
    )


def settle(args: argparse.Namespace) -> None:
    """Put ``--template`` to the format that it is for. Raises CommandError."""
    form = args.output or ("go-template" if args.template else None)
    if f"{form}=" in _TEMPLATES:
        if not args.template:
            raise CommandError(f"{form}: template format specified but no template given", usage=True)
        form = f"{form}={args.template}"
    args.output = form


def is_whole(form: str | None) -> bool:
    """Whether the format shows objects rather than rows and names."""
    return form in ("json", "yaml") or (form or "").startswith(_TEMPLATES)


class Whole:
    """Prints objects as ``json``, ``yaml``, ``go-template=TEMPLATE``, ``custom-columns=HEADER:PATH,…``."""

    def __init__(self, form: str, *, header: bool = True, allow_missing: bool = True) -> None:
        """Raises CommandError for a template that can't be read."""
        self._form, _, argument = form.partition("=")
        text = _file(argument) if self._form in _FILES else argument
        self._render: Callable[[Any], str] | None = None
        self._columns: list[_Column] = []
        if self._form == "jsonpath-as-json":
            self._render = json_path.template_as_json(text, allow_missing=allow_missing)
        elif self._form.startswith("jsonpath"):
            self._render = json_path.template(text, allow_missing=allow_missing)
        elif "template" in self._form:
            from minikubelet.cli import go_template  # it is large

            self._render = go_template.template(text, allow_missing=allow_missing)
        elif self._form == "custom-columns":
            self._columns = list(_columns(text))
        elif self._form == "custom-columns-file":
            self._columns = list(_columns_of_lines(text))
        self._table = Table([name for name, _ in self._columns])
        self._header = header

    def all(self, items: list[Json], *, single: bool) -> None:
        """What there is: the one object that was named, or a List."""
        if self._columns:
            self._rows(items)
        else:
            listed = {"apiVersion": "v1", "items": items, "kind": "List", "metadata": {}}
            self._one(items[0] if single and items else listed)

    def change(self, item: Json) -> None:
        """One object that has changed."""
        if self._columns:
            self._rows([item])
            return
        if self._form == "yaml":
            print("---")
        self._one(item)

    def _one(self, value: Json) -> None:
        if self._render is not None:
            print(self._render(value), end="")
        elif self._form == "json":
            print(json.dumps(value, indent=4))
        else:
            from minikubelet.cli import yaml_text  # PyYAML takes a while

            print(yaml_text.dump(value), end="")

    def _rows(self, items: list[Json]) -> None:
        rows = [[_cell(find(item)) for _, find in self._columns] for item in items]
        print(self._table.render(rows, header=self._header), end="")
        self._header = False


def _file(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read(_MOST_LETTERS)
    except (OSError, UnicodeDecodeError) as exc:
        raise CommandError(f"error reading --template {path}, {exc}", usage=True) from None


def _columns_of_lines(text: str) -> Iterator[_Column]:
    """A line of headers and a line of paths, parted by spaces."""
    lines = [line.split() for line in text.splitlines()]
    if len(lines) < 2 or len(lines[0]) != len(lines[1]):
        raise CommandError(
            "custom-columns-file: expected one line of headers and one of as many paths, parted by spaces",
            usage=True,
        )
    for name, where in zip(lines[0], lines[1], strict=True):
        yield name, json_path.path(where)


def _columns(text: str) -> Iterator[_Column]:
    for part in text.split(","):
        name, colon, where = part.partition(":")
        if not (name and colon and where):
            raise CommandError(
                f"custom-columns: {part!r} is not HEADER:PATH, as in NAME:.metadata.name", usage=True
            )
        yield name, json_path.path(where)


def _cell(values: list[Any]) -> str:
    return ",".join(_go_text(each) for each in values) if values else "<none>"


def _go_text(value: Any) -> str:
    """A value in a column, as Go prints it and therefore kubectl: ``map[app:web tier:db]``, ``[80 443]``."""
    if isinstance(value, dict):
        return f"map[{' '.join(f'{key}:{_go_text(value[key])}' for key in sorted(value))}]"
    if isinstance(value, list):
        return f"[{' '.join(map(_go_text, value))}]"
    return "<nil>" if value is None else json_path.shown(value)


def whole(args: argparse.Namespace) -> Whole | None:
    """What prints objects as ``-o`` says; None where it asks for rows or names. Raises CommandError."""
    if not is_whole(args.output):
        return None
    header = not getattr(args, "no_headers", False)
    return Whole(args.output, header=header, allow_missing=args.allow_missing_template_keys)


def add_labels(parser: argparse.ArgumentParser) -> None:
    """``--show-labels`` and ``-L``."""
    parser.add_argument("--show-labels", action="store_true", help="a last column with all labels")
    parser.add_argument(
        "-L",
        "--label-columns",
        metavar="KEY,…",
        action="append",
        default=[],
        help="a column for each of these labels",
    )


def label_headers(args: argparse.Namespace) -> list[str]:
    """The columns that labels add to a table."""
    keys = [key.rpartition("/")[2].upper() for key in _label_keys(args)]
    return [*keys, *(["LABELS"] if args.show_labels else [])]


def label_cells(item: Json, args: argparse.Namespace) -> list[str]:
    """What stands in them."""
    labels = item["metadata"].get("labels") or {}
    cells = [labels.get(key, "") for key in _label_keys(args)]
    every = ",".join(f"{key}={labels[key]}" for key in sorted(labels)) or "<none>"
    return [*cells, *([every] if args.show_labels else [])]


def _label_keys(args: argparse.Namespace) -> list[str]:
    return [key for words in args.label_columns for key in words.split(",") if key]


def sort(items: list[Json], where: str) -> list[Json]:
    """Ordered by what the path finds: what lacks it, numbers and quantities, text. Raises CommandError."""
    if not where:
        return items
    find = json_path.path(where)
    values = [next(iter(find(item)), None) for item in items]
    if len(items) > 1 and all(value is None for value in values):
        bare = where.strip("{}").removeprefix(".")
        raise CommandError(f'couldn\'t find any field with path "{{.{bare}}}" in the list of objects')
    order = sorted(range(len(items)), key=lambda index: _rank(values[index]))
    return [items[index] for index in order]


def _rank(value: Any) -> tuple[int, float | Fraction, str]:
    if value is None:
        return 0, 0, ""
    if isinstance(value, dict):
        raise CommandError("--sort-by: objects have no order: name a field of theirs")
    if isinstance(value, list):
        return _rank(value[0]) if value else (0, 0, "")
    if not isinstance(value, bool):
        from minikubelet.kubelet.objects import quantity  # msgspec takes a while

        with contextlib.suppress(ValueError):
            return 1, quantity.parse(value), ""
    return 2, 0, json_path.shown(value)
