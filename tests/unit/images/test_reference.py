"""References in docker's normal form, and what is wrong with the others."""

from __future__ import annotations

import random

import pytest

from minikubelet.base.errors import Code, NodeError
from minikubelet.images.reference import parse_reference

SHA = "sha256:" + "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("busybox", "docker.io/library/busybox:latest"),
        ("busybox:1.36", "docker.io/library/busybox:1.36"),
        ("user/app", "docker.io/user/app:latest"),
        ("docker.io/busybox", "docker.io/library/busybox:latest"),
        ("index.docker.io/user/app:x", "docker.io/user/app:x"),
        ("localhost/app", "localhost/app:latest"),
        ("localhost:5000/app:v1", "localhost:5000/app:v1"),
        ("ghcr.io/a/b/c__d/e-f.g:V_1.2-3", "ghcr.io/a/b/c__d/e-f.g:V_1.2-3"),
        ("[::1]:5000/app", "[::1]:5000/app:latest"),
        (f"quay.io/x@{SHA}", f"quay.io/x@{SHA}"),
        (f"quay.io/x:tag@{SHA}", f"quay.io/x@{SHA}"),
        (f"busybox@{SHA}", f"docker.io/library/busybox@{SHA}"),
        ("MyHost/app", "MyHost/app:latest"),
        (f"x@sha512:{'a' * 128}", f"docker.io/library/x@sha512:{'a' * 128}"),
    ],
)
def test_normal_form(text: str, expected: str) -> None:
    reference = parse_reference(text)
    assert str(reference) == expected
    assert str(parse_reference(expected)) == expected


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("", "empty"),
        ("UPPER", "lower case"),
        ("a/B", "lower case"),
        ("a//b", "empty"),
        ("/a", "empty"),
        ("a/", "empty"),
        ("a:", "tag"),
        ("a:-x", "tag"),
        ("a:" + "t" * 129, "tag"),
        ("a:x:y", "tag"),
        ("a b", "'a b'"),
        ("a..b", "'a..b'"),
        ("-a", "'-a'"),
        ("a@", "digest"),
        ("a@sha256:abc", "hex digits"),
        ("a@md5:" + "a" * 32, "sha256: or sha512:"),
        ("a@sha256:" + "A" * 64, "hex digits"),
        ("a" * 64, "image ID"),
        ("x.y:99999/a", "port"),
        ("x.y:0/a", "port"),
        ("ex_ample.com/a", "registry"),
        ("[::1/a", "registry"),
        ("../../etc.x/a", "registry"),
        ("r.io/" + "a" * 256, "longer than 255"),
        ("a" * 2000, "1024"),
        ("a\nb", "\\n"),
        ("exämple.com/a", "registry"),
    ],
)
def test_what_is_wrong_is_named(text: str, part: str) -> None:
    with pytest.raises(NodeError) as caught:
        parse_reference(text)
    assert caught.value.code is Code.INVALID_ARGUMENT
    assert caught.value.field == "image"
    assert part in caught.value.message


def test_random_text_gives_a_reference_or_a_clean_error() -> None:
    source = random.Random(1)
    alphabet = "abcXYZ019./:@_-[] \n\0é" + "sha256"
    for _ in range(20_000):
        text = "".join(source.choices(alphabet, k=source.randrange(1, 30)))
        try:
            reference = parse_reference(text)
        except NodeError as exc:
            assert exc.code is Code.INVALID_ARGUMENT
        else:
            assert parse_reference(str(reference)) == reference
            assert ".." not in reference.path.split("/")
