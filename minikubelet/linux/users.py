"""passwd(5) and group(5) of an image: parsed here, never by NSS, which would load the image's libraries."""

from __future__ import annotations

from typing import NamedTuple

MAX_ID = 2**31 - 1
"""Highest ID accepted; larger ones wrap or mean "leave alone" in some interface (CVE-2024-40635)."""


class UserError(ValueError):
    """A user or group that can't be resolved; the text says why."""


class Account(NamedTuple):
    """One line of passwd."""

    name: str
    uid: int
    gid: int
    home: str


class Group(NamedTuple):
    """One line of group."""

    name: str
    gid: int
    members: tuple[str, ...]


class Credentials(NamedTuple):
    """Numeric IDs of a process and the home folder its user has."""

    uid: int
    gid: int
    groups: tuple[int, ...]
    home: str


def parse_passwd(data: bytes) -> list[Account]:
    """The usable lines of a passwd file; lines that are not ``name:_:uid:gid:_:home:…`` are left out."""
    accounts = []
    for line in data.decode("utf-8", "surrogateescape").split("\n"):
        fields = line.strip().split(":")
        if (
            len(fields) >= 6
            and (uid := number(fields[2])) is not None
            and (gid := number(fields[3])) is not None
        ):
            accounts.append(Account(fields[0], uid, gid, fields[5]))
    return accounts


def parse_group(data: bytes) -> list[Group]:
    """The usable lines of a group file."""
    groups = []
    for line in data.decode("utf-8", "surrogateescape").split("\n"):
        fields = line.strip().split(":")
        if len(fields) >= 4 and (gid := number(fields[2])) is not None:
            members = tuple(name for name in fields[3].split(",") if name)
            groups.append(Group(fields[0], gid, members))
    return groups


def number(text: str) -> int | None:
    """``text`` as an ID when it is one or more ASCII digits and in range, else None."""
    if not text or len(text) > 10 or not text.isascii() or not text.isdigit():
        return None
    value = int(text)
    return value if value <= MAX_ID else None


def _looks_numeric(text: str) -> bool:
    return text.lstrip("+-").isdigit()


def resolve(
    user: str, gid: int, passwd: list[Account], groups: list[Group], supplemental: list[int], merge: bool
) -> Credentials:
    """The credentials for ``user`` (``name|uid[:group|gid]``, empty for root). Raises :class:`UserError`.

    A number is an ID, whatever names there are: else an image whose passwd calls root "1000" would run as
    root where 1000 was asked for and checked (CVE-2016-3697; runc and containerd have it so, too). ``gid``
    overrides the primary group unless negative. With ``merge`` the groups that list the user in group(5) are
    added to ``supplemental``.
    """
    name, colon, group = user.partition(":")
    account = _account(name, passwd)
    primary = account.gid
    if colon and group:
        primary = _group(group, groups)
    if gid >= 0:
        primary = _checked(gid, "group")
    chosen = [_checked(extra, "supplemental group") for extra in supplemental]
    if merge and account.name:
        chosen += [entry.gid for entry in groups if account.name in entry.members]
    # runc and containerd list the primary group among the supplemental ones, too.
    unique = tuple(dict.fromkeys([primary, *chosen]))
    return Credentials(account.uid, primary, unique, account.home)


def _account(name: str, passwd: list[Account]) -> Account:
    wanted = name or "0"
    uid = number(wanted)
    if uid is None:
        for account in passwd:
            if account.name == wanted:
                return account
        if _looks_numeric(wanted):
            raise UserError(f"user ID {wanted} is out of range 0 to {MAX_ID}")
        raise UserError(f"unable to find user {wanted}: no matching entries in passwd file")
    for account in passwd:
        if account.uid == uid:
            return account
    return Account("", uid, 0, "")


def _group(name: str, groups: list[Group]) -> int:
    gid = number(name)
    if gid is None:
        for entry in groups:
            if entry.name == name:
                return entry.gid
        if _looks_numeric(name):
            raise UserError(f"group ID {name} is out of range 0 to {MAX_ID}")
        raise UserError(f"unable to find group {name}: no matching entries in group file")
    return gid


def _checked(value: int, what: str) -> int:
    if not 0 <= value <= MAX_ID:
        raise UserError(f"{what} ID {value} is out of range 0 to {MAX_ID}")
    return value
