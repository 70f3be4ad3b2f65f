"""Who may use an image that is there already: those who could have pulled it (KEP-2535).

What was pulled, and with which credentials, is noted in files, one an image: ``pulled/sha256-…``, of the
runtime's image ID, and ``pulling/sha256-…``, of the name in the manifest, as long as a pull lasts. An image
without either was there before, or came otherwise; the policy says whether that counts as everybody's.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Awaitable, Callable, Collection, Iterable

import msgspec

from minikubelet.base.files import write_atomic
from minikubelet.criapi import api_pb2 as api
from minikubelet.kubelet.image_match import without_tag
from minikubelet.kubelet.metrics.families import Counter

log = logging.getLogger(__name__)

NEVER, PRELOADED, ALLOWED, ALWAYS = (
    "NeverVerify",
    "NeverVerifyPreloadedImages",
    "NeverVerifyAllowlistedImages",
    "AlwaysVerify",
)
POLICIES = (NEVER, PRELOADED, ALLOWED, ALWAYS)
_ALLOWED, _FOUND = "credentialPolicyAllowed", "credentialRecordFound"
_AUTHENTICATE, _ERROR = "mustAuthenticate", "error"
"""What a check may come to, in upstream's words for its metric."""
_LARGEST = 1 << 20
_MOST_SECRETS = 100
"""Remembered for one image; further ones are asked of the registry each time."""


