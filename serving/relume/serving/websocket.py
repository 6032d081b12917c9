"""A WebSocket through the plane: held like any request, then passed on message by message (A13)."""

import asyncio

import aiohttp

from relume.base.clock import Clock
from relume.serving.asgi import Receive, Scope, Send
from relume.serving.cutoff import Cut, Cutoff
from relume.serving.errors import (
    PredictorUnreachable,
    RequestTimedOut,
    ServingError,
)
from relume.serving.proxy import forwarded_headers, upstream_url
from relume.serving.router import Router, Target
from relume.serving.service import Lease, Service
from relume.serving.timeouts import Timeouts, Watch

GOING_AWAY = 1001


class Tunnel:
    """One WebSocket from its handshake to its close.

    The service's timeout bounds the wait and the handshake; an open WebSocket has no limit, as in
    Knative, whose timeout ends with the hijack of the connection.
    """

    def __init__(self, router: Router, session: aiohttp.ClientSession, clock: Clock) -> None:
        self._router = router
        self._session = session
        self._clock = clock
        self._cutoff = Cutoff()
        self._service: Service | None = None

    async def run(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Connect both ends, or refuse the handshake."""
        try:
            target = self._router.route_head(scope)
            with target.service.request():
                await self._held(target, scope, receive, send)
        except ServingError as error:
            await refuse(scope, send, error)
        if self._cutoff.cut is Cut.TIMED_OUT:
            await refuse(scope, send, RequestTimedOut())
        elif self._cutoff.cut is not None and self._service is not None:
            self._service.client_left()

    async def _held(self, target: Target, scope: Scope, receive: Receive, send: Send) -> None:
        self._service = service = target.service
        gone = asyncio.create_task(self._watch_client(receive))
        limit = Timeouts(total_s=service.timeouts.total_s)
        watch = Watch(limit, self._clock, self._cutoff)
        try:
            with self._cutoff:
                lease = await service.acquire(None)
                watch.cancel()
                gone.cancel()
                try:
                    await self._connected(target, scope, receive, send, lease)
                finally:
                    service.release(lease)
        finally:
            watch.cancel()
            gone.cancel()
            await asyncio.gather(gone, return_exceptions=True)

    async def _watch_client(self, receive: Receive) -> None:
        """Until accepted, a client can only go away."""
        await receive()
        self._cutoff.trip(Cut.DISCONNECTED)

    async def _connected(
        self, target: Target, scope: Scope, receive: Receive, send: Send, lease: Lease
    ) -> None:
        headers = forwarded_headers(
            [h for h in scope["headers"] if not h[0].startswith(b"sec-websocket-")], lease.headers
        )
        try:
            upstream = await self._session.ws_connect(
                upstream_url(lease.backend.base_url, scope, target.raw_path),
                headers=headers,
                protocols=scope.get("subprotocols", ()),
                max_msg_size=0,
                compress=0,
            )
        except (aiohttp.ClientError, OSError) as error:
            raise PredictorUnreachable(f"the predictor gave no answer: {error}") from error
        async with upstream:
            await send({"type": "websocket.accept", "subprotocol": upstream.protocol})
            await _pass_both_ways(upstream, receive, send)


async def _pass_both_ways(
    upstream: aiohttp.ClientWebSocketResponse, receive: Receive, send: Send
) -> None:
    left = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        inward = group.create_task(_to_predictor(upstream, receive, left))
        code = await _to_client(upstream, send)
        if not left.is_set():
            inward.cancel()
            await send({"type": "websocket.close", "code": code})


async def _to_client(upstream: aiohttp.ClientWebSocketResponse, send: Send) -> int:
    """Pass messages on until the predictor closes; return its code."""
    async for message in upstream:
        if message.type is aiohttp.WSMsgType.TEXT:
            await send({"type": "websocket.send", "text": message.data})
        elif message.type is aiohttp.WSMsgType.BINARY:
            await send({"type": "websocket.send", "bytes": message.data})
    return _sendable(upstream.close_code)


async def _to_predictor(
    upstream: aiohttp.ClientWebSocketResponse, receive: Receive, left: asyncio.Event
) -> None:
    """Pass messages on until the client has `left`, then close the predictor's end."""
    try:
        while (message := await receive())["type"] == "websocket.receive":
            if message.get("text") is not None:
                await upstream.send_str(message["text"])
            else:
                await upstream.send_bytes(message["bytes"])
        left.set()
        await upstream.close(code=_sendable(message.get("code")))
    except (aiohttp.ClientError, OSError):
        return  # the predictor broke off, which the other direction notices and tells


def _sendable(code: int | None) -> int:
    """Return a close code; 1005 and 1006 are what a closed socket reports, and are never sent."""
    return GOING_AWAY if code in (None, 1005, 1006) else code


async def refuse(scope: Scope, send: Send, error: ServingError) -> None:
    """Answer the handshake with the error, or close it where the server cannot do that."""
    if "websocket.http.response" not in (scope.get("extensions") or {}):
        await send({"type": "websocket.close", "code": GOING_AWAY})
        return
    kind = "websocket.http.response"
    await send({"type": f"{kind}.start", "status": error.status, "headers": error.headers})
    await send({"type": f"{kind}.body", "body": error.body})
