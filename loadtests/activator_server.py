"""What is measured: the activator with its serving plane, or a plain reverse proxy in its place.

    python activator_server.py activator|proxy PORT PREDICTOR_URL STATE_FOLDER

Both have the HTTP server of the plane in front, and what stands between it and the activator in
`relume up`, and both ask the predictor with aiohttp. The proxy does nothing but pass a request and
its answer on: no service is looked for, nobody counts, holds, times or limits. Either keeps to one
core.
"""

import asyncio
import os
import socket
import sys
from pathlib import Path

import uvloop
from starlette.types import ASGIApp, Receive, Scope, Send

from relume.config import Autoscaling, InferenceService
from relume.plane.server import HttpServer
from relume.serving.cross_origin import CrossOrigin
from relume.serving.plane import ServingPlane
from relume.serving.predictor import Probes
from relume.serving.testing import RunningLauncher
from relume.web.bodies import DecodedBodies
from relume.web.hops import NOT_RETURNED, client_session, sent_on, url_behind

SERVICE = InferenceService(
    "default",
    "model",
    "vLLM",
    "hf://org/model",
    min_replicas=1,
    max_replicas=1,
    autoscaling=Autoscaling(min_scale=1, max_scale=1),
)


def proxy(base_url: str) -> ASGIApp:
    """A reverse proxy, and no more."""
    session = client_session(30.0)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        path = scope["raw_path"].removeprefix(b"/serving/default/model")
        async with session.request(
            scope["method"],
            url_behind(base_url, path, scope["query_string"]),
            headers=sent_on(scope["headers"]),
            data=body or None,
            allow_redirects=False,
        ) as answer:
            headers = [
                (name.lower(), value)
                for name, value in answer.raw_headers
                if name.lower() not in NOT_RETURNED
            ]
            status = answer.status
            await send({"type": "http.response.start", "status": status, "headers": headers})
            async for chunk in answer.content.iter_any():
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    return app


async def serve(kind: str, port: int, base_url: str, state: Path) -> None:
    listening = socket.socket()
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listening.bind(("127.0.0.1", port))
    app = proxy(base_url)
    if kind == "activator":
        (state / "logs").mkdir(parents=True, exist_ok=True)
        launcher = RunningLauncher(base_url, Probes(startup=None))
        plane = ServingPlane([SERVICE], launcher, log_dir=state / "logs")
        await plane.start()
        app = plane.app
    await HttpServer(CrossOrigin(DecodedBodies(app), (SERVICE,), ()), listening).serve()


if __name__ == "__main__":
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(sys.argv[1], int(sys.argv[2]), sys.argv[3], Path(sys.argv[4])))
