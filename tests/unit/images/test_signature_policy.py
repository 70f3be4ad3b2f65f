"""policy.json: what is read, what is refused, and which requirements are whose."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from minikubelet.base.errors import Code, NodeError
from minikubelet.images.reference import parse_reference
from minikubelet.images.signature_policy import Identity, SignaturePolicy, load, parse, scopes_of

ACCEPT = [{"type": "insecureAcceptAnything"}]
REJECT = [{"type": "reject"}]
DIGEST = "sha256:" + "a" * 64


def policy(default: Any = REJECT, **scopes: Any) -> SignaturePolicy:
    return parse(json.dumps({"default": default, "transports": {"docker": scopes}}), "policy.json")


def kinds(found: SignaturePolicy, reference: str) -> list[str]:
    return [each.kind for each in found.requirements(parse_reference(reference))]


def test_scopes_from_the_image_to_everything() -> None:
    assert list(scopes_of(parse_reference("a.example.com:5000/team/app:1"))) == [
        "a.example.com:5000/team/app:1",
        "a.example.com:5000/team/app",
        "a.example.com:5000/team",
        "a.example.com:5000",
        "*.example.com",
        "*.com",
        "",
    ]
    assert next(iter(scopes_of(parse_reference("busybox")))) == "docker.io/library/busybox:latest"
    assert next(iter(scopes_of(parse_reference(f"r.io/a@{DIGEST}")))) == f"r.io/a@{DIGEST}"


def test_the_most_specific_scope_alone_counts() -> None:
    found = policy(
        **{
            "docker.io/library": ACCEPT,
            "docker.io/library/busybox:bad": REJECT,
            "*.example.com": ACCEPT,
            "example.com/team": ACCEPT,
        }
    )
    assert kinds(found, "busybox:bad") == ["reject"]
    assert kinds(found, "busybox") == ["insecureAcceptAnything"]
    assert kinds(found, "r.example.com:5000/x") == ["insecureAcceptAnything"]
    assert kinds(found, "example.com/team/x") == ["insecureAcceptAnything"]
    assert kinds(found, "example.com/teams") == ["reject"]
    assert kinds(found, "docker.io/other/x") == ["reject"]


def test_a_transport_has_a_default_and_others_mean_nothing() -> None:
    text = {"default": REJECT, "transports": {"docker": {"": ACCEPT}, "docker-daemon": {"": REJECT}}}
    assert kinds(parse(json.dumps(text), "p"), "busybox") == ["insecureAcceptAnything"]


def test_keys() -> None:
    data = base64.b64encode(b"PEM").decode()
    for given, paths, keys in (
        ({"keyPath": "/k"}, ("/k",), ()),
        ({"keyPaths": ["/k", "/l"]}, ("/k", "/l"), ()),
        ({"keyData": data}, (), (b"PEM",)),
        ({"keyDatas": [data, data]}, (), (b"PEM", b"PEM")),
    ):
        [found] = policy([{"type": "sigstoreSigned", **given}]).default
        assert (found.key_paths, found.key_data, found.unsupported) == (paths, keys, "")
        assert found.identity.kind == "matchRepoDigestOrExact"


@pytest.mark.parametrize(
    ("requirement", "what"),
    [
        ({"type": "signedBy", "keyType": "GPGKeys", "keyPath": "/k"}, "GPG"),
        (
            {"type": "sigstoreSigned", "fulcio": {}, "rekorPublicKeyPath": "/k"},
            "fulcio and rekorPublicKeyPath",
        ),
        ({"type": "sigstoreSigned", "pki": {}}, "pki"),
        ({"type": "sigstoreSigned", "keyPath": "/k", "rekorPublicKeyData": "x"}, "rekorPublicKeyData"),
    ],
)
def test_what_cannot_be_checked_is_kept_as_such(requirement: dict[str, Any], what: str) -> None:
    [found] = policy([requirement]).default
    assert what in found.unsupported


SIGSTORE = {"type": "sigstoreSigned", "keyPath": "/k"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[", "policy.json: Expecting value"),
        ("[]", "policy.json: must be an object"),
        ("{}", "policy.json: default: is missing"),
        ('{"default": [], "default": []}', "'default' stands there twice"),
        (json.dumps({"default": ACCEPT, "x": 1}), "policy.json: x: unknown key"),
        (json.dumps({"default": []}), "default: must be a list of at least one"),
        (json.dumps({"default": [{"type": "trustMe"}]}), r"default\[0\]: type: 'trustMe' is not one of"),
        (
            json.dumps({"default": [{"type": "reject", "keyPath": "/k"}]}),
            r"default\[0\]: keyPath: unknown key",
        ),
        (json.dumps({"default": [{"type": "sigstoreSigned"}]}), "exactly one of keyPath"),
        (json.dumps({"default": [{**SIGSTORE, "keyData": "eA=="}]}), "exactly one of keyPath"),
        (json.dumps({"default": [{"type": "sigstoreSigned", "keyData": "?"}]}), "keyData: is no base64"),
        (json.dumps({"default": [{"type": "sigstoreSigned", "keyPaths": []}]}), "a list of strings"),
        (
            json.dumps({"default": [{**SIGSTORE, "signedIdentity": {"type": "any"}}]}),
            r"signedIdentity: type: 'any' is not",
        ),
        (
            json.dumps({"default": [{**SIGSTORE, "signedIdentity": {"type": "exactReference"}}]}),
            "dockerReference: must be a string",
        ),
        (
            json.dumps(
                {
                    "default": [
                        {**SIGSTORE, "signedIdentity": {"type": "exactReference", "dockerReference": "a/b"}}
                    ]
                }
            ),
            "'a/b': a tag or a digest is needed",
        ),
        (
            json.dumps({"default": ACCEPT, "transports": {"docker": {"r.io/x": [{"type": "x"}]}}}),
            r"transports\.docker\.'r\.io/x'\[0\]: type",
        ),
    ],
)
def test_mistakes_are_named(text: str, message: str) -> None:
    with pytest.raises(NodeError, match=message) as caught:
        parse(text, "policy.json")
    assert caught.value.code is Code.FAILED_PRECONDITION


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    path = str(tmp_path / "policy.json")
    assert load(path, required=False).requirements(parse_reference("busybox")) == ()
    with pytest.raises(NodeError, match=r"policy\.json: the signature policy does not exist"):
        load(path, required=True)


TAGGED = "r.io/team/app:1"
BY_DIGEST = f"r.io/team/app@{DIGEST}"


@pytest.mark.parametrize(
    ("identity", "reference", "accepted", "refused"),
    [
        (
            Identity("matchExact"),
            TAGGED,
            [TAGGED],
            ["r.io/team/app", "r.io/team/app:2", BY_DIGEST, "r.io/app:1"],
        ),
        (Identity("matchExact"), BY_DIGEST, [BY_DIGEST], [TAGGED]),
        (
            Identity(),
            TAGGED,
            [TAGGED],
            ["r.io/team/app", "r.io/team/app:2", f"{TAGGED}@{DIGEST}", "bad name"],
        ),
        (
            Identity(),
            BY_DIGEST,
            [TAGGED, BY_DIGEST, "r.io/team/app:9"],
            ["r.io/team/app", "r.io/team/other:1"],
        ),
        (Identity("matchRepository"), TAGGED, ["r.io/team/app", "r.io/team/app:2", BY_DIGEST], ["r.io/team"]),
        (
            Identity("exactReference", ("docker.io/x/y:3",)),
            TAGGED,
            ["docker.io/x/y:3"],
            ["docker.io/x/y", TAGGED],
        ),
        (Identity("exactRepository", ("docker.io/x/y",)), TAGGED, ["docker.io/x/y", "x/y:9"], [TAGGED]),
        (
            Identity("remapIdentity", ("r.io/team", "up.io/z")),
            TAGGED,
            ["up.io/z/app:1"],
            [TAGGED, "up.io/z/app:2"],
        ),
        (Identity("remapIdentity", ("r.io/tea", "up.io/z")), TAGGED, [TAGGED], ["up.io/zm/app:1"]),
        (Identity("remapIdentity", ("r.io", "up.io:5000")), BY_DIGEST, ["up.io:5000/team/app:7"], [TAGGED]),
    ],
)
def test_under_which_name_an_image_may_be_signed(
    identity: Identity, reference: str, accepted: list[str], refused: list[str]
) -> None:
    parsed = parse_reference(reference)
    assert [name for name in accepted if not identity.accepts(parsed, name)] == []
    assert [name for name in refused if identity.accepts(parsed, name)] == []
