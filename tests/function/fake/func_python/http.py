"""`serve` for functions that are called over plain HTTP."""

import os

import uvicorn


class Application:
    """An ASGI application around an instance with `handle`."""

    def __init__(self, instance):
        self.instance = instance

    async def __call__(self, scope, receive, send):
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        elif scope["path"] in ("/health/liveness", "/health/readiness"):
            asked = "alive" if scope["path"].endswith("liveness") else "ready"
            told = getattr(self.instance, asked, lambda: True)()
            fine = told[0] if isinstance(told, tuple) else told
            await answer(send, 200 if fine else 500, b"OK")
        else:
            try:
                await self.handle(scope, receive, send)
            except Exception as error:  # noqa: BLE001 - as func-python does
                await answer(send, 500, f"Error: {error}".encode())

    async def handle(self, scope, receive, send):
        await self.instance.handle(scope, receive, send)

    async def _lifespan(self, receive, send):
        for hook in ("startup", "shutdown"):
            await receive()
            if hook == "startup" and hasattr(self.instance, "start"):
                self.instance.start(dict(os.environ))
            if hook == "shutdown" and hasattr(self.instance, "stop"):
                self.instance.stop()
            await send({"type": f"lifespan.{hook}.complete"})


async def answer(send, status, body, content_type=b"text/plain"):
    headers = [(b"content-type", content_type), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def run(application, handler):
    instance = handler() if handler.__name__ == "new" else type("F", (), {"handle": handler})
    host, _, port = os.environ["LISTEN_ADDRESS"].rpartition(":")
    # As hypercorn does, it waits a short while for requests that still run.
    wait_s = 1
    where = {"host": host, "port": int(port)}
    uvicorn.run(application(instance), **where, timeout_graceful_shutdown=wait_s)


def serve(handler):
    run(Application, handler)
