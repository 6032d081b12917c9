"""ASGI middleware: `/openai/v1/…` is `/v1/…`, as in KServe's own server.

KServe's documentation, SDK and tests call an LLM at `http://HOST/openai/v1/…`, where HOST is the
InferenceService's (`KSERVE_OPENAI_ROUTE_PREFIX`, `/openai` by default). vLLM's routes have no such
prefix. It is taken off in front of every other middleware, so that `--api-key`, events and the
drain see the route that is asked for.

As the outermost middleware it also hears first that the server is about to accept.
"""

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from relume.base.prefixes import below_prefix, host_of
from relume.runtimes.gatekeeper import opening

PREFIX = "/openai"
_VERSIONED = f"{PREFIX}/v1/"


class OpenAIPrefix:
    """`--middleware relume.runtimes.openai_prefix.OpenAIPrefix`."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, opening(send))
            return
        if not scope["path"].startswith(_VERSIONED):
            await self.app(scope, receive, send)
            return
        hosts = {host_of(scope["headers"])}

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = below_prefix(message.get("headers", ()), PREFIX.encode(), hosts)
                message = {**message, "headers": headers}
            await send(message)

        inner = {**scope, "path": scope["path"].removeprefix(PREFIX)}
        if raw_path := scope.get("raw_path"):
            inner["raw_path"] = raw_path.removeprefix(PREFIX.encode())
        await self.app(inner, receive, answer)
