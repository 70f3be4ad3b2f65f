"""A kubelet's files, drop-ins and flags."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from minikubelet.base.errors import NodeError
from minikubelet.kubelet.config import KubeletConfig
from minikubelet.kubelet.configuration import flags

HEAD = "kind: KubeletConfiguration\napiVersion: kubelet.config.k8s.io/v1beta1\n"


class Machine:
    """Files, drop-ins and flags of one kubelet."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.file = folder / "config.yaml"
        self.drop_ins = folder / "conf.d"
        self.drop_ins.mkdir()
        self.warnings: list[str] = []

    def write(self, text: str, drop_in: str = "") -> None:
        path = self.drop_ins / drop_in if drop_in else self.file
        path.parent.mkdir(exist_ok=True)
        path.write_text(HEAD + text)

    def start(self, *words: str) -> KubeletConfig:
        parser = argparse.ArgumentParser(allow_abbrev=False)
        flags.add(parser)
        config = KubeletConfig()
        file = str(self.file) if self.file.exists() else ""
        self.warnings = flags.configure(parser.parse_args(words), config, file, str(self.drop_ins))
        return config

    def refusal(self, *words: str) -> str:
        with pytest.raises(NodeError) as caught:
            self.start(*words)
        return str(caught.value)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)
