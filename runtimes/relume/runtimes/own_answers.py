"""ASGI middleware: answers that do not come from vLLM's routes have the headers of CORS too.

vLLM adds them around its own routes, inside every other middleware. So the answer to an event, a
refusal while the replica drains, and vLLM's 401 would be kept from a page that
`--allowed-origins` allows. Preflights are answered by vLLM.
"""

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_ALLOWED = b"access-control-allow-origin"


class AllowedOrigins:
    """`--middleware relume.runtimes.own_answers.AllowedOrigins`.

    What is allowed stands in the application's state as `relume_cors`, arguments of Starlette's
    CORSMiddleware; `RelumeEndpoints.init_state` puts it there.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self._policy: CORSMiddleware | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or "origin" not in (asked := Headers(scope=scope)):
            await self.app(scope, receive, send)
            return
        policy = self._allowed(scope)

        async def answer(message: Message) -> None:
            if policy is None or message["type"] != "http.response.start" or _has_cors(message):
                await send(message)
            else:
                await policy.send(message, send=send, request_headers=asked)

        await self.app(scope, receive, answer)

    def _allowed(self, scope: Scope) -> CORSMiddleware | None:
        if self._policy is None:
            allowed = getattr(scope["app"].state, "relume_cors", {})
            if allowed.get("allow_origins"):
                self._policy = CORSMiddleware(self.app, **allowed)
        return self._policy


def _has_cors(message: Message) -> bool:
    """Whether vLLM has judged the origin: it allowed it, or said that the answer varies with it."""
    headers = [(name.lower(), value.lower()) for name, value in message.get("headers", ())]
    return any(name == _ALLOWED or (name, value) == (b"vary", b"origin") for name, value in headers)
