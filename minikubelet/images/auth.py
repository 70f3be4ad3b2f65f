"""Registry authentication: challenges, token services, and who may see a password.

Sources: Docker registry token authentication (spec/auth/token, oauth), RFC 9110 §11, RFC 6750.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlencode, urlsplit

from minikubelet.base.errors import NodeError, invalid
from minikubelet.images.hosts import DOCKER_HUB, Host
from minikubelet.images.models import Credentials
from minikubelet.images.reference import DEFAULT_DOMAIN, Reference

HUB_REALMS = frozenset({"auth.docker.io", "index.docker.io", "hub.docker.com"})
"""Where Docker Hub's tokens come from."""
CLIENT_ID = "minikubelet"
_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_SECOND_LEVEL = frozenset({"co", "com", "net", "org", "gov", "edu", "ac", "or", "ne", "go"})


@dataclass(frozen=True)
class Challenge:
    """One scheme of a WWW-Authenticate header; scheme and parameter names in lower case."""

    scheme: str
    parameters: Mapping[str, str]


@dataclass(frozen=True)
class TokenRequest:
    """What to ask a token service for."""

    method: str
    url: str
    headers: Mapping[str, str]
    body: str = ""
    withheld: bool = False
    """There are credentials but this realm may not have them."""


def parse_challenges(header: str) -> list[Challenge]:
    """The challenges of a WWW-Authenticate value; what can't be parsed ends the list."""
    challenges: list[Challenge] = []
    position = 0
    while match := _TOKEN.match(header, position):
        position = match.end()
        parameters: dict[str, str] = {}
        challenges.append(Challenge(match[0].lower(), parameters))
        while True:
            position = _skip(header, position, " \t,")
            name = _TOKEN.match(header, position)
            if not name:
                return challenges
            after = _skip(header, name.end(), " \t")
            if after >= len(header) or header[after] != "=":
                break  # the next scheme
            value, position = _value(header, _skip(header, after + 1, " \t"))
            parameters.setdefault(name[0].lower(), value)
    return challenges


def _skip(text: str, position: int, blanks: str) -> int:
    while position < len(text) and text[position] in blanks:
        position += 1
    return position


def _value(text: str, position: int) -> tuple[str, int]:
    if position >= len(text) or text[position] != '"':
        match = _TOKEN.match(text, position)
        return (match[0], match.end()) if match else ("", len(text))
    result = []
    position += 1
    while position < len(text) and text[position] != '"':
        if text[position] == "\\" and position + 1 < len(text):
            position += 1
        result.append(text[position])
        position += 1
    return "".join(result), position + 1


def credentials_for(credentials: Credentials | None, reference: Reference, host: Host) -> Credentials | None:
    """``credentials`` if ``host`` may have them, else None.

    Without ``server_address`` they are the reference's registry's own; with it, that server's alone.
    """
    if credentials is None:
        return None
    if not credentials.server_address:
        return credentials if host.own else None
    wanted = server_name(credentials.server_address)
    names = {host.authority.lower()}
    if host.own:
        names.add(reference.domain.lower())
    return credentials if wanted in names else None


def server_name(address: str) -> str:
    """``https://index.docker.io/v1/`` and the like as a registry's HOST[:PORT]."""
    name = urlsplit(address if "://" in address else f"//{address}").netloc.lower()
    return DEFAULT_DOMAIN if name in ("index.docker.io", DOCKER_HUB, "registry.hub.docker.com") else name


def basic(user: str, password: str) -> str:
    """Value of an Authorization header. Raises NodeError(INVALID_ARGUMENT) for a user with a colon."""
    if ":" in user:
        raise invalid("auth.username", "must not contain a colon")
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def token_request(
    challenge: Challenge, host: Host, repository: str, credentials: Credentials | None
) -> TokenRequest | None:
    """How to get the bearer token that ``challenge`` of ``host`` asks for; None without a usable realm."""
    realm = challenge.parameters.get("realm", "")
    parts = urlsplit(realm)
    if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc:
        return None
    scope = challenge.parameters.get("scope") or f"repository:{repository}:pull"
    service = challenge.parameters.get("service", "")
    withheld = credentials is not None and not may_have_credentials(realm, host)
    usable = None if withheld else credentials
    if usable and usable.identity_token:
        form = {
            "grant_type": "refresh_token",
            "service": service or host.authority,
            "client_id": CLIENT_ID,
            "scope": scope,
            "refresh_token": usable.identity_token,
        }
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        return TokenRequest("POST", realm, headers, urlencode(form))
    headers = {}
    query = [("service", service)] if service else []
    query += [("scope", one) for one in scope.split(" ") if one]
    if usable:
        user, password = usable.user_password()
        if user:
            headers["Authorization"] = basic(user, password)
            query.append(("account", user))
    url = f"{realm}{'&' if parts.query else '?'}{urlencode(query)}"
    return TokenRequest("GET", url, headers, withheld=withheld)


def may_have_credentials(realm: str, host: Host) -> bool:
    """Whether a token service named by ``host`` may see the registry's credentials.

    The same scheme, host and port always; elsewhere only over HTTPS and on the same site, or Docker Hub's
    own services for Docker Hub. (CVE-2020-15157: a registry, or who poses as it, names a realm at will.)
    """
    parts = urlsplit(realm)
    if parts.scheme == host.scheme and _authority(realm) == _authority(f"{host.scheme}://{host.authority}"):
        return True
    if parts.scheme != "https" or host.scheme != "https":
        return False
    name = (parts.hostname or "").lower()
    own = (urlsplit(f"//{host.authority}").hostname or "").lower()
    if own == DOCKER_HUB and name in HUB_REALMS:
        return True
    return name == own or (site(name) != "" and site(name) == site(own))


def site(name: str) -> str:
    """The registrable domain, roughly: two labels, or three below co.uk and its like; "" for addresses."""
    labels = name.rstrip(".").split(".")
    if ":" in name or len(labels) < 2 or labels[-1].isdigit():
        return ""
    below = len(labels[-1]) == 2 and labels[-2] in _SECOND_LEVEL
    wanted = 3 if below else 2
    return ".".join(labels[-wanted:]) if len(labels) >= wanted else ""


def _authority(url: str) -> tuple[str, int]:
    parts = urlsplit(url)
    try:
        port = parts.port
    except ValueError:
        port = -1
    return (parts.hostname or "").lower(), port or (443 if parts.scheme == "https" else 80)


def same_origin(first: str, second: str) -> bool:
    """Whether two URLs have the same scheme, host and port: only then a redirect keeps credentials."""
    return urlsplit(first).scheme == urlsplit(second).scheme and _authority(first) == _authority(second)


def check_credentials(credentials: Credentials | None) -> None:
    """Raise NodeError(INVALID_ARGUMENT) for credentials that could never be sent."""
    if credentials is None:
        return
    user, password = credentials.user_password()
    for text in (user, password, credentials.identity_token, credentials.registry_token):
        if any(bad in text for bad in "\r\n\0"):
            raise NodeError(invalid("auth", "").code, "must not contain line breaks", field="auth")
