"""passwd and group: what resolves to whom, and what is refused."""

from __future__ import annotations

import pytest

from minikubelet.linux import users
from minikubelet.linux.users import UserError, resolve

PASSWD = users.parse_passwd(
    b"root:x:0:0:root:/root:/bin/sh\n"
    b"# a comment\nshort:x:1\nbad:x:minus:0::/:\nhuge:x:4294967295:0::/:\n"
    b"web:x:1000:1001:Web:/home/web:/bin/sh\n"
    b"1000:x:77:78::/seventy:\n"
    b"latin:x:5:5:\xff:/h\xff:\n"
)
GROUP = users.parse_group(b"root:x:0:\nweb:x:1001:\nextra:x:1002:web,other\nlog:x:1003:,web\nodd:x\n")


def ids(
    user: str, gid: int = -1, supplemental: tuple[int, ...] = (), merge: bool = True
) -> tuple[object, ...]:
    found = resolve(user, gid, PASSWD, GROUP, list(supplemental), merge)
    return found.uid, found.gid, found.groups


@pytest.mark.parametrize(
    ("user", "expected"),
    [
        ("", (0, 0, (0,))),
        ("root", (0, 0, (0,))),
        ("0", (0, 0, (0,))),
        ("web", (1000, 1001, (1001, 1002, 1003))),
        ("web:root", (1000, 0, (0, 1002, 1003))),
        ("web:5000", (1000, 5000, (5000, 1002, 1003))),
        ("web:", (1000, 1001, (1001, 1002, 1003))),
        ("1000", (1000, 1001, (1001, 1002, 1003))),  # an ID, although somebody else is called so
        ("4242", (4242, 0, (0,))),
        ("4242:4343", (4242, 4343, (4343,))),
        ("2147483647", (2147483647, 0, (0,))),
        ("latin", (5, 5, (5,))),
    ],
)
def test_who_is_who(user: str, expected: tuple[object, ...]) -> None:
    assert ids(user) == expected


def test_group_override_and_supplemental_groups() -> None:
    assert ids("web", gid=9) == (1000, 9, (9, 1002, 1003))
    assert ids("web", supplemental=(7, 1002, 8)) == (1000, 1001, (1001, 7, 1002, 8, 1003))
    assert ids("web", supplemental=(7,), merge=False) == (1000, 1001, (1001, 7))


@pytest.mark.parametrize(
    ("user", "text"),
    [
        ("nobody", "unable to find user nobody: no matching entries in passwd file"),
        ("short", "unable to find user short"),
        ("bad", "unable to find user bad"),
        ("huge", "unable to find user huge"),
        ("-1", "user ID -1 is out of range"),
        ("2147483648", "out of range"),
        ("4294967296", "out of range"),
        ("99999999999999999999", "out of range"),
        ("٣", "unable to find user|out of range"),
        ("web:nogroup", "unable to find group nogroup: no matching entries in group file"),
        ("web:-1", "group ID -1 is out of range"),
        ("web:4294967295", "out of range"),
    ],
)
def test_who_is_nobody(user: str, text: str) -> None:
    with pytest.raises(UserError, match=text):
        ids(user)


def test_numbers_out_of_range_are_refused_everywhere() -> None:
    with pytest.raises(UserError, match="group ID 4294967295"):
        ids("web", gid=2**32 - 1)
    for bad in (-1, 2**31, 2**32):
        with pytest.raises(UserError, match="supplemental group"):
            ids("web", supplemental=(bad,))


def test_home() -> None:
    assert resolve("web", -1, PASSWD, GROUP, [], True).home == "/home/web"
    assert resolve("4242", -1, PASSWD, GROUP, [], True).home == ""
    assert resolve("latin", -1, PASSWD, GROUP, [], True).home == "/h\udcff"
    assert resolve("0", -1, [], [], [], True) == (0, 0, (0,), "")
