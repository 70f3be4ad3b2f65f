"""The images' tables in the one database. Everything here is called from the event loop's thread."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from minikubelet.base.clock import now_ns
from minikubelet.base.database import Database

_MIGRATIONS = (
    """
    CREATE TABLE images (
        id TEXT PRIMARY KEY, manifest TEXT NOT NULL, created_at INTEGER NOT NULL,
        pinned INTEGER NOT NULL DEFAULT 0, unsynced_boot TEXT NOT NULL DEFAULT ''
    );
    CREATE TABLE image_names (
        name TEXT PRIMARY KEY, image_id TEXT NOT NULL REFERENCES images(id) ON DELETE CASCADE,
        target TEXT NOT NULL
    );
    CREATE INDEX image_names_by_image ON image_names(image_id);
    CREATE TABLE image_blobs (
        image_id TEXT NOT NULL REFERENCES images(id) ON DELETE CASCADE, digest TEXT NOT NULL,
        size INTEGER NOT NULL, PRIMARY KEY (image_id, digest)
    ) WITHOUT ROWID;
    CREATE TABLE layers (
        name TEXT PRIMARY KEY, diff_id TEXT NOT NULL, base TEXT NOT NULL,
        bytes INTEGER NOT NULL, inodes INTEGER NOT NULL, UNIQUE (diff_id, base)
    );
    CREATE TABLE image_layers (
        image_id TEXT NOT NULL REFERENCES images(id) ON DELETE CASCADE, position INTEGER NOT NULL,
        layer TEXT NOT NULL REFERENCES layers(name), PRIMARY KEY (image_id, position)
    ) WITHOUT ROWID;
    CREATE TABLE image_holds (
        holder TEXT NOT NULL, layer TEXT NOT NULL REFERENCES layers(name), image_id TEXT NOT NULL,
        PRIMARY KEY (holder, layer)
    ) WITHOUT ROWID;
    CREATE TABLE layer_numbers (next INTEGER NOT NULL);
    INSERT INTO layer_numbers VALUES (1)
    """,
)


@dataclass(frozen=True)
class LayerRow:
    """An unpacked layer."""

    name: str
    diff_id: str
    base: str
    """"" if it fits on any lower layers; else the chain ID of those whose directories it took over."""
    bytes: int
    inodes: int


@dataclass(frozen=True)
class NewImage:
    """All that one commit records."""

    id: str
    manifest: str
    names: dict[str, str]
    """Full reference → digest it points to (an index's or the manifest's)."""
    blobs: dict[str, int]
    """Digest → size of index, manifest, config, layers."""
    layers: Sequence[LayerRow]
    """Lowest first."""
    boot: str
    """Boot ID while nothing of it is known to be on the disk, "" once synced."""


class Records:
    """Queries and transactions over the tables."""

    def __init__(self, db: Database) -> None:
        self._db = db
        db.migrate("images", _MIGRATIONS)

    def next_layer_number(self) -> int:
        """A number never given before."""
        row = self._db.execute("UPDATE layer_numbers SET next = next + 1 RETURNING next - 1").fetchone()
        return int(row[0])

    def never_gave_a_number(self) -> bool:
        """Whether these tables are new."""
        return bool(self._db.execute("SELECT next = 1 FROM layer_numbers").fetchone()[0])

    def raise_layer_number(self, least: int) -> None:
        """Give no number below ``least`` any more (folders exist that the tables don't know)."""
        self._db.execute("UPDATE layer_numbers SET next = max(next, ?)", (least,))

    def commit(self, image: NewImage) -> None:
        """Record an image, its names moved from others where they had them; one transaction."""
        with self._db.transaction():
            execute = self._db.execute
            execute(
                "INSERT INTO images (id, manifest, created_at, unsynced_boot) VALUES (?, ?, ?, ?) "
                "ON CONFLICT (id) DO UPDATE SET manifest = excluded.manifest",
                (image.id, image.manifest, now_ns(), image.boot),
            )
            for name, target in image.names.items():
                execute("INSERT OR REPLACE INTO image_names VALUES (?, ?, ?)", (name, image.id, target))
            for digest, size in image.blobs.items():
                execute("INSERT OR IGNORE INTO image_blobs VALUES (?, ?, ?)", (image.id, digest, size))
            execute("DELETE FROM image_layers WHERE image_id = ?", (image.id,))
            for position, layer in enumerate(image.layers):
                row = (layer.name, layer.diff_id, layer.base, layer.bytes, layer.inodes)
                execute("INSERT OR IGNORE INTO layers VALUES (?, ?, ?, ?, ?)", row)
                execute("INSERT INTO image_layers VALUES (?, ?, ?)", (image.id, position, layer.name))

    def add_names(self, image_id: str, names: dict[str, str]) -> None:
        """Point names at an image that is there."""
        with self._db.transaction():
            for name, target in names.items():
                self._db.execute(
                    "INSERT OR REPLACE INTO image_names VALUES (?, ?, ?)", (name, image_id, target)
                )

    def remove_image(self, image_id: str) -> None:
        """Forget an image with its names; layers and blobs become garbage unless others use them."""
        self._db.execute("DELETE FROM images WHERE id = ?", (image_id,))

    def set_pinned(self, image_id: str, pinned: bool) -> None:
        """Mark an image as not to be garbage-collected by clients."""
        self._db.execute("UPDATE images SET pinned = ? WHERE id = ?", (int(pinned), image_id))

    def mark_synced(self, image_ids: Iterable[str]) -> None:
        """All of these images is on the disk now."""
        with self._db.transaction():
            for image_id in image_ids:
                self._db.execute("UPDATE images SET unsynced_boot = '' WHERE id = ?", (image_id,))

    def images(self) -> list[sqlite3.Row]:
        """Rows of all images, oldest first."""
        return self._db.execute("SELECT * FROM images ORDER BY created_at, id").fetchall()

    def image(self, image_id: str) -> sqlite3.Row | None:
        """Row of one image."""
        row = self._db.execute("SELECT * FROM images WHERE id = ?", (image_id,)).fetchone()
        return row if row is None or isinstance(row, sqlite3.Row) else None

    def names(self, image_id: str) -> dict[str, str]:
        """Full references of an image and the digests they point to."""
        rows = self._db.execute(
            "SELECT name, target FROM image_names WHERE image_id = ? ORDER BY name", (image_id,)
        )
        return {row["name"]: row["target"] for row in rows}

    def target(self, name: str) -> tuple[str, str] | None:
        """Image ID and digest a full reference points to."""
        row = self._db.execute("SELECT image_id, target FROM image_names WHERE name = ?", (name,)).fetchone()
        return (row[0], row[1]) if row else None

    def blobs(self, image_id: str) -> dict[str, int]:
        """Digests and sizes of what an image is made of."""
        rows = self._db.execute("SELECT digest, size FROM image_blobs WHERE image_id = ?", (image_id,))
        return {row[0]: row[1] for row in rows}

    def image_layers(self, image_id: str) -> list[LayerRow]:
        """Layers of an image, lowest first."""
        rows = self._db.execute(
            "SELECT layers.* FROM image_layers JOIN layers ON layers.name = image_layers.layer "
            "WHERE image_id = ? ORDER BY position",
            (image_id,),
        )
        return [LayerRow(*row) for row in rows]

    def layer(self, diff_id: str, base: str) -> LayerRow | None:
        """A layer with this content that fits on ``base`` (a chain ID)."""
        row = self._db.execute(
            "SELECT * FROM layers WHERE diff_id = ? AND base IN ('', ?) ORDER BY base LIMIT 1",
            (diff_id, base),
        ).fetchone()
        return LayerRow(*row) if row else None

    def layer_rows(self) -> list[LayerRow]:
        """All layers."""
        return [LayerRow(*row) for row in self._db.execute("SELECT * FROM layers")]

    def hold(self, image_id: str, holder: str) -> None:
        """Keep the image's layers until ``release``."""
        with self._db.transaction():
            self._db.execute(
                "INSERT OR IGNORE INTO image_holds (holder, image_id, layer) "
                "SELECT ?, image_id, layer FROM image_layers WHERE image_id = ?",
                (holder, image_id),
            )

    def release(self, holder: str) -> None:
        """End what ``hold`` began. Idempotent."""
        self._db.execute("DELETE FROM image_holds WHERE holder = ?", (holder,))

    def forget_unused_layers(self, leased: Iterable[str]) -> list[str]:
        """Delete the rows of layers no image, holder or running pull uses; returns their names."""
        rows = self._db.execute(
            "SELECT name FROM layers WHERE name NOT IN (SELECT layer FROM image_layers) "
            "AND name NOT IN (SELECT layer FROM image_holds)"
        ).fetchall()
        unused = [row[0] for row in rows if row[0] not in set(leased)]
        with self._db.transaction():
            for name in unused:
                self._db.execute("DELETE FROM layers WHERE name = ?", (name,))
        return unused

    def known_layers(self) -> set[str]:
        """Names of all layer folders that have a row."""
        return {row[0] for row in self._db.execute("SELECT name FROM layers")}

    def known_blobs(self) -> set[str]:
        """Digests of all blobs an image uses."""
        return {row[0] for row in self._db.execute("SELECT DISTINCT digest FROM image_blobs")}

    def usage(self) -> tuple[int, int]:
        """Bytes and inodes of all layers and blobs."""
        layers = self._db.execute(
            "SELECT coalesce(sum(bytes), 0), coalesce(sum(inodes), 0) FROM layers"
        ).fetchone()
        blobs = self._db.execute(
            "SELECT coalesce(sum(size), 0), count(*) FROM (SELECT DISTINCT digest, size FROM image_blobs)"
        ).fetchone()
        return layers[0] + blobs[0], layers[1] + blobs[1]
