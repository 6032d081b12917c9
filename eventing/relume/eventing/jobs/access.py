"""Who calls: an API key or an OIDC token becomes an owner and a tenant, or a 401.

The middleware puts both into `scope["state"]`, where the door and the API find them. Neither a key
nor a token is ever part of a message, a log line or an answer.
"""

import asyncio
import contextlib
from collections import OrderedDict
from collections.abc import AsyncIterator
from dataclasses import dataclass

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from relume.base.clock import Clock
from relume.base.errors import InvalidInput, RelumeError
from relume.base.interrupt import Interrupt
from relume.base.loopback import is_loopback
from relume.eventing.event_log import StoreUnavailable
from relume.eventing.jobs.caller import BROKER, Caller
from relume.eventing.jobs.keys import PREFIX, KeyStore, StoredKey, parts_of
from relume.eventing.jobs.oidc import IssuerUnreachable, TokenRefused, Tokens

#: The names in `scope["state"]`, as `caller_of` reads them.
OWNER, TENANT = "owner", "tenant"
_EVENTS_PATH = "/events/"
# Paths that need no access: they say nothing but whether the process works.
OPEN_PATHS = frozenset({"/healthz", "/readyz"})
# A revoked key stops working within this time, or twice this time for a request that has begun.
_TRUSTED_FOR_S = 5.0
_REMEMBERED = 1000
_RETRY_AFTER_S = 5
_CHALLENGE = 'Bearer realm="relume"'


class OpenToAll(InvalidInput):
    """Others could reach the gateway, and nothing says who may call."""

    reason = "open-to-all"


class Unauthorized(RelumeError):
    """There is no valid key and no valid token in the request."""

    reason = "unauthorized"


@dataclass(frozen=True, slots=True)
class _Trusted:
    key: StoredKey
    until: float


class Access:
    """What may call: keys of a store, tokens of an issuer, or both. Without any, everybody may."""

    def __init__(
        self, clock: Clock, keys: KeyStore | None = None, tokens: Tokens | None = None
    ) -> None:
        self._clock = clock
        self._keys = keys
        self._tokens = tokens
        self._trusted: OrderedDict[str, _Trusted] = OrderedDict()

    @property
    def open(self) -> bool:
        """Whether everybody may call."""
        return self._keys is None and self._tokens is None

    async def caller(self, authorization: str | None) -> Caller:
        """Who sends this header. Raises Unauthorized, StoreUnavailable and IssuerUnreachable."""
        if self.open:
            return Caller()
        scheme, _, token = (authorization or "").strip().partition(" ")
        token = token.strip()
        if scheme.lower() != "bearer" or not token:
            raise Unauthorized("send Authorization: Bearer with " + self._what())
        if token.startswith(PREFIX) and self._keys is not None:
            return await self._by_key(self._keys, token)
        if self._tokens is not None and not token.startswith(PREFIX):
            try:
                return Caller(*await self._tokens.check(token))
            except TokenRefused as error:
                raise Unauthorized(str(error)) from None
        raise Unauthorized("send Authorization: Bearer with " + self._what())

    @contextlib.asynccontextmanager
    async def lasting(self, authorization: str | None) -> AsyncIterator[None]:
        """End the block with Unauthorized when the key that was shown is revoked meanwhile."""
        interrupt, looking = Interrupt(), list[asyncio.Task[None]]()

        async def look() -> None:
            while True:
                try:
                    await self.caller(authorization)
                except Unauthorized as error:
                    interrupt.trip(error)
                    return
                except StoreUnavailable:
                    pass  # nobody knows: it is asked again
                await self._clock.sleep(_TRUSTED_FOR_S)

        # Most requests end before, and cost a timer only.
        timer = self._clock.call_later(
            _TRUSTED_FOR_S, lambda: looking.append(asyncio.create_task(look()))
        )
        try:
            with interrupt:
                yield
        finally:
            timer.cancel()
            for task in looking:
                task.cancel()
            await asyncio.gather(*looking, return_exceptions=True)

    def _what(self) -> str:
        key = "an API key (relume keys create)" if self._keys is not None else ""
        token = "an OIDC token" if self._tokens is not None else ""
        return " or ".join(each for each in (key, token) if each)

    async def _by_key(self, keys: KeyStore, token: str) -> Caller:
        if (parts := parts_of(token)) is not None:
            stored = await self._stored(keys, parts[0])
            if stored is not None and stored.fits(parts[1]):
                return Caller(stored.owner, stored.tenant)
        raise Unauthorized("this API key is not known here, or was revoked")

    async def _stored(self, keys: KeyStore, key_id: str) -> StoredKey | None:
        now = self._clock.monotonic()
        trusted = self._trusted.get(key_id)
        if trusted is not None and now < trusted.until:
            return trusted.key
        self._trusted.pop(key_id, None)
        found = await keys.get(key_id)
        if found is not None:
            self._trusted[key_id] = _Trusted(found, now + _TRUSTED_FOR_S)
            while len(self._trusted) > _REMEMBERED:
                self._trusted.popitem(last=False)
        return found


