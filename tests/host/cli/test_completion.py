"""Completion in zsh and fish themselves; bash is in the unit lane."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from tests.host.node import PROGRAM


def ask(shell: str, script: str) -> list[str]:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    done = subprocess.run([shell, "-c", script], capture_output=True, text=True, check=True)
    assert not done.stderr, done.stderr
    return done.stdout.splitlines()


def test_zsh() -> None:
    script = f"""
        _describe() {{ print -rl -- "${{(@P)2}}" }}
        _files() {{ print FILES }}
        source <('{PROGRAM}' completion zsh)
        words=('{PROGRAM}' completion '') CURRENT=3; _minikubelet
        words=('{PROGRAM}' lint '') CURRENT=3; _minikubelet
        words=('{PROGRAM}' descr) CURRENT=2; _minikubelet
    """
    assert ask("zsh", script) == [
        "bash",
        "zsh",
        "fish",
        "FILES",
        "describe:Show the details of pods, the node, and what pods refer to",
    ]


def test_fish() -> None:
    script = f"""
        alias minikubelet '{PROGRAM}'
        '{PROGRAM}' completion fish | source
        complete -C 'minikubelet completion '
        complete -C 'minikubelet descr'
    """
    found = [line.split("\t")[0] for line in ask("fish", script)]
    assert sorted(found[:3]) == ["bash", "fish", "zsh"] and found[3:] == ["describe"]
