"""protectKernelDefaults: settings of the kernel that are another keep the kubelet from starting."""

from __future__ import annotations

from pathlib import Path

import pytest

from minikubelet.base.errors import Code, NodeError
from minikubelet.kubelet import kernel_settings
from tests.unit.kubelet.harness import Harness, make_pod


def kernel(folder: Path, **other: int) -> str:
    for name, value in kernel_settings.EXPECTED.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{other.get(path.name, value)}\n")
    return str(folder)


def test_what_is_another_is_told(tmp_path: Path) -> None:
    assert kernel_settings.problems(kernel(tmp_path)) == []
    proc = kernel(tmp_path, overcommit_memory=0, panic=0)
    assert kernel_settings.problems(proc) == [
        "invalid kernel flag: vm/overcommit_memory, expected value: 1, actual value: 0",
        "invalid kernel flag: kernel/panic, expected value: 10, actual value: 0",
    ]
    (tmp_path / "vm/panic_on_oom").unlink()
    assert any("vm/panic_on_oom can't be read" in each for each in kernel_settings.problems(proc))


async def test_the_kubelet_does_not_start_on_another_kernel(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernel_settings, "problems", lambda: ["invalid kernel flag: x"])
    async with harness.running():
        harness.source.set(make_pod())
        await harness.ready()
    harness.config.protect_kernel_defaults = True
    with pytest.raises(NodeError, match="protectKernelDefaults: invalid kernel flag: x") as caught:
        async with harness.running():
            await harness.settle()
    assert caught.value.code is Code.FAILED_PRECONDITION
