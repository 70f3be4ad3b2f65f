"""registries.conf and the credentials file, with registries that answer."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest

from minikubelet.base.errors import Code, NodeError
from minikubelet.images.models import Credentials
from tests.host.images.conftest import Stores
from tests.images import catalog
from tests.registry import Auth, Registry

BASIC = Auth("basic", "user", "secret")
BEARER = Auth("bearer", "user", "secret", identity_token="identity")


def conf(folder: Path, text: str) -> str:
    path = folder / "registries.conf"
    path.write_text(text)
    return str(path)


def auth_file(folder: Path, auths: dict[str, dict[str, str]]) -> str:
    path = folder / "auth.json"
    path.write_text(json.dumps({"auths": auths}))
    path.chmod(0o600)
    return str(path)


ENTRY = {"username": "user", "password": "secret"}


async def test_a_mirror_with_the_repository_under_another_name(stores: Stores, tmp_path: Path) -> None:
    with Registry() as mirror, Registry() as origin:
        mirror.add("cache/all/app:1", catalog.layered())
        name = f"{origin.address}/team/app:1"
        text = f'[[registry]]\nprefix = "{origin.address}/team"\nlocation = "{origin.address}/team"\n'
        text += f'[[registry.mirror]]\nlocation = "{mirror.address}/cache/all"\n'
        store = await stores.start(registries_conf=conf(tmp_path, text))
        image = await store.pull(name)
        assert image.id == catalog.layered().id and image.repo_tags == (name,)
        assert origin.count() == 0
        # What the mirror doesn't have comes from the registry.
        origin.add("team/other:1", catalog.busybox())
        assert (await store.pull(f"{origin.address}/team/other:1")).id == catalog.busybox().id


async def test_blocked(stores: Stores, tmp_path: Path, own_registry: Registry) -> None:
    reference = own_registry.add("app:1", catalog.busybox())
    text = f'[[registry]]\nlocation = "{own_registry.address}"\nblocked = true'
    store = await stores.start(registries_conf=conf(tmp_path, text))
    with pytest.raises(NodeError, match=r"registries\.conf: registry\[0\]\.blocked") as caught:
        await store.pull(reference)
    assert caught.value.code is Code.PERMISSION_DENIED and own_registry.count() == 0


async def test_short_names_are_looked_for_and_found_again(stores: Stores, tmp_path: Path) -> None:
    with Registry() as first, Registry() as second:
        second.add("team/app:1", catalog.busybox())
        text = f'unqualified-search-registries = ["{first.address}", "{second.address}"]\n'
        store = await stores.start(registries_conf=conf(tmp_path, text))
        image = await store.pull("team/app:1")
        assert image.repo_tags == (f"{second.address}/team/app:1",)
        found = store.find("team/app:1")
        assert found is not None and found.id == image.id
        with pytest.raises(NodeError) as caught:
            await store.pull("nowhere:1")
        assert caught.value.code is Code.NOT_FOUND
        assert f"registry {first.address}: status 404" in caught.value.message
        assert f"registry {second.address}: status 404" in caught.value.message


async def test_mistakes_are_told_by_pulls_and_hinder_nothing_else(
    stores: Stores, tmp_path: Path, own_registry: Registry
) -> None:
    reference = own_registry.add("app:1", catalog.busybox())
    path = conf(tmp_path, "bloked = 1")
    store = await stores.start(registries_conf=path)
    with pytest.raises(NodeError, match=f"{path}: bloked: unknown key"):
        await store.pull(reference)
    assert store.list() == []
    conf(tmp_path, "")
    assert (await store.pull(reference)).id == catalog.busybox().id


@pytest.mark.parametrize("auth", [BASIC, BEARER])
async def test_stored_credentials(stores: Stores, tmp_path: Path, auth: Auth) -> None:
    with Registry(auth=auth) as registry:
        reference = registry.add("team/app:1", catalog.busybox())
        path = auth_file(tmp_path, {registry.address: {"auth": "x"}, f"{registry.address}/team": ENTRY})
        store = await stores.start(auth_file=path)
        assert (await store.pull(reference)).id == catalog.busybox().id


async def test_the_requests_credentials_win(stores: Stores, tmp_path: Path) -> None:
    with Registry(auth=BASIC) as registry:
        reference = registry.add("team/app:1", catalog.busybox())
        wrong = auth_file(tmp_path, {registry.address: {"username": "user", "password": "wrong"}})
        store = await stores.start(auth_file=wrong)
        with pytest.raises(NodeError, match="401"):
            await store.pull(reference)
        await store.pull(reference, Credentials(username="user", password="secret"))


async def test_each_server_gets_its_own_credentials_alone(stores: Stores, tmp_path: Path) -> None:
    """A mirror asks for credentials: it gets those the file has for it, never the registry's."""
    with Registry(auth=BASIC) as mirror, Registry() as origin:
        name = origin.add("team/app:1", catalog.busybox())
        mirror.add("team/app:1", catalog.busybox())
        text = f'[[registry]]\nlocation = "{origin.address}"\n'
        text += f'[[registry.mirror]]\nlocation = "{mirror.address}"\n'
        path = auth_file(tmp_path, {origin.address: ENTRY})
        store = await stores.start(registries_conf=conf(tmp_path, text), auth_file=path)
        await store.pull(name)
        assert [request for request in mirror.requests if "authorization" in request.headers] == []
        await store.remove(name)
        auth_file(tmp_path, {mirror.address: ENTRY})
        before = origin.count()
        await store.pull(name)
        assert origin.count() == before


async def test_a_file_that_is_wrong_is_told_and_not_shown(
    stores: Stores, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with Registry(auth=BASIC) as registry:
        reference = registry.add("team/app:1", catalog.busybox())
        path = tmp_path / "auth.json"
        path.write_text('{"auths": {"x": {"auth": "hidden-secret"')
        path.chmod(0o600)
        store = await stores.start(auth_file=str(path))
        with pytest.raises(NodeError, match=r"auth\.json: is not JSON") as caught:
            await store.pull(reference)
        assert f"registry {registry.address}: " in caught.value.message
        path.chmod(0o644)
        with pytest.raises(NodeError, match=r"auth\.json: others may read or write it"):
            await store.pull(reference)
        assert "hidden-secret" not in caplog.text + caught.value.message
