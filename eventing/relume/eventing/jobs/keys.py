"""API keys of the jobs gateway: `rk_<id>_<secret>`, of which only a hash is stored.

The secret is 256 random bits, so there is nothing to guess and no dictionary to try, and one round
of a fast hash is enough. A slow hash such as scrypt protects words that people choose; here it
would cost every request tens of milliseconds, which anybody without a key could make us spend.
"""

import base64
import hashlib
import hmac
import re
import secrets
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Protocol

import orjson

from relume.base.errors import InvalidInput
from relume.cloudevents.event import rfc3339

PREFIX = "rk_"
_ID = re.compile(r"[a-z2-7]{13}")
_SECRET = re.compile(r"[A-Za-z0-9_-]{43}")
_NAME = re.compile(r"[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?")


class BadName(InvalidInput):
    """The name of an owner or a tenant is not one."""

    reason = "bad-name"


@dataclass(frozen=True, slots=True)
class StoredKey:
    """What is stored of a key; it does not tell the key.

    `owner` is who sees the jobs that were submitted with it: all keys of one owner see the same
    jobs, so a key can be replaced. `tenant` is whose share of the queue they take.
    """

    id: str
    hash: str
    owner: str
    tenant: str
    created_at: datetime

    def to_json(self) -> bytes:
        return orjson.dumps(asdict(self) | {"created_at": rfc3339(self.created_at)})

    @classmethod
    def from_json(cls, text: bytes) -> "StoredKey":
        """Raises ValueError, KeyError or TypeError when the text was not made by `to_json`."""
        told = orjson.loads(text)
        return cls(
            id=str(told["id"]),
            hash=str(told["hash"]),
            owner=str(told["owner"]),
            tenant=str(told["tenant"]),
            created_at=datetime.fromisoformat(told["created_at"]),
        )

    def fits(self, secret: str) -> bool:
        """Whether this is the secret of the key; takes the same time for every wrong one."""
        return hmac.compare_digest(self.hash, _hash(self.id, secret))


class KeyStore(Protocol):
    """Where keys are kept. Every method raises StoreUnavailable."""

    async def put(self, key: StoredKey) -> None: ...

    async def get(self, key_id: str) -> StoredKey | None: ...

    async def all(self) -> Sequence[StoredKey]:
        """Every key, oldest first."""
        ...

    async def remove(self, key_id: str) -> bool:
        """Whether there was one of this id."""
        ...


def new_key(owner: str, tenant: str | None, now: datetime) -> tuple[str, StoredKey]:
    """A new key and what is stored of it; the key itself can never be told again.

    Without a `tenant` the owner is one. Raises BadName.
    """
    for field, name in (("the owner", owner), ("--tenant", tenant or owner)):
        if not _NAME.fullmatch(name):
            raise BadName(
                f"{field} {name!r}: write up to 63 lower-case letters, digits, '-', '.' and '_', "
                "with a letter or digit at both ends"
            )
    key_id = base64.b32encode(secrets.token_bytes(8)).decode().lower().rstrip("=")
    secret = secrets.token_urlsafe(32)
    stored = StoredKey(key_id, _hash(key_id, secret), owner, tenant or owner, now)
    return f"{PREFIX}{key_id}_{secret}", stored


def parts_of(token: str) -> tuple[str, str] | None:
    """The id and the secret of a key; None when the text is not shaped like one."""
    key_id, _, secret = token.removeprefix(PREFIX).partition("_")
    shaped = token.startswith(PREFIX) and _ID.fullmatch(key_id) and _SECRET.fullmatch(secret)
    return (key_id, secret) if shaped else None


def is_key_id(text: str) -> bool:
    """Whether a key could have this id."""
    return _ID.fullmatch(text) is not None


def _hash(key_id: str, secret: str) -> str:
    # The id is part of it, so that a hash that was copied to another id fits nothing.
    return hashlib.blake2b(f"{key_id}_{secret}".encode(), digest_size=32).hexdigest()
