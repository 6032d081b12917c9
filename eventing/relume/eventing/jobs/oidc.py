"""OIDC bearer tokens: signed by an issuer that we trust, meant for us, and not expired.

Checked as RFC 7519 and RFC 8725 ask: issuer, audience, expiry and subject must be there, and the
algorithm is one of a fixed list. All of these are asymmetric: with a symmetric one, a public key
would be a secret that everybody knows.
"""

import asyncio
import json
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import urlsplit

import jwt
from jwt import PyJWK, PyJWKClient

from relume.base.errors import InvalidInput, RelumeError

ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA")
# Clocks of two machines may differ by so much, in seconds.
_LEEWAY_S = 30.0
_FETCH_WITHIN_S = 5.0
# OpenID Connect Core 1.0 §2: a subject has 255 characters at most; the tenant gets some more.
_LONGEST_NAME = 1024
_DOCUMENT_BYTES = 1 << 20
_WELL_KNOWN = "/.well-known/openid-configuration"


class TokenRefused(RelumeError):
    """The token is not valid here; the message says why, without any part of the token."""

    reason = "token-refused"


class IssuerUnreachable(RelumeError):
    """The issuer's keys cannot be fetched now, so that no token can be checked."""

    reason = "issuer-unreachable"
    retryable = True


class BadIssuer(InvalidInput):
    """The issuer's address is not one whose answers can be trusted."""

    reason = "bad-issuer"


@dataclass(frozen=True, slots=True)
class OidcSettings:
    """Which tokens are valid.

    `issuer` is the exact text of the claim `iss`, `audience` one of those in `aud`. `jwks_url` is
    where the issuer's keys are; without it the issuer's discovery document says so. The claim
    `tenant_claim` says whose share of the queue a caller takes; a token without it takes that of
    its subject.
    """

    issuer: str
    audience: str
    jwks_url: str | None = None
    tenant_claim: str = "tenant"

    def __post_init__(self) -> None:
        for field, url in (("--oidc-issuer", self.issuer), ("--oidc-jwks", self.jwks_url)):
            if url is not None and not _is_safe(url):
                raise BadIssuer(
                    f"{field} {url}: write an https:// URL; http:// is taken from loopback only, "
                    "since whoever changes the keys on the way could sign any token"
                )


class KeySource(Protocol):
    """The public keys of an issuer."""

    async def key(self, key_id: str) -> PyJWK:
        """Raises TokenRefused when the issuer has no such key, and IssuerUnreachable."""
        ...


class FetchedKeys:
    """The keys that an issuer publishes, fetched when they are first needed and every 5 minutes.

    A token with an unknown key makes us fetch them anew, at most every 30 seconds: an issuer that
    changes its keys is followed, and a caller with made-up keys cannot flood it.
    """

    def __init__(self, settings: OidcSettings) -> None:
        self._settings = settings
        self._client: PyJWKClient | None = None
        self._fetching = asyncio.Lock()

    async def key(self, key_id: str) -> PyJWK:
        async with self._fetching:
            try:
                if self._client is None:
                    self._client = await asyncio.to_thread(self._discovered)
                return await asyncio.to_thread(self._client.get_signing_key, key_id)
            except (OSError, ValueError, KeyError, jwt.PyJWKClientConnectionError) as error:
                raise IssuerUnreachable(
                    f"the keys of {self._settings.issuer} cannot be fetched: {error}"
                ) from None
            except jwt.PyJWTError:
                raise TokenRefused("the issuer has no key of the id that the token names") from None

    def _discovered(self) -> PyJWKClient:
        url = self._settings.jwks_url
        if url is None:
            issuer = self._settings.issuer
            document = issuer.rstrip("/") + _WELL_KNOWN
            with urllib.request.urlopen(document, timeout=_FETCH_WITHIN_S) as answer:
                told = json.loads(answer.read(_DOCUMENT_BYTES))
            # OpenID Connect Discovery 1.0 §4.3: it must name the issuer that was asked for.
            if told["issuer"] != issuer:
                raise ValueError(f"{document} belongs to another issuer")
            url = str(told["jwks_uri"])
            if not _is_safe(url):
                raise ValueError(f"{document} names keys at an address that is not https")
        return PyJWKClient(url, timeout=_FETCH_WITHIN_S)


class Tokens:
    """Checks tokens of one issuer."""

    def __init__(self, settings: OidcSettings, keys: KeySource | None = None) -> None:
        self._settings = settings
        self._keys = keys or FetchedKeys(settings)

    async def check(self, token: str) -> tuple[str, str]:
        """The owner and the tenant that a valid token names.

        Raises TokenRefused and IssuerUnreachable.
        """
        settings = self._settings
        try:
            header = jwt.get_unverified_header(token)
        except jwt.PyJWTError:
            raise TokenRefused("the token is neither an API key nor a JSON Web Token") from None
        if header.get("alg") not in ALGORITHMS:
            raise TokenRefused(f"sign the token with one of {', '.join(ALGORITHMS)}")
        if not isinstance(header.get("kid"), str):
            raise TokenRefused("the token does not say which key signed it (kid)")
        key = await self._keys.key(header["kid"])
        try:
            claims = jwt.decode(
                token,
                key.key,
                algorithms=[name for name in ALGORITHMS if key.algorithm_name in (None, name)],
                audience=settings.audience,
                issuer=settings.issuer,
                leeway=_LEEWAY_S,
                options={"require": ["exp", "iss", "aud", "sub"]},
            )
        except (jwt.PyJWTError, ValueError, TypeError) as error:
            raise TokenRefused(f"the token is not valid here: {_why(error)}") from None
        subject = _text(claims, "sub")
        tenant = _text(claims, settings.tenant_claim) if claims.get(settings.tenant_claim) else ""
        # The issuer is part of it: the subjects of two issuers are different callers.
        return f"{settings.issuer}#{subject}", tenant or subject


def _text(claims: Mapping[str, object], name: str) -> str:
    """A claim that names somebody. Raises TokenRefused for one that cannot be stored as a name."""
    text = str(claims[name])
    # JSON can say half of a surrogate pair, and UTF-8 cannot.
    if not text.isprintable() or len(text) > _LONGEST_NAME:
        raise TokenRefused(
            f"the token is not valid here: its claim {name} must be a name of up to "
            f"{_LONGEST_NAME} printable characters"
        )
    return text


def _why(error: Exception) -> str:
    match error:
        case jwt.ExpiredSignatureError():
            return "it has expired"
        case jwt.ImmatureSignatureError():
            return "it is not valid yet"
        case jwt.InvalidAudienceError():
            return "it is meant for another audience"
        case jwt.InvalidIssuerError():
            return "it comes from another issuer"
        case jwt.MissingRequiredClaimError(claim=claim):
            return f"it has no claim {claim}"
        case _:
            return "its signature does not fit"


def _is_safe(url: str) -> bool:
    parts = urlsplit(url)
    local = parts.hostname in ("127.0.0.1", "::1", "localhost")
    return bool(parts.hostname) and (parts.scheme == "https" or (parts.scheme == "http" and local))
