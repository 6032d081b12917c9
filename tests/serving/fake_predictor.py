"""A predictor without a model: a real process that speaks real HTTP, scripted by its environment.

Run as `python fake_predictor.py PORT`. FAKE_LOAD_S: seconds until it is ready. FAKE_CRASH:
`loading` exits 3 while loading; `N:loading` only in the first N starts, counted in FAKE_COUNTER.
FAKE_GATE: a file; requests for /gated are answered once it is there.
"""

import asyncio
import os
import signal
import sys
import time
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

STARTED = time.monotonic()
LOAD_S = float(os.environ.get("FAKE_LOAD_S", "0"))
answered: list[float] = []
begun: list[str] = []
cancelled: list[str] = []
told_to_go_on = asyncio.Semaphore(0)


def ready() -> bool:
    return time.monotonic() - STARTED >= LOAD_S


async def health(request: Request) -> Response:
    return Response(status_code=200 if ready() else 503)


async def startup(request: Request) -> Response:
    phases = {"fork": 1.0, "import": 2.0, "weights": LOAD_S * 1000}
    if answered:
        phases["first_token"] = answered[0]
    state = "ready" if ready() else "loading"
    return JSONResponse({"state": state, "phase": "weights", "phases_ms": phases})


async def echo(request: Request) -> Response:
    """Return what arrived: method, path, query, headers and body."""
    body = await request.body()
    answered.append(1.5)
    return JSONResponse(
        {
            "pid": os.getpid(),
            "method": request.method,
            "path": request.scope["raw_path"].decode(),
            "query": request.url.query,
            "headers": [[k.decode(), v.decode()] for k, v in request.scope["headers"]],
            "body": body.decode(),
        }
    )


async def slow(request: Request) -> Response:
    """Answer after ?s= seconds, and note it if the client goes away before."""
    begun.append(request.url.path)
    try:
        async with asyncio.timeout(float(request.query_params.get("s", "60"))):
            while not await request.is_disconnected():
                await asyncio.sleep(0.01)
    except TimeoutError:
        return JSONResponse({"pid": os.getpid()})
    cancelled.append(request.url.path)
    return Response()


async def gated(request: Request) -> Response:
    """Answer once the gate is open."""
    while not Path(os.environ["FAKE_GATE"]).exists():
        await asyncio.sleep(0.01)
    return JSONResponse({"pid": os.getpid()})


async def go_on(request: Request) -> Response:
    """Let /steps send one event more."""
    told_to_go_on.release()
    return Response()


async def steps(request: Request) -> Response:
    """Send an event each time that /go_on is asked, ?n= in all."""

    async def events():  # type: ignore[no-untyped-def]
        for number in range(int(request.query_params["n"])):
            await told_to_go_on.acquire()
            yield f"data: {number}\n\n"

    return StreamingResponse(events(), media_type="text/event-stream")


async def stream(request: Request) -> Response:
    """Send ?n= events, ?gap= seconds apart."""
    count = int(request.query_params.get("n", "5"))
    gap = float(request.query_params.get("gap", "0.1"))

    async def events():  # type: ignore[no-untyped-def]
        try:
            for _ in range(count):
                yield "data: x\n\n"
                await asyncio.sleep(gap)
            yield "data: [DONE]\n\n"
        except asyncio.CancelledError:
            cancelled.append(request.url.path)
            raise

    return StreamingResponse(events(), media_type="text/event-stream")


async def die(request: Request) -> Response:
    """Die in the middle of a request, as an engine out of memory does."""
    os.kill(os.getpid(), signal.SIGKILL)
    return Response()


async def log(request: Request) -> Response:
    return JSONResponse({"begun": begun, "cancelled": cancelled, "pid": os.getpid()})


async def talk(socket: WebSocket) -> None:
    await socket.accept(subprotocol=next(iter(socket.scope["subprotocols"]), None))
    try:
        while True:
            text = await socket.receive_text()
            if text == "close":
                await socket.close(code=4001)
                return
            await socket.send_text(f"{os.getpid()} {text}")
    except WebSocketDisconnect:
        cancelled.append("websocket")


def crash_while_loading() -> None:
    mode = os.environ.get("FAKE_CRASH", "")
    counter = Path(os.environ.get("FAKE_COUNTER", os.devnull))
    starts = len(counter.read_text()) if counter.is_file() else 0
    if counter.name != "null":
        counter.write_text("x" * (starts + 1))
    first, _, when = mode.rpartition(":")
    if when == "loading" and (not first or starts < int(first)):
        print("loading weights\nOut of memory: this model needs more than there is", flush=True)
        time.sleep(LOAD_S)
        sys.exit(3)


routes = [
    Route("/health", health),
    Route("/startup", startup),
    Route("/slow", slow, methods=["GET", "POST"]),
    Route("/gated", gated),
    Route("/steps", steps, methods=["POST"]),
    Route("/go_on", go_on, methods=["POST"]),
    Route("/stream", stream, methods=["GET", "POST"]),
    Route("/die", die, methods=["GET", "POST"]),
    Route("/log", log),
    WebSocketRoute("/ws", talk),
    WebSocketRoute("/v1/realtime", talk),
    Route("/{rest:path}", echo, methods=["GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS"]),
]

if __name__ == "__main__":
    crash_while_loading()
    uvicorn.run(Starlette(routes=routes), host="127.0.0.1", port=int(sys.argv[1]), log_level="info")