class Guarded:
    """The ASGI middleware in front of everything that the gateway serves.

    With `open_events`, POST /events/… needs no key: a Trigger cannot send one, and a network policy
    says who reaches the gateway. The jobs of such events belong to the owner BROKER.
    """

    def __init__(self, app: ASGIApp, access: Access, *, open_events: bool = False) -> None:
        self._app = app
        self._access = access
        self._open_events = open_events

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket") or scope["path"] in OPEN_PATHS:
            await self._app(scope, receive, send)
            return
        given = [value for name, value in scope["headers"] if name == b"authorization"]
        if not given and self._open_events and scope["path"].startswith(_EVENTS_PATH):
            owner = "" if self._access.open else BROKER
            state = {**scope.get("state", {}), OWNER: owner}
            await self._app({**scope, "state": state}, receive, send)
            return
        try:
            if len(given) > 1:
                raise Unauthorized("the request has more than one Authorization header")
            sent = given[0].decode("latin-1") if given else None
            caller = await self._access.caller(sent)
        except Unauthorized as error:
            headers = {"www-authenticate": _challenge(bool(given))}
            await _refused(401, error, headers)(scope, receive, send)
        except (StoreUnavailable, IssuerUnreachable) as error:
            headers = {"retry-after": str(_RETRY_AFTER_S)}
            await _refused(503, error, headers)(scope, receive, send)
        else:
            state = {**scope.get("state", {}), OWNER: caller.owner, TENANT: caller.tenant}
            scope = {**scope, "state": state}
            if _is_key(sent):
                await self._while_valid(sent, scope, receive, send)
            else:
                await self._app(scope, receive, send)

    async def _while_valid(
        self, sent: str | None, scope: Scope, receive: Receive, send: Send
    ) -> None:
        """Let the application answer, for as long as the key is not revoked."""
        begun = False

        async def begin(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            async with self._access.lasting(sent):
                await self._app(scope, receive, begin)
        except Unauthorized as error:
            if begun:  # a stream: it ends without its terminal event, and cannot be begun again
                await send({"type": "http.response.body", "body": b"", "more_body": False})
            else:
                challenge = {"www-authenticate": _challenge(True)}
                await _refused(401, error, challenge)(scope, receive, send)


def _is_key(authorization: str | None) -> bool:
    """Whether an API key was sent. The lifetime of a token is checked at the beginning only."""
    return (authorization or "").partition(" ")[2].strip().startswith(PREFIX)


def check_bind(host: str, access: Access) -> None:
    """Raises OpenToAll when others could reach `host` and everybody may call."""
    if access.open and not is_loopback(host):
        raise OpenToAll(
            f"--host {host}: others can reach this address, and nothing says who may call. "
            "Add --keys (and make one with `relume keys create NAME`) or --oidc-issuer URL "
            "--oidc-audience NAME, or listen on --host 127.0.0.1"
        )


def _challenge(sent: bool) -> str:
    """RFC 6750 §3: the error is named only where something was sent."""
    return f'{_CHALLENGE}, error="invalid_token"' if sent else _CHALLENGE


def _refused(status: int, error: RelumeError, headers: dict[str, str]) -> JSONResponse:
    return JSONResponse({"error": str(error), "reason": error.reason}, status, headers)
