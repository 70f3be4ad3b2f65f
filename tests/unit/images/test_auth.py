"""Challenges, token requests, and who may see credentials."""

from __future__ import annotations

import base64
import random
from urllib.parse import parse_qs, urlsplit

import pytest

from minikubelet.base.errors import NodeError
from minikubelet.images import auth
from minikubelet.images.auth import Challenge, may_have_credentials, parse_challenges
from minikubelet.images.hosts import Host
from minikubelet.images.models import Credentials
from minikubelet.images.reference import parse_reference

REFERENCE = parse_reference("registry.example.com/team/app:1")
OWN = Host("https", "registry.example.com")
MIRROR = Host("https", "mirror.example.org", own=False)
USER = Credentials(username="u", password="p")


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ('Basic realm="x"', [("basic", {"realm": "x"})]),
        (
            'Bearer realm="https://a/t",service="s",scope="repository:a/b:pull,push"',
            [("bearer", {"realm": "https://a/t", "service": "s", "scope": "repository:a/b:pull,push"})],
        ),
        (
            'Basic realm="a", Bearer realm="b" , service=s',
            [("basic", {"realm": "a"}), ("bearer", {"realm": "b", "service": "s"})],
        ),
        (r'Bearer realm="a\"b"', [("bearer", {"realm": 'a"b'})]),
        ("Negotiate", [("negotiate", {})]),
        ("", []),
        ('Bearer realm="unterminated', [("bearer", {"realm": "unterminated"})]),
        ('BEARER Realm="a",realm="b"', [("bearer", {"realm": "a"})]),
    ],
)  # fmt: skip
def test_challenges(header: str, expected: list[tuple[str, dict[str, str]]]) -> None:
    assert [(c.scheme, dict(c.parameters)) for c in parse_challenges(header)] == expected


def test_random_challenges_end() -> None:
    source = random.Random(3)
    for _ in range(5_000):
        parse_challenges("".join(source.choices('Bearer basic="\\, \t=x', k=source.randrange(60))))


@pytest.mark.parametrize(
    ("realm", "host", "allowed"),
    [
        ("https://registry.example.com/token", OWN, True),
        ("https://registry.example.com:443/token", OWN, True),
        ("https://auth.example.com/token", OWN, True),
        ("https://example.com/token", OWN, True),
        ("https://registry.example.com:8443/token", OWN, True),
        ("http://registry.example.com/token", OWN, False),
        ("http://auth.example.com/token", OWN, False),
        ("https://evil.test/token", OWN, False),
        ("https://registry.example.com.evil.test/token", OWN, False),
        ("https://notexample.com/token", OWN, False),
        ("https://auth.docker.io/token", Host("https", "registry-1.docker.io"), True),
        ("https://auth.docker.io/token", OWN, False),
        ("http://auth.docker.io/token", Host("https", "registry-1.docker.io"), False),
        ("http://127.0.0.1:5000/token", Host("http", "127.0.0.1:5000"), True),
        ("http://127.0.0.1:5001/token", Host("http", "127.0.0.1:5000"), False),
        ("http://localhost:5000/token", Host("http", "127.0.0.1:5000"), False),
        ("https://10.0.0.2/token", Host("https", "10.0.0.1"), False),
        ("https://b.co.uk/token", Host("https", "a.co.uk"), False),
        ("https://auth.a.co.uk/token", Host("https", "r.a.co.uk"), True),
        ("https://com/token", Host("https", "a.com"), False),
    ],
)
def test_realms(realm: str, host: Host, allowed: bool) -> None:
    assert may_have_credentials(realm, host) is allowed


@pytest.mark.parametrize(
    ("address", "host", "allowed"),
    [
        ("", OWN, True),
        ("", MIRROR, False),
        ("registry.example.com", OWN, True),
        ("https://registry.example.com/v2/", OWN, True),
        ("other.example.com", OWN, False),
        ("mirror.example.org", MIRROR, True),
        ("registry.example.com", MIRROR, False),
    ],
)
def test_credentials_are_for_one_registry(address: str, host: Host, allowed: bool) -> None:
    given = Credentials("u", "p", server_address=address)
    assert (auth.credentials_for(given, REFERENCE, host) is given) is allowed


def test_docker_hub_goes_by_many_names() -> None:
    reference = parse_reference("busybox")
    host = Host("https", "registry-1.docker.io")
    for address in ("https://index.docker.io/v1/", "docker.io", "registry-1.docker.io"):
        assert auth.credentials_for(Credentials("u", "p", server_address=address), reference, host)


def request(
    credentials: Credentials | None, realm: str = "https://registry.example.com/t?x=1"
) -> auth.TokenRequest:
    challenge = Challenge("bearer", {"realm": realm, "service": "s", "scope": "repository:team/app:pull"})
    made = auth.token_request(challenge, OWN, REFERENCE.path, credentials)
    assert made is not None
    return made


def test_anonymous_token_request() -> None:
    made = request(None)
    query = parse_qs(urlsplit(made.url).query)
    assert made.method == "GET"
    assert query == {"x": ["1"], "service": ["s"], "scope": ["repository:team/app:pull"]}
    assert "Authorization" not in made.headers


def test_token_request_with_password() -> None:
    made = request(USER)
    assert made.headers["Authorization"] == "Basic " + base64.b64encode(b"u:p").decode()
    assert "p" not in parse_qs(urlsplit(made.url).query).get("account", [""])[0]


def test_token_request_with_identity_token() -> None:
    made = request(Credentials(identity_token="secret"))
    assert made.method == "POST"
    assert "secret" not in made.url
    assert parse_qs(made.body)["refresh_token"] == ["secret"]
    assert parse_qs(made.body)["grant_type"] == ["refresh_token"]


@pytest.mark.parametrize("credentials", [USER, Credentials(identity_token="secret")])
def test_foreign_realm_sees_nothing(credentials: Credentials) -> None:
    made = request(credentials, "https://evil.test/t")
    assert made.withheld and made.method == "GET" and not made.body and not made.headers
    assert "account" not in made.url


@pytest.mark.parametrize(
    "realm", ["", "ftp://x/", "file:///etc/passwd", "https://", "https://u:p@x/", "//x/"]
)
def test_unusable_realms(realm: str) -> None:
    challenge = Challenge("bearer", {"realm": realm})
    assert auth.token_request(challenge, OWN, REFERENCE.path, None) is None


def test_auth_field_is_decoded() -> None:
    encoded = base64.b64encode(b"user:pa:ss").decode()
    assert Credentials(auth=encoded).user_password() == ("user", "pa:ss")
    for bad in ("!", base64.b64encode(b"nocolon").decode(), base64.b64encode(b"\xff:x").decode()):
        with pytest.raises(NodeError):
            Credentials(auth=bad).user_password()


def test_line_breaks_are_refused() -> None:
    with pytest.raises(NodeError, match="line breaks"):
        auth.check_credentials(Credentials("u", "p\r\nX: y"))
    with pytest.raises(NodeError, match="colon"):
        auth.basic("a:b", "c")


def test_credentials_are_not_in_their_repr() -> None:
    text = repr(Credentials("user1", "pass2", "auth3", "server", "ident4", "reg5"))
    for secret in ("user1", "pass2", "auth3", "ident4", "reg5"):
        assert secret not in text
