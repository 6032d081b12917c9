"""An address for each replica of a service, for a router that chooses among them itself.

A door belongs to the plane and not to a process. A request that comes to it is counted by the
autoscaler and gets a lease of a replica like any other; the door only says which replica is
preferred. Where that one goes, is gone or has no room, the request is given to another replica or
held, and it wakes the service where that is at zero. So a router that has not yet heard of a change
loses nothing by it.

What a router asks for by itself is no demand, and nothing is started for it: llm-d's
reads the metrics of each endpoint twenty times a second. Such a request
goes past the autoscaler to the replica, and where there is none the door answers it.
"""

from dataclasses import dataclass

import aiohttp
import orjson
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from relume.config.waiting import Waiting
from relume.serving.addresses import raw_path_of
from relume.serving.errors import JSON_TYPE
from relume.serving.openai import served_names
from relume.serving.prediction import Progress
from relume.serving.predictor import ServiceKey
from relume.serving.service import Service
from relume.serving.target import TARGET
from relume.serving.throttler import Backend, Throttler
from relume.serving.timeouts import Timeouts

#: What routers poll: metrics, health, and the models with their adapters.
POLLED = frozenset({b"/metrics", b"/health", b"/v1/models"})
_POLL_WITHIN = aiohttp.ClientTimeout(total=5.0)
_METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"
#: What the default plugins of llm-d's router read, as an engine that has nothing to do says it.
#: The requests that the plane holds are not in it: the router stops to send to an endpoint with a
#: queue, and here a request that is sent is what ends the wait.
_GAUGES = (
    ("vllm:num_requests_running", "Number of requests in model execution batches."),
    ("vllm:num_requests_waiting", "Number of requests waiting to be processed."),
    ("vllm:kv_cache_usage_perc", "KV-cache usage. 1 means 100 percent usage."),
)


class Door:
    """One address of a service; an ASGI application. `preferred` is the replica behind it now."""

    def __init__(self, service: Service, app: ASGIApp, session: aiohttp.ClientSession) -> None:
        """app: the activator of the plane, which routes what comes through this door to it."""
        self.preferred: int | None = None
        self.throttler: Throttler = service.throttler
        self._service = service
        self._app = app
        self._session = session

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        polled = scope["type"] == "http" and scope["method"] in ("GET", "HEAD")
        path = raw_path_of(scope) if polled else b""
        if path in POLLED:
            await (await self._polled(path))(scope, receive, send)
            return
        scope.setdefault("state", {})[TARGET] = self
        await self._app(scope, receive, send)

    async def _polled(self, path: bytes) -> Response:
        """Ask the replica, or answer for a service that has none."""
        backend = self._service.throttler.backend(self.preferred)
        answer = None if backend is None else await self._from(backend, path)
        if answer is not None:
            return answer
        if path == b"/metrics":
            return Response(metrics(), headers={"content-type": _METRICS_TYPE})
        if path == b"/v1/models":
            return Response(self._models(), headers={"content-type": JSON_TYPE})
        return Response()

    async def _from(self, backend: Backend, path: bytes) -> Response | None:
        """Return what the replica answers; None where it does not."""
        url = backend.base_url + path.decode("ascii")
        try:
            async with self._session.get(url, timeout=_POLL_WITHIN) as answer:
                body = await answer.read()
                kind = answer.headers.get("Content-Type", "text/plain")
                return Response(body, answer.status, headers={"content-type": kind})
        except (aiohttp.ClientError, OSError, TimeoutError):
            return None

    def _models(self) -> bytes:
        """List the names of the model as its predictor does (vLLM's ModelCard)."""
        names = served_names(self._service.config.args) or [self._service.key.name]
        cards = [
            {"id": name, "object": "model", "created": 0, "owned_by": "vllm", "parent": None}
            for name in names
        ]
        return orjson.dumps({"object": "list", "data": cards})

    # The Target of a request, which is the service with a preference.

    @property
    def key(self) -> ServiceKey:
        return self._service.key

    @property
    def timeouts(self) -> Timeouts:
        return self._service.timeouts

    @property
    def waiting(self) -> Waiting:
        return self._service.waiting

    @property
    def progress(self) -> Progress | None:
        return self._service.progress

    @property
    def ready_in_s(self) -> float | None:
        return self._service.ready_in_s

    def arrived(self) -> None:
        self._service.arrived()

    def waits(self) -> None:
        self._service.waits()

    def left(self) -> None:
        self._service.left()

    def client_left(self) -> None:
        self._service.client_left()


@dataclass(frozen=True, slots=True)
class Pool:
    """One service with a model, and what a router in front of the plane needs of it."""

    service: Service
    app: ASGIApp
    session: aiohttp.ClientSession

    def door(self) -> Door:
        """Return a new address of the service, not yet of any replica."""
        return Door(self.service, self.app, self.session)


def metrics() -> str:
    """Return the metrics of an engine that has nothing to do, in Prometheus' text format."""
    parts = [f"# HELP {name} {told}\n# TYPE {name} gauge\n{name} 0.0\n" for name, told in _GAUGES]
    return "".join(parts)
