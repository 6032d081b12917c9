"""Writes down every event that is posted to it; for replies and usage.

    python sink.py PORT JOURNAL

The journal has a line of JSON for each event, in binary or structured mode, written before the
event is answered with 202. It is on the disk however this process ends.
"""

import asyncio
import base64
import json
import os
import sys
from pathlib import Path

from aiohttp import web


class Sink:
    """Any path takes events."""

    def __init__(self, journal: Path) -> None:
        self._journal = os.open(journal, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def app(self) -> web.Application:
        app = web.Application(client_max_size=64 * 1024 * 1024)
        app.router.add_post("/{path:.*}", self._take)
        return app

    async def _take(self, request: web.Request) -> web.Response:
        body = await request.read()
        if request.content_type == "application/cloudevents+json":
            told = json.loads(body)
            data = told.pop("data", None)
            raw = told.pop("data_base64", None)
            text = base64.b64decode(raw).decode(errors="replace") if raw else json.dumps(data)
            attributes = {name: str(value) for name, value in told.items()}
        else:
            attributes = {
                name.lower()[3:]: value
                for name, value in request.headers.items()
                if name.lower().startswith("ce-")
            }
            text = body.decode(errors="replace")
        line = json.dumps({"path": request.path, "attributes": attributes, "data": text})
        os.write(self._journal, f"{line}\n".encode())
        return web.Response(status=202)


async def serve(port: int, journal: Path) -> None:
    """Serve until the process ends."""
    runner = web.AppRunner(Sink(journal).app(), access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port, reuse_address=True).start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), Path(sys.argv[2])))
