"""The manifest folder: what appears, changes, breaks and goes."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from minikubelet.kubelet.manifests.errors import ManifestError
from minikubelet.kubelet.objects import Pod
from minikubelet.kubelet.sources.folder import FolderSource


def manifest(name: str, image: str = "app:1") -> str:
    return (
        f"apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\n"
        f"spec: {{containers: [{{name: app, image: '{image}'}}]}}\n"
    )


class Watched:
    """A source being read."""

    def __init__(self, path: Path) -> None:
        self.problems: list[str] = []
        self.source = FolderSource(str(path), "node", self._report)
        self._updates = self.source.watch()

    def _report(self, problem: ManifestError, level: str) -> None:
        self.problems.append(f"{level}: {problem}")

    async def next(self) -> list[str]:
        return [f"{p.metadata.name}:{p.spec.containers[0].image}" for p in await self.pods()]

    async def pods(self) -> list[Pod]:
        return await asyncio.wait_for(anext(self._updates), 5)

    async def nothing(self) -> None:
        """No update comes while the loop gets the time for one."""
        waiting = asyncio.ensure_future(anext(self._updates))
        await asyncio.sleep(0.7)
        assert not waiting.done()
        self._updates = _resume(waiting, self._updates)

    async def close(self) -> None:
        await self._updates.aclose()  # type: ignore[attr-defined]


async def _resume(
    first: asyncio.Future[list[Pod]], rest: AsyncIterator[list[Pod]]
) -> AsyncIterator[list[Pod]]:
    try:
        yield await first
        async for each in rest:
            yield each
    finally:
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "manifests"
    made.mkdir()
    return made


async def test_files_come_change_and_go(folder: Path) -> None:
    (folder / "a.yaml").write_text(manifest("a"))
    watched = Watched(folder)
    assert await watched.next() == ["a-node:app:1"]
    (folder / "b.json").write_text(manifest("b"))
    assert await watched.next() == ["a-node:app:1", "b-node:app:1"]
    (folder / "a.yaml").write_text(manifest("a", "app:2"))
    assert await watched.next() == ["a-node:app:2", "b-node:app:1"]
    (folder / "a.yaml").unlink()
    assert await watched.next() == ["b-node:app:1"]
    assert watched.problems == []
    await watched.close()


async def test_a_rename_into_place_and_a_link_count(folder: Path, tmp_path: Path) -> None:
    watched = Watched(folder)
    assert await watched.next() == []
    (tmp_path / "made").write_text(manifest("a"))
    os.rename(tmp_path / "made", folder / "a.yaml")
    assert await watched.next() == ["a-node:app:1"]
    (tmp_path / "other").write_text(manifest("b"))
    os.symlink(tmp_path / "other", folder / "b.yaml")
    assert await watched.next() == ["a-node:app:1", "b-node:app:1"]
    await watched.close()


async def test_hidden_files_folders_and_devices_are_no_manifests(folder: Path) -> None:
    (folder / ".a.yaml.swp").write_text("}{")
    (folder / "sub").mkdir()
    os.mkfifo(folder / "pipe")
    watched = Watched(folder)
    assert await watched.next() == []
    assert [text.rpartition(": ")[2] for text in watched.problems] == [
        "not a regular file",
        "a folder; manifests in sub-folders are not read",
    ]
    await watched.close()


async def test_a_broken_file_disturbs_nothing_and_is_reported_once(folder: Path) -> None:
    (folder / "a.yaml").write_text(manifest("a"))
    (folder / "bad.yaml").write_text(manifest("bad").replace("image", "imagge"))
    watched = Watched(folder)
    assert await watched.next() == ["a-node:app:1"]
    (folder / "c.yaml").write_text(manifest("c"))
    assert await watched.next() == ["a-node:app:1", "c-node:app:1"]
    expected = f'error: {folder}/bad.yaml:4: spec.containers[0].imagge: unknown field (did you mean "image"?)'
    assert watched.problems == [expected]
    await watched.close()


async def test_a_pod_keeps_running_while_its_file_is_broken(folder: Path) -> None:
    (folder / "a.yaml").write_text(manifest("a"))
    watched = Watched(folder)
    assert await watched.next() == ["a-node:app:1"]
    (folder / "a.yaml").write_text("apiVersion: [")
    await watched.nothing()
    (folder / "a.yaml").write_text("")
    await watched.nothing()
    assert len(watched.problems) == 2 and watched.problems[1].endswith("holds no pod")
    (folder / "a.yaml").write_text(manifest("a", "app:2"))
    assert await watched.next() == ["a-node:app:2"]
    await watched.close()


async def test_a_file_being_written_is_read_when_it_is_closed(folder: Path) -> None:
    watched = Watched(folder)
    assert await watched.next() == []
    text = manifest("a")
    with open(folder / "a.yaml", "w") as file:
        file.write(text[:40])
        file.flush()
        await asyncio.sleep(0.1)
        file.write(text[40:])
    assert await watched.next() == ["a-node:app:1"]
    assert watched.problems == []
    await watched.close()


async def test_the_folder_may_come_later_and_go_and_come_back(tmp_path: Path) -> None:
    folder = tmp_path / "not" / "yet"
    watched = Watched(folder)
    assert await watched.next() == []
    folder.mkdir(parents=True)
    (folder / "a.yaml").write_text(manifest("a"))
    assert await watched.next() == ["a-node:app:1"]
    (folder / "a.yaml").unlink()
    folder.rmdir()
    assert await watched.next() == []
    folder.mkdir()
    (folder / "a.yaml").write_text(manifest("a"))
    assert await watched.next() == ["a-node:app:1"]
    await watched.close()


async def test_a_name_belongs_to_the_file_that_had_it_first(folder: Path) -> None:
    (folder / "b.yaml").write_text(manifest("a", "app:1"))
    watched = Watched(folder)
    assert await watched.next() == ["a-node:app:1"]
    (folder / "a.yaml").write_text(manifest("a", "app:2"))
    assert await watched.next() == ["a-node:app:1", "a-node:app:2"]
    why = "pod default/a-node is defined twice; one of them waits until the other has gone"
    assert watched.problems == [f"error: {folder}/a.yaml: {why}"]
    (folder / "b.yaml").write_text(manifest("a", "app:3"))
    assert await watched.next() == ["a-node:app:3", "a-node:app:2"]
    (folder / "b.yaml").unlink()
    assert await watched.next() == ["a-node:app:2"]
    (folder / "b.yaml").write_text(manifest("a", "app:1"))
    assert await watched.next() == ["a-node:app:2", "a-node:app:1"]
    await watched.close()


async def test_a_uid_counts_once(folder: Path) -> None:
    for name, image in (("a", "app:1"), ("b", "app:2")):
        text = manifest(name, image).replace("{name: ", "{uid: mine, name: ", 1)
        (folder / f"{name}.yaml").write_text(text)
    watched = Watched(folder)
    assert await watched.next() == ["a-node:app:1"]
    assert len(watched.problems) == 1 and "b.yaml: pod default/b-node is defined twice" in watched.problems[0]
    await watched.close()


async def test_a_single_file_is_a_source_too(tmp_path: Path) -> None:
    (tmp_path / "other.yaml").write_text(manifest("other"))
    path = tmp_path / "a.yaml"
    path.write_text(manifest("a"))
    watched = Watched(path)
    assert await watched.next() == ["a-node:app:1"]
    path.write_text(manifest("a", "app:2"))
    assert await watched.next() == ["a-node:app:2"]
    await watched.close()


async def test_several_documents_in_a_file(folder: Path) -> None:
    (folder / "all.yaml").write_text(manifest("a") + "---\n" + manifest("b"))
    watched = Watched(folder)
    assert await watched.next() == ["a-node:app:1", "b-node:app:1"]
    (folder / "all.yaml").write_text(manifest("b"))
    assert await watched.next() == ["b-node:app:1"]
    await watched.close()


async def test_a_gap_in_the_checks_takes_out_one_file_only(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from minikubelet.kubelet.sources import reading as module

    def check(pod: Pod) -> list[ManifestError]:
        if pod.metadata.name.startswith("bad"):
            raise KeyError("gap")
        return []

    monkeypatch.setattr(module, "validate_pod", check)
    (folder / "a.yaml").write_text(manifest("a"))
    (folder / "bad.yaml").write_text(manifest("bad"))
    watched = Watched(folder)
    assert await watched.next() == ["a-node:app:1"]
    assert watched.problems == [f"error: {folder}/bad.yaml: can't be understood: KeyError('gap')"]
    await watched.close()
