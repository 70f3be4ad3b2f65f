"""A store of its own for each test, and oracles for what it leaves."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from minikubelet.base.database import Database
from minikubelet.images.store import ImageStore
from tests.registry import Registry


@pytest.fixture(autouse=True)
def root_only() -> None:
    if os.geteuid() != 0:
        pytest.skip("not root")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The state folder."""
    return tmp_path / "state"


Open = Callable[..., "AsyncIterator[ImageStore]"]


class Stores:
    """Opens the store on one folder again and again, as daemons that come and go."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._open: list[tuple[ImageStore, Database]] = []

    async def start(self, certs_dirs: list[str] | None = None) -> ImageStore:
        database = Database(f"{self.root}/state.db")
        store = ImageStore(database, str(self.root), certs_dirs or [])
        self._open.append((store, database))
        await store.start()
        return store

    async def stop(self) -> None:
        while self._open:
            store, database = self._open.pop()
            await store.close()
            database.close()

    def kill(self) -> None:
        """The daemon dies: nothing is closed in an orderly way."""
        self._open.clear()

    def layers(self) -> list[str]:
        return sorted(os.listdir(self.root / "layers"))

    def blobs(self) -> set[str]:
        return {f"sha256:{name}" for name in os.listdir(self.root / "blobs" / "sha256")}

    def nothing_half_made(self) -> None:
        assert os.listdir(self.root / "ingest") == []

    def is_empty(self) -> bool:
        return not self.layers() and not self.blobs() and not os.listdir(self.root / "ingest")


@pytest.fixture
async def stores(root: Path) -> AsyncIterator[Stores]:
    stores = Stores(root)
    yield stores
    await stores.stop()


@pytest.fixture
async def store(stores: Stores) -> ImageStore:
    return await stores.start()


@pytest.fixture
def own_registry() -> Iterator[Registry]:
    """A registry that a test may break."""
    with Registry() as registry:
        yield registry
