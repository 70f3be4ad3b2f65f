"""The table's life beside other programs that make and delete tables."""

from __future__ import annotations

import asyncio

from minikubelet.network import rules
from minikubelet.network.ruleset import Ruleset

from .isolated import own_host, sh


@own_host
async def test_a_table_deleted_on_purpose_does_not_come_back(path: str) -> None:
    ruleset = Ruleset(rules.TableFacts("abcdef", "mk-abcdef", "10.85.0.0/24"), list)
    await ruleset.install()
    sh("nft", "add table inet other; delete table inet other")
    while ruleset._repair is None:  # noqa: ASYNC110 (another table went: soon ours is looked at)
        await asyncio.sleep(0.01)
    await ruleset.delete()
    await ruleset.close()
    assert "abcdef" not in sh("nft", "list", "tables")
