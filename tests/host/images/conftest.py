"""A store of its own for each test, and oracles for what it leaves."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Collection, Iterator
from pathlib import Path

import pytest

from minikubelet.base.database import Database
from minikubelet.images.endpoints import Sources
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

    async def start(
        self,
        certs_dirs: list[str] | None = None,
        *,
        registries_conf: str = "",
        auth_file: str = "",
        signature_policy: str = "",
        pinned: Collection[str] = (),
    ) -> ImageStore:
        database = Database(f"{self.root}/state.db")
        sources = Sources(
            certs_dirs or [], registries_conf, auth_file, signature_policy, signature_policy_required=True
        )
        store = ImageStore(database, str(self.root), sources, pinned)
        self._open.append((store, database))
        await store.start()
        return store

    @property
    def store(self) -> ImageStore:
        """The one that was opened last."""
        return self._open[-1][0]

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
        assert self.partial() == {}

    def partial(self) -> dict[str, int]:
        """Broken-off downloads that are kept: digest and size."""
        folder = next((self.root / "partial").iterdir())
        return {path.name.replace("-", ":"): path.stat().st_size for path in folder.iterdir()}

    def partial_file(self) -> Path:
        """The only one of them."""
        (path,) = next((self.root / "partial").iterdir()).iterdir()
        return path

    def is_empty(self) -> bool:
        return not (self.layers() or self.blobs() or os.listdir(self.root / "ingest") or self.partial())


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