class SecretKey(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """A Secret that let somebody pull, without what is in it."""

    namespace: str
    name: str
    credential_hash: str

    def same_secret(self, other: SecretKey) -> bool:
        """Whether both have one name, whatever they hold."""
        return (self.namespace, self.name) == (other.namespace, other.name)


class Access(msgspec.Struct, rename="camel", omit_defaults=True):
    """Who may use an image under one name."""

    node_pods_accessible: bool = False
    """Every pod: it was pulled without credentials, or with the node's own."""
    kubernetes_secrets: list[SecretKey] = msgspec.field(default_factory=list)


class Record(msgspec.Struct, rename="camel"):
    """One image."""

    image_ref: str
    credential_mapping: dict[str, Access] = msgspec.field(default_factory=dict)
    """By name without tag and digest."""


def digest(auth: api.AuthConfig) -> str:
    """Tells credentials apart without giving them away."""
    return hashlib.sha256(auth.SerializeToString(deterministic=True)).hexdigest()


class PullRecords:
    """One node's, in ``folder``."""

    def __init__(
        self,
        folder: str,
        policy: str = PRELOADED,
        allowed: Collection[str] = (),
        checks: Counter | None = None,
    ) -> None:
        """``checks`` counts what is asked, by result."""
        self._checks = checks
        self._folder = folder
        self._policy = policy
        self._allowed = list(allowed)

    # --- what is asked ---------------------------------------------------------------------------------

    async def must_pull(
        self, image: str, ref: str, secrets: Callable[[], Awaitable[Iterable[SecretKey]]]
    ) -> bool:
        """Whether a pod must prove that it may have ``image``, though it is there as ``ref``.

        ``secrets`` are those of the pod that fit the image; they are only asked for if it comes to that.
        """
        result = await self._check(image, ref, secrets)
        if self._checks is not None:
            self._checks.inc((result,))
        return result in (_AUTHENTICATE, _ERROR)

    async def _check(
        self, image: str, ref: str, secrets: Callable[[], Awaitable[Iterable[SecretKey]]]
    ) -> str:
        try:
            record = self._load(ref)
            ours = record is not None or os.path.exists(self._path("pulling", image))
        except (OSError, ValueError) as exc:
            log.error("records of pulled images: %s", exc)
            return _ERROR
        if not self._verifies(image, ours=ours):
            return _ALLOWED
        access = record.credential_mapping.get(without_tag(image)) if record is not None else None
        if access is None or access.node_pods_accessible:
            return _AUTHENTICATE if access is None else _FOUND
        for mine in await secrets():
            for known in access.kubernetes_secrets:
                if mine.credential_hash == known.credential_hash or mine.same_secret(known):
                    if mine != known:
                        self._note(image, ref, mine)
                    return _FOUND
        return _AUTHENTICATE

    def _verifies(self, image: str, *, ours: bool) -> bool:
        if self._policy == ALLOWED:
            name = without_tag(image)
            return not any(
                name.startswith(each[:-1]) if each.endswith("/*") else name == each for each in self._allowed
            )
        return self._policy == ALWAYS or (self._policy == PRELOADED and ours)

    # --- what is noted ---------------------------------------------------------------------------------

    def begin(self, image: str) -> None:
        """A pull begins. Raises OSError: without a note an image could pass for everybody's."""
        self._write("pulling", image, b"{}\n")

    def pulled(self, image: str, ref: str, secret: SecretKey | None) -> None:
        """It has come to a good end, thanks to ``secret`` or without any pod's."""
        if self._note(image, ref, secret):
            self.failed(image)

    def failed(self, image: str) -> None:
        """It has come to nothing. What isn't noted in time is asked of the registry once more."""
        try:
            os.unlink(self._path("pulling", image))
        except FileNotFoundError:
            pass
        except OSError as exc:
            log.error("records of pulled images: %s", exc)

    def sizes(self) -> tuple[int, int]:
        """How many pulls are noted as under way, how many images as pulled."""
        return _count(os.path.join(self._folder, "pulling")), _count(os.path.join(self._folder, "pulled"))

    def known(self) -> set[str]:
        """IDs of all images that there are records of. Files that can't be read are left out."""
        found = set()
        try:
            names = os.listdir(os.path.join(self._folder, "pulled"))
        except OSError:
            return set()
        for name in names:
            try:
                record = self._read(os.path.join(self._folder, "pulled", name))
            except (OSError, ValueError) as exc:
                log.error("records of pulled images: %s: %s", name, exc)
                continue
            if record is not None:
                found.add(record.image_ref)
        return found

    def forget(self, refs: Iterable[str]) -> None:
        """These images are gone."""
        for ref in refs:
            try:
                os.unlink(self._path("pulled", ref))
            except OSError as exc:
                log.error("records of pulled images: %s", exc)

    def _note(self, image: str, ref: str, secret: SecretKey | None) -> bool:
        """Add to a record; whether that went well."""
        try:
            try:
                record = self._load(ref) or Record(ref)
            except ValueError as exc:
                log.error("records of pulled images, begun anew: %s", exc)
                record = Record(ref)
            access = record.credential_mapping.setdefault(without_tag(image), Access())
            if secret is None:
                access.node_pods_accessible, access.kubernetes_secrets = True, []
            elif not access.node_pods_accessible:
                others = [each for each in access.kubernetes_secrets if not each.same_secret(secret)]
                access.kubernetes_secrets = [*others, secret][-_MOST_SECRETS:]
            self._write("pulled", ref, msgspec.json.encode(record))
        except OSError as exc:
            log.error("records of pulled images: %s", exc)
            return False
        return True

    # --- files -----------------------------------------------------------------------------------------

    def _path(self, kind: str, name: str) -> str:
        return os.path.join(self._folder, kind, f"sha256-{hashlib.sha256(name.encode()).hexdigest()}")

    def _write(self, kind: str, name: str, data: bytes) -> None:
        path = self._path(kind, name)
        os.makedirs(os.path.dirname(path), 0o700, exist_ok=True)
        write_atomic(path, data)

    def _load(self, ref: str) -> Record | None:
        return self._read(self._path("pulled", ref))

    @staticmethod
    def _read(path: str) -> Record | None:
        """None: there is none. Raises OSError, ValueError."""
        try:
            with open(path, "rb") as file:
                return msgspec.json.decode(file.read(_LARGEST), type=Record)
        except FileNotFoundError:
            return None
        except msgspec.DecodeError as exc:
            raise ValueError(f"{path}: {exc}") from None


def _count(folder: str) -> int:
    try:
        return len(os.listdir(folder))
    except OSError:
        return 0
