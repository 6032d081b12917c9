"""CORS: which pages in a browser may call the services, on every path of the plane.

A service allows origins with vLLM's own flags in its arguments (`--allowed-origins`,
`--allowed-methods`, `--allowed-headers`, `--allow-credentials`), and the plane allows origins for
all its paths. On /openai/v1 a preflight names no model, so it passes where any service allows the
origin; the answer itself has the headers of the service that gave it. Preflights are answered here
and so never wake a model. Protocol: the Fetch standard, "CORS protocol".
"""

import argparse
import json
from collections.abc import Collection, Iterable, Mapping, Sequence

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from relume.base.vocabulary import ORIGIN_ALLOWED
from relume.serving.addresses import ROUTED_TO, by_host, by_path, header, raw_path_of
from relume.serving.openai import openai_path
from relume.serving.predictor import ServedService, ServiceKey

_ANY = ("*",)
_ALLOWED = b"access-control-allow-origin"


class CrossOrigin:
    """An ASGI application in front of another one, which speaks CORS for it."""

    def __init__(
        self, app: ASGIApp, services: Iterable[ServedService], origins: Collection[str]
    ) -> None:
        """origins: what the plane itself allows on every path; `*` is every origin."""
        self._app = app
        self._plane = [_policy(app, origins)] if origins else []
        self.serve(services)

    def serve(self, services: Iterable[ServedService]) -> None:
        """Speak for these services from now on."""
        found = {ServiceKey(s.namespace, s.name): policy_of(self._app, s.args) for s in services}
        self._keys = list(found)
        self._services = {key: policy for key, policy in found.items() if policy is not None}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        origin = header(scope, b"origin") if scope["type"] == "http" else None
        if origin is None:
            await self._app(scope, receive, send)
            return
        asked = Headers(scope=scope)
        if _allowing(self._policies(scope), origin) is not None:
            scope.setdefault("state", {})[ORIGIN_ALLOWED] = True
        if scope["method"] == "OPTIONS" and "access-control-request-method" in asked:
            allowing = _allowing(self._policies(scope), origin)
            answer = (
                self._refusal(origin) if allowing is None else allowing.preflight_response(asked)
            )
            await answer(scope, receive, send)
            return

        async def answered(message: Message) -> None:
            policies = self._policies(scope)
            if message["type"] != "http.response.start" or not policies or _has_cors(message):
                await send(message)
                return
            # A policy that does not allow the origin only says that the answer varies with it.
            policy = _allowing(policies, origin) or policies[0]
            await policy.send(_without_vary(message), send=send, request_headers=asked)

        await self._app(scope, receive, answered)

    def _policies(self, scope: Scope) -> Sequence[CORSMiddleware]:
        """Return what may allow the request; the plane's own policy comes first."""
        routed: ServiceKey | None = scope.get("state", {}).get(ROUTED_TO)
        key = routed or by_host(header(scope, b"host") or "", self._keys)
        if key is None and (found := by_path(raw_path_of(scope))) is not None:
            key = found[0]
        if key is not None:
            return [*self._plane, *([self._services[key]] if key in self._services else [])]
        if openai_path(raw_path_of(scope)) is not None:
            return [*self._plane, *self._services.values()]
        return self._plane

    def _refusal(self, origin: str) -> PlainTextResponse:
        words = (
            f"Disallowed CORS origin {origin}: allow it with relume up --allowed-origin {origin}"
        )
        if self._keys:
            argument = f"--allowed-origins={json.dumps([origin])}"
            words += f", or for one service with the argument {argument}"
        return PlainTextResponse(f"{words}\n", 400, {"vary": "Origin"})


def policy_of(app: ASGIApp, args: Sequence[str]) -> CORSMiddleware | None:
    """Return what a service's arguments allow; None where they allow no origin.

    Arguments that vLLM's parser refuses allow nothing here: the service says so when it starts.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    for name in ("origins", "methods", "headers"):
        parser.add_argument(f"--allowed-{name}", f"--allowed_{name}", type=json.loads)
    parser.add_argument(
        *("--allow-credentials", "--allow_credentials"), action=argparse.BooleanOptionalAction
    )
    try:
        given: Mapping[str, object] = vars(parser.parse_known_args(list(args))[0])
    except (argparse.ArgumentError, RecursionError):
        return None
    origins = _texts(given["allowed_origins"], ())
    if not origins:
        return None
    return _policy(
        app,
        origins,
        _texts(given["allowed_methods"], _ANY),
        _texts(given["allowed_headers"], _ANY),
        credentials=given["allow_credentials"] is True,
    )


def _policy(
    app: ASGIApp,
    origins: Collection[str],
    methods: Collection[str] = _ANY,
    headers: Collection[str] = _ANY,
    *,
    credentials: bool = False,
) -> CORSMiddleware:
    return CORSMiddleware(
        app,
        allow_origins=tuple(origins),
        allow_methods=tuple(methods),
        allow_headers=tuple(headers),
        allow_credentials=credentials,
    )


def _texts(value: object, default: Collection[str]) -> Collection[str]:
    """Return a JSON list of texts, or a single text as such a list."""
    if value is None:
        return default
    values = value if isinstance(value, list) else [value]
    return [item for item in values if isinstance(item, str)]


def _allowing(policies: Iterable[CORSMiddleware], origin: str) -> CORSMiddleware | None:
    return next((policy for policy in policies if policy.is_allowed_origin(origin)), None)


def _has_cors(message: Message) -> bool:
    """Whether the predictor has allowed the origin itself."""
    return any(name.lower() == _ALLOWED for name, _ in message.get("headers", ()))


def _without_vary(message: Message) -> Message:
    """The start of an answer without the predictor's own `Vary: Origin`, which is added again."""
    kept = [h for h in message.get("headers", ()) if (h[0].lower(), h[1]) != (b"vary", b"Origin")]
    return {**message, "headers": kept}
