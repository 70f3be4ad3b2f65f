"""Files of variables (KEP-3721): a strict subset of the shell's assignments, values in single quotes."""

from __future__ import annotations

import os

from minikubelet.linux import openat2

MAX_SIZE = 1 << 20
"""Bytes; a container writes the file, this process reads it."""


def read_variable(volume: str, path: str, name: str) -> str:
    """The value of ``name`` in the file at ``path`` inside the folder ``volume``; empty if it has none.

    Links are followed, but not out of the volume. Raises OSError, ValueError for what is no such file.
    """
    root = os.open(volume, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        proc = os.open("/proc", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            data = openat2.read_regular_in_root(root, proc, path, MAX_SIZE)
        finally:
            os.close(proc)
    finally:
        os.close(root)
    return find_variable(data.decode("utf-8", "surrogateescape"), name)


def find_variable(text: str, name: str) -> str:
    """The value of ``name``. Raises ValueError with the line of what can't be read before it is found."""
    lines = text.split("\n")
    number = 0
    while number < len(lines):
        line = lines[number].removesuffix("\r").lstrip(" \t")
        number += 1
        if not line or line.startswith("#"):
            continue
        key, equals, value = line.partition("=")
        if not equals or not key or key != key.rstrip(" \t"):
            raise ValueError(f"line {number}: expected NAME='value'")
        if value.startswith((" ", "\t")):
            if key == name:
                return ""
            continue
        if not value.startswith("'"):
            raise ValueError(f"line {number}: the value must be in single quotes")
        begun, parts = number, []
        rest = value[1:]
        while "'" not in rest:
            parts.append(rest)
            if number >= len(lines):
                raise ValueError(f"line {begun}: the quote is never closed")
            rest = lines[number].removesuffix("\r")
            number += 1
        last, _, after = rest.partition("'")
        after = after.lstrip(" \t")
        if after and not after.startswith("#"):
            raise ValueError(f"line {number}: something follows the closing quote")
        if key == name:
            return "\n".join([*parts, last])
    return ""
