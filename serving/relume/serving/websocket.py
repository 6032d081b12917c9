"""A WebSocket through the plane: held like any request, then passed on message by message (A13)."""

import asyncio

import aiohttp
from starlette.types import Receive, Scope, Send

from relume.base.clock import Clock
from relume.base.vocabulary import ENGINE_FAILED, NOT_BEGUN_HEADER
from relume.serving.errors import (
    GOING_AWAY,
    PredictorUnreachable,
    RequestTimedOut,
    ServingError,
)
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
            upstream = None
            with held.cutoff:
                while upstream is None:
                    async with held.replica(service, limit) as lease:
                        upstream = await _connect(session, path, lease, scope)
                        if upstream is not None:
                            assert held.clocks is not None
                            held.clocks.cancel()
                            gone.cancel()
                            await _open(upstream, receive, send)
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
    session: aiohttp.ClientSession, path: bytes, lease: Lease, scope: Scope
) -> aiohttp.ClientWebSocketResponse | None:
    """Shake hands with the leased replica; None where it ends, and another one is to be asked.

    Raises PredictorUnreachable.
    """
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
        why = _not_begun(error)
        if why is None:
            raise PredictorUnreachable(lease.backend.ended or error) from error
        lease.backend.begins_none(why)
        return None


def _not_begun(error: Exception) -> str | None:
    """Why the handshake was not begun: as the predictor says, or because nobody listens."""
    if isinstance(error, aiohttp.WSServerHandshakeError) and error.headers is not None:
        return error.headers.get(NOT_BEGUN_HEADER) if error.status == 503 else None
    return ENGINE_FAILED if is_refused(error) else None


async def _open(upstream: aiohttp.ClientWebSocketResponse, receive: Receive, send: Send) -> None:
    async with upstream:
        try:
            await send({"type": "websocket.accept", "subprotocol": upstream.protocol})
            await _pass_both_ways(upstream, receive, send)
        except* OSError:
            pass  # the client is gone, and the server found that out when it wrote


async def _pass_both_ways(
    upstream: aiohttp.ClientWebSocketResponse, receive: Receive, send: Send
) -> None:
    left = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        inward = group.create_task(_to_predictor(upstream, receive, left))
        reason = await _to_client(upstream, send)
        if not left.is_set():
            inward.cancel()
            told = {"reason": reason} if reason else {}
            code = _sendable(upstream.close_code)
            await send({"type": "websocket.close", "code": code, **told})


async def _to_client(upstream: aiohttp.ClientWebSocketResponse, send: Send) -> str:
    """Pass messages on until the predictor closes; return its reason."""
    while True:
        message = await upstream.receive()
        if message.type is aiohttp.WSMsgType.TEXT:
            await send({"type": "websocket.send", "text": message.data})
        elif message.type is aiohttp.WSMsgType.BINARY:
            await send({"type": "websocket.send", "bytes": message.data})
        else:
            is_close = message.type is aiohttp.WSMsgType.CLOSE
            return (message.extra or "") if is_close else ""


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
        reason = (message.get("reason") or "").encode()
        await upstream.close(code=_sendable(message.get("code")), message=reason)
    except (aiohttp.ClientError, OSError):
        return  # the other direction notices that the predictor broke off, and closes


def _sendable(code: int | None) -> int:
    """Return a close code; 1005 and 1006 are what a closed socket reports, and are never sent."""
    return GOING_AWAY if code in (None, 1005, 1006) else code
