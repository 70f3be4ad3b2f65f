"""The formats of ``-o`` that show whole objects, and the order and labels that lists are asked for with."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from minikubelet.cli import json_path
from minikubelet.cli.options import CommandError
from minikubelet.cli.text import Table

Json = dict[str, Any]
_TEMPLATES = ("jsonpath=", "custom-columns=")


class Formats(Sequence[str]):
    """argparse's ``choices``: the formats without an argument, and those that go on after a ``=``."""

    def __init__(self, *plain: str) -> None:
        self._shown = (*plain, *_TEMPLATES)

    def __contains__(self, word: object) -> bool:
        plain = word in self._shown and word not in _TEMPLATES
        return plain or (isinstance(word, str) and word.startswith(_TEMPLATES) and word not in _TEMPLATES)

    def __getitem__(self, index: Any) -> Any:
        return self._shown[index]

    def __len__(self) -> int:
        return len(self._shown)


def is_whole(form: str | None) -> bool:
    """Whether the format shows objects rather than rows and names."""
    return form in ("json", "yaml") or (form or "").startswith(_TEMPLATES)


class Whole:
    """Prints objects as ``json``, ``yaml``, ``jsonpath=TEMPLATE`` or ``custom-columns=HEADER:PATH,…``."""

    def __init__(self, form: str, *, header: bool = True) -> None:
        """Raises CommandError for a template that can't be read."""
        self._form, _, argument = form.partition("=")
        self._render = json_path.template(argument) if self._form == "jsonpath" else None
        self._columns = list(_columns(argument)) if self._form == "custom-columns" else []
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


def _columns(text: str) -> Iterator[tuple[str, Callable[[Any], list[Any]]]]:
    for part in text.split(","):
        name, colon, where = part.partition(":")
        if not (name and colon and where):
            raise CommandError(
                f"custom-columns: {part!r} is not HEADER:PATH, as in NAME:.metadata.name", usage=True
            )
        yield name, json_path.path(where)


def _cell(values: list[Any]) -> str:
    return ",".join(json_path.shown(each) for each in values) or "<none>"


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
    """Ordered by what the path finds: what lacks it, numbers, text. Raises CommandError."""
    if not where:
        return items
    find = json_path.path(where)

    def key(item: Json) -> tuple[int, float, str]:
        value = next(iter(find(item)), None)
        if value is None:
            return 0, 0, ""
        if isinstance(value, int | float):
            return 1, value, ""
        return 2, 0, json_path.shown(value)

    return sorted(items, key=key)
