"""The extension `expirytime`: after it, nobody waits for the answer to an event any more."""

from collections.abc import Mapping
from datetime import datetime

_EXPIRY = "expirytime"


class InvalidExpiry(ValueError):
    """The `expirytime` of an event is not a time with an offset."""


def expires_at(attributes: Mapping[str, object]) -> datetime | None:
    """When the event expires; None: never. Raises InvalidExpiry."""
    expiry = attributes.get(_EXPIRY)
    if expiry is None:
        return None
    problem = f"{_EXPIRY} {str(expiry)!r} is not an RFC 3339 time"
    try:
        expires = datetime.fromisoformat(str(expiry).upper().replace("Z", "+00:00"))
    except ValueError:
        raise InvalidExpiry(problem) from None
    if expires.tzinfo is None:
        raise InvalidExpiry(problem)
    return expires
