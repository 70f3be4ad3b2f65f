"""Credentials of this machine: which entry fits, helpers, and that nothing of them is told."""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path
from typing import Any

import pytest

from minikubelet.base.errors import Code, NodeError
from minikubelet.images import auth_file
from minikubelet.images.auth_file import AuthFile
from minikubelet.images.hosts import Host, registry_host
from minikubelet.images.models import Credentials

SECRET = "pa55word-that-nobody-sees"


def basic(user: str) -> dict[str, str]:
    return {"auth": base64.b64encode(f"{user}:{SECRET}".encode()).decode()}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "auth.json"


def write(path: Path, document: Any, mode: int = 0o600) -> AuthFile:
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    path.chmod(mode)
    return AuthFile(str(path))


def user(file: AuthFile, host: Host, repository: str) -> str | None:
    found = file.find(host, repository)
    return found.user_password()[0] if found else None


def test_the_most_specific_entry_wins(path: Path) -> None:
    names = ("r.example", "r.example/team", "r.example/team/app", "https://other.example:5000/v1/")
    file = write(path, {"auths": {name: basic(f"u{n}") for n, name in enumerate(names)}})
    host = Host("https", "r.example")
    assert user(file, host, "team/app") == "u2"
    assert user(file, host, "team/app/x") == "u2"
    assert user(file, host, "team/other") == "u1"
    assert user(file, host, "teams/app") == "u0"
    assert user(file, Host("https", "OTHER.example:5000"), "x") == "u3"
    assert user(file, Host("https", "other.example"), "x") is None


@pytest.mark.parametrize("key", ["https://index.docker.io/v1/", "docker.io", "registry-1.docker.io"])
def test_docker_hub_has_many_names(path: Path, key: str) -> None:
    file = write(path, {"auths": {key: basic("hub")}})
    assert user(file, registry_host("docker.io"), "library/busybox") == "hub"
    assert user(file, registry_host("quay.io"), "library/busybox") is None


def test_all_kinds_of_entries(path: Path) -> None:
    auths = {
        "a.example": {"username": "u", "password": SECRET},
        "b.example": {"identitytoken": SECRET},
        "c.example": {"registrytoken": SECRET},
        "d.example": {},
    }
    file = write(path, {"auths": auths, "HttpHeaders": {}})
    found = [file.find(Host("https", f"{name}.example"), "x") for name in "abcd"]
    assert found == [
        Credentials(username="u", password=SECRET),
        Credentials(identity_token=SECRET),
        Credentials(registry_token=SECRET),
        None,
    ]


def helper(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    program = folder / "docker-credential-test"
    program.write_text(f"#!/bin/sh\nread server\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setattr(auth_file, "_HELPER_PATH", f"{folder}:/usr/bin:/bin")


def test_helpers(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    helper(tmp_path, monkeypatch, """echo '{"Username": "'$server'", "Secret": "s"}'""")
    file = write(
        path, {"credHelpers": {"r.example": "test"}, "auths": {"r.example": basic("x"), "s.example": {}}}
    )
    assert file.find(Host("https", "r.example"), "x") == Credentials(username="r.example", password="s")
    assert file.find(Host("https", "s.example"), "x") is None
    file = write(path, {"credsStore": "test", "auths": {"r.example": {}, "a.example": basic("own")}})
    assert user(file, Host("https", "r.example"), "x") == "r.example"
    assert user(file, Host("https", "a.example"), "x") == "own"
    assert user(file, registry_host("docker.io"), "x") == "https://index.docker.io/v1/"
    helper(tmp_path, monkeypatch, """echo '{"Username": "<token>", "Secret": "t"}'""")
    assert file.find(Host("https", "r.example"), "x") == Credentials(identity_token="t")
    helper(tmp_path, monkeypatch, "echo credentials not found in native keychain; exit 1")
    assert file.find(Host("https", "r.example"), "x") is None


@pytest.mark.parametrize(
    ("script", "said"),
    [
        (f"echo {SECRET}; echo {SECRET} >&2; exit 3", "failed with status 3"),
        (f"echo {SECRET}", "something else than Username and Secret"),
        ("exec sleep 100", "no answer within"),
    ],
)
def test_helpers_that_fail(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, said: str
) -> None:
    monkeypatch.setattr(auth_file, "HELPER_SECONDS", 0.5)
    helper(tmp_path, monkeypatch, script)
    file = write(path, {"credsStore": "test"})
    with pytest.raises(NodeError) as caught:
        file.find(Host("https", "r.example"), "x")
    assert caught.value.message.startswith(f"{path}: credsStore: ") and said in caught.value.message
    assert SECRET not in caught.value.message


@pytest.mark.parametrize(
    ("document", "said"),
    [
        (f'{{"auths": "{SECRET}', "is not JSON"),
        ("[]", "must be an object"),
        ({"auths": [SECRET]}, "auths: must be an object"),
        ({"auths": {"r.example": SECRET}}, "auths.'r.example': must be an object"),
        ({"auths": {"r.example": {"auth": SECRET}}}, "auths.'r.example': "),
        ({"auths": {"r.example": {"password": 7}}}, "auths.'r.example'.password: must be a string"),
        ({"auths": {"r.example": {"username": "u", "password": f"{SECRET}\r\nX: y"}}}, "line breaks"),
        ({"credsStore": "../../bin/sh"}, "credsStore: must be the end of a program's name"),
        ({"credHelpers": {"r.example": "no-such"}}, "there is no program docker-credential-no-such"),
    ],
)
def test_mistakes_are_named_and_secrets_are_not(path: Path, document: Any, said: str) -> None:
    with pytest.raises(NodeError) as caught:
        write(path, document).find(Host("https", "r.example"), "x")
    assert caught.value.code is Code.FAILED_PRECONDITION
    assert caught.value.message.startswith(f"{path}: ") and said in caught.value.message
    assert SECRET not in caught.value.message and base64.b64encode(SECRET.encode()).decode() not in str(
        caught
    )


def test_a_file_that_others_can_read_is_refused(path: Path) -> None:
    for mode in (0o644, 0o640, 0o602):
        with pytest.raises(NodeError, match=f"mode {mode:04o}"):
            write(path, {}, mode).find(Host("https", "r.example"), "x")
    os.unlink(path)
    with pytest.raises(NodeError, match="No such file"):
        AuthFile(str(path)).find(Host("https", "r.example"), "x")
    os.mkfifo(path, 0o600)
    with pytest.raises(NodeError, match="not a regular file"):
        AuthFile(str(path)).find(Host("https", "r.example"), "x")
