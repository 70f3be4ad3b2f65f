"""Authentication over loopback, and that credentials go to nobody else."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from minikubelet.base.errors import Code, NodeError
from minikubelet.images.models import Credentials
from minikubelet.images.store import ImageStore
from tests.host.images.conftest import Stores
from tests.images import catalog
from tests.registry import Auth, Fault, Registry

USER = Credentials(username="user", password="secret")
BASIC = Auth("basic", "user", "secret")
BEARER = Auth("bearer", "user", "secret", identity_token="identity")
ENCODED = Credentials(auth=base64.b64encode(b"user:secret").decode())


@pytest.mark.parametrize("credentials", [USER, ENCODED])
@pytest.mark.parametrize("auth", [BASIC, BEARER])
async def test_user_and_password(store: ImageStore, auth: Auth, credentials: Credentials) -> None:
    with Registry(auth=auth) as registry:
        reference = registry.add("team/app:1", catalog.busybox())
        assert (await store.pull(reference, credentials)).id == catalog.busybox().id


async def test_identity_token(store: ImageStore) -> None:
    with Registry(auth=BEARER) as registry:
        reference = registry.add("team/app:1", catalog.busybox())
        await store.pull(reference, Credentials(identity_token="identity"))
        assert registry.count("POST", "/token") == 1


async def test_registry_token(store: ImageStore) -> None:
    with Registry(auth=BEARER) as registry:
        registry._tokens["given"] = "team/app"
        reference = registry.add("team/app:1", catalog.busybox())
        await store.pull(reference, Credentials(registry_token="given"))
        assert registry.count("*", "/token") == 0


async def test_anonymous_bearer(store: ImageStore) -> None:
    with Registry(auth=Auth("bearer")) as registry:
        await store.pull(registry.add("team/app:1", catalog.layered()))
        assert registry.count("GET", "/token") == 1


async def test_expired_token_is_renewed(store: ImageStore) -> None:
    with Registry(auth=Auth("bearer")) as registry:
        reference = registry.add("team/app:1", catalog.busybox())
        registry.fail(
            Fault(
                "*/blobs/*",
                status=401,
                headers={"WWW-Authenticate": f'Bearer realm="{registry.url}/token",service="test"'},
            )
        )
        await store.pull(reference)
        assert registry.count("GET", "/token") == 2


@pytest.mark.parametrize("auth", [BASIC, BEARER])
@pytest.mark.parametrize("credentials", [None, Credentials("user", "wrong")])
async def test_refusals_are_clear(stores: Stores, auth: Auth, credentials: Credentials | None) -> None:
    with Registry(auth=auth) as registry:
        reference = registry.add("team/app:1", catalog.busybox())
        store = await stores.start()
        with pytest.raises(NodeError, match=registry.address) as caught:
            await store.pull(reference, credentials)
        assert caught.value.code is Code.UNAUTHENTICATED
        assert "401" in caught.value.message and "wrong" not in caught.value.message
        assert stores.is_empty()


async def test_redirects_carry_no_credentials(store: ImageStore) -> None:
    for auth in (BASIC, BEARER):
        with Registry() as cdn, Registry(auth=auth, redirect_blobs_to=cdn.url) as registry:
            cdn.add("x:1", catalog.layered())
            reference = registry.add("team/app:1", catalog.layered())
            await store.pull(reference, USER)
            await store.remove(reference)
            assert cdn.count("GET", "/cdn/*") == 4
            for request in cdn.requests:
                assert "authorization" not in request.headers
                assert "secret" not in str(request)


async def test_configured_headers_stay_with_their_host(stores: Stores, tmp_path: Path) -> None:
    with Registry() as cdn, Registry(redirect_blobs_to=cdn.url) as registry:
        cdn.add("x:1", catalog.busybox())
        reference = registry.add("team/app:1", catalog.busybox())
        folder = tmp_path / "certs" / registry.address
        folder.mkdir(parents=True)
        (folder / "hosts.toml").write_text(f'server = "{registry.url}"\n[header]\nX-Secret = "s"\n')
        store = await stores.start([str(tmp_path / "certs")])
        await store.pull(reference)
        assert all(request.headers["x-secret"] == "s" for request in registry.requests)
        assert all("x-secret" not in request.headers for request in cdn.requests)


async def test_realm_elsewhere_gets_no_credentials(store: ImageStore) -> None:
    with Registry(auth=BEARER) as evil, Registry() as registry:
        reference = registry.add("team/app:1", catalog.busybox())
        challenge = f'Bearer realm="{evil.url}/token",service="s",scope="repository:team/app:pull"'
        registry.fail(Fault("*", status=401, headers={"WWW-Authenticate": challenge}, times=None))
        for credentials in (USER, Credentials(identity_token="identity")):
            with pytest.raises(NodeError, match="credentials were not sent there") as caught:
                await store.pull(reference, credentials)
            assert caught.value.code is Code.UNAUTHENTICATED
        assert evil.count("*", "/token") >= 2
        for request in evil.requests:
            assert "authorization" not in request.headers
            assert "secret" not in str(request) and "identity" not in str(request.query)
            assert request.method == "GET"


async def test_mirrors_get_no_credentials(stores: Stores, tmp_path: Path) -> None:
    with Registry(auth=BASIC) as mirror, Registry(auth=BASIC) as registry:
        mirror.add("team/app:1", catalog.busybox())
        reference = registry.add("team/app:1", catalog.busybox())
        folder = tmp_path / "certs" / registry.address
        folder.mkdir(parents=True)
        (folder / "hosts.toml").write_text(f'server = "{registry.url}"\n[host."{mirror.url}"]\n')
        store = await stores.start([str(tmp_path / "certs")])
        await store.pull(reference, USER)
        assert mirror.requests and all("authorization" not in each.headers for each in mirror.requests)
        await store.remove(reference)
        # Named explicitly, the mirror gets them and the registry doesn't.
        before = len(registry.requests)
        named = Credentials("user", "secret", server_address=mirror.address)
        await store.pull(reference, named)
        assert any("authorization" in each.headers for each in mirror.requests)
        assert len(registry.requests) == before


async def test_pulls_with_other_credentials_do_not_share_a_refusal(store: ImageStore) -> None:
    import asyncio

    with Registry(auth=BASIC) as registry:
        reference = registry.add("team/app:1", catalog.busybox())
        results = await asyncio.gather(
            *(store.pull(reference, c) for c in (None, USER, Credentials("user", "wrong"), USER)),
            return_exceptions=True,
        )
        assert [isinstance(result, NodeError) for result in results] == [True, False, True, False]


async def test_proxy_environment_and_netrc_are_not_a_leak(
    store: ImageStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Registry() as registry:
        netrc = tmp_path / "netrc"
        netrc.write_text("machine 127.0.0.1 login user password fromnetrc\n")
        monkeypatch.setenv("NETRC", str(netrc))
        monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        await store.pull(registry.add("team/app:1", catalog.busybox()))
        assert all("authorization" not in request.headers for request in registry.requests)
