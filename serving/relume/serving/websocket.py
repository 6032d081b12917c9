"""A WebSocket through the plane: held like any request, then passed on message by message (A13)."""

import asyncio

import aiohttp
from starlette.types import Receive, Scope, Send

from relume.base.clock import Clock
from relume.serving.errors import GOING_AWAY, PredictorUnreachable, RequestTimedOut, ServingError
from relume.serving.holding import HeldRequest, Lease
from relume.serving.target import Target
from relume.serving.timeouts import Cut, Timeouts
from relume.serving.upstream import forwarded_headers, is_refused, upstream_url

# One message of a predictor; a client's may have 16 MiB, uvicorn's own bound.
_MESSAGE_BYTES = 64 * 2**20


async def tunnel(
    service: Target,
    path: bytes,
    session: aiohttp.ClientSession,
    clock: Clock,
    scope: Scope,
    receive: Receive,
    send: Send,
) -> None:
    """Connect a client with `path` of a service until one of them closes, or refuse the handshake.

    The service's timeout bounds the wait and the handshake; an open WebSocket has no limit, as in
    Knative, whose timeout ends with the hijack of the connection.
    """
    held = HeldRequest(clock)
    try:
        gone = asyncio.create_task(_watch_client(receive, held))
        limit = Timeouts(total_s=service.timeouts.total_s)
        try:
            with held.cutoff:
                while True:
                    async with held.replica(service, limit) as lease:
                        upstream = await _connect(session, path, lease, scope)
                        if upstream is not None:
                            assert held.clocks is not None
                            held.clocks.cancel()
                            gone.cancel()
                            await _pass_both_ways(upstream, receive, send)
                            break
        finally:
            gone.cancel()
            await asyncio.gather(gone, return_exceptions=True)
    except ServingError as error:
        await error.answer(scope, receive, send)
    if held.close() is Cut.TIMED_OUT:
        await RequestTimedOut().answer(scope, receive, send)


async def _watch_client(receive: Receive, held: HeldRequest) -> None:
    """Until accepted, a client can only go away."""
    await receive()
    held.disconnect()


async def _connect(
    session: aiohttp.ClientSession,
    path: bytes,
    lease: Lease,
    scope: Scope,
) -> aiohttp.ClientWebSocketResponse | None:
    """Shake hands with the predictor; None where it is about to end, and another one is asked."""
    headers = forwarded_headers(
        [h for h in scope["headers"] if not h[0].startswith(b"sec-websocket-")], lease.headers
    )
    try:
        return await session.ws_connect(
            upstream_url(lease.backend.base_url, scope, path),
            headers=headers,
            protocols=scope.get("subprotocols", ()),
            max_msg_size=_MESSAGE_BYTES,
            compress=0,
        )
    except (aiohttp.ClientError, OSError) as error:
        if not is_refused(error):
            raise PredictorUnreachable(error) from error
        lease.backend.on_failing()
        return None


async def _pass_both_ways(
    upstream: aiohttp.ClientWebSocketResponse, receive: Receive, send: Send
) -> None:
    left = asyncio.Event()
    async with upstream, asyncio.TaskGroup() as group:
        await send({"type": "websocket.accept", "subprotocol": upstream.protocol})
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
        return  # the other direction notices that the predictor broke off, and closes


def _sendable(code: int | None) -> int:
    """Return a close code; 1005 and 1006 are what a closed socket reports, and are never sent."""
    return GOING_AWAY if code in (None, 1005, 1006) else code
