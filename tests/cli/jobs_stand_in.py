"""A stand-in for a plane with jobs: the HTTP contract over canned jobs, cut where a test says."""

import asyncio
import json
from collections.abc import Mapping, Sequence

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from relume.plane.control import Control
from relume.plane.server import HttpServer
from tests.cli.plane_thread import PlaneThread

JOB: dict[str, object] = {
    "object": "job",
    "id": "job_abc",
    "status": "completed",
    "service": "default/summarizer",
    "route": "/v1/chat/completions",
    "priority": "normal",
    "tenant": "anonymous",
    "created_at": "2026-01-01T00:00:00Z",
    "started_at": "2026-01-01T00:00:01Z",
    "settled_at": "2026-01-01T00:00:11Z",
    "attempts": 2,
    "round": 1,
    "reason": "",
    "detail": "",
    "usage": {
        "prompt_tokens": 12,
        "completion_tokens": 40,
        "cached_tokens": 4,
        "queue_ms": 1000,
        "cold_start_ms": 2300,
        "run_ms": 4000,
    },
    "expires_at": "2026-01-02T00:00:11Z",
    "links": {"self": "/v1/jobs/job_abc"},
}
DEAD = JOB | {"id": "job_dead", "status": "dead", "reason": "attempts", "detail": "status 500"}
QUEUED = JOB | {
    "id": "job_queued",
    "status": "queued",
    "started_at": None,
    "settled_at": None,
    "attempts": 0,
    "usage": None,
    "position": 3,
    "predicted_start_s": 12.4,
}
QUEUE: dict[str, object] = {
    "service": "default/summarizer",
    "waiting": 3,
    "running": 1,
    "paused": False,
    "lanes": [{"priority": "normal", "tenant": "anonymous", "waiting": 3}],
}
# What each start was: the service's, when it was asked for, and the ms until it was ready.
STARTS = (
    ("summarizer", "2025-12-31T23:59:50.000+00:00", 9000.0),  # it was ready before the job began
    ("summarizer", "2025-12-31T23:59:59.000+00:00", 2500.0),  # somebody else's request caused it
    ("other", "2026-01-01T00:00:02.000+00:00", 1000.0),
    ("summarizer", "2026-01-01T00:00:06.000+00:00", 800.0),  # the model was killed, and came again
    ("summarizer", "2026-01-01T00:00:12.000+00:00", None),
)
WORDS = ("It ", "sleeps\u2028", "until ", "it ", "is ", "asked.")


def chunk(words: str) -> str:
    return json.dumps({"choices": [{"delta": {"content": words}}]}, ensure_ascii=False)


def cold_start(told: tuple[str, str, float | None]) -> dict[str, object]:
    """An entry of the ledger of cold starts."""
    service, at, ready = told
    entry = {"namespace": "default", "service": service, "at": at, "ready": ready, "total": ready}
    return {**entry, "started": "template", "outcome": "ready", "weights": 700.0}


class JobsPlane(PlaneThread):
    """Jobs that were made before. `cuts` says behind how many parts each stream breaks off.

    A `gateway` has no control API.
    """

    def __init__(self, key: str | None = None, *, gateway: bool = False) -> None:
        super().__init__()
        self._is_gateway = gateway
        self.jobs = {str(job["id"]): job for job in (JOB, DEAD, QUEUED)}
        self.queues = [QUEUE]
        self.cuts: list[int] = []
        self.asked: list[tuple[str, str, Mapping[str, str], bytes]] = []
        self.restart_at: int | None = None
        self.away = 0
        self.empty_pages = 0
        self._key = key

    @property
    def paths(self) -> list[str]:
        return [f"{method} {path}" for method, path, _, _ in self.asked]

    async def _run(self) -> None:
        routes = [
            Route("/v1/jobs", self._list),
            Route("/v1/jobs/{id}", self._one, methods=["GET", "DELETE"]),
            Route("/v1/jobs/{id}/result", self._result),
            Route("/v1/jobs/{id}/events", self._events),
            Route("/v1/jobs/{id}/{action}", self._act, methods=["POST"]),
            Route("/v1/queues", self._queues),
            Route("/v1/queues/{ns}/{name}/{action}", self._on_queue, methods=["POST"]),
            Route("/serving/{rest:path}", self._submit, methods=["POST"]),
            Route("/openai/{rest:path}", self._submit, methods=["POST"]),
        ]
        control = Control(
            status=lambda: self._status(eventing={}, jobs={"queues": self.queues}),
            cold_starts=lambda: [*map(cold_start, STARTS)],
            observer=self.observer,
        )
        jobs = Starlette(routes=routes)
        app = jobs if self._is_gateway else control.in_front_of(jobs)
        server = HttpServer(app, self._http)
        async with asyncio.TaskGroup() as group:
            group.create_task(server.serve())
            self._up.set()
            await self._stop.wait()
            control.close()
            server.stop(1)

    async def _note(self, request: Request) -> Response | None:
        path = request.url.path + (f"?{request.url.query}" if request.url.query else "")
        headers = dict(request.headers)
        self.asked.append((request.method, path, headers, await request.body()))
        if self._key is not None and headers.get("authorization") != f"Bearer {self._key}":
            return refused(401, "send Authorization: Bearer with an API key", "unauthorized")
        if self.away:
            self.away -= 1
            return refused(503, "the store is away", "store-unavailable")
        if (id_ := request.path_params.get("id")) is not None and id_ not in self.jobs:
            return refused(404, f"there is no job {id_}", "no-such-job")
        return None

    async def _submit(self, request: Request) -> Response:
        if (refusal := await self._note(request)) is not None:
            return refusal
        if request.headers.get("idempotency-key") == "taken":
            return refused(409, "another request has this idempotency key", "key-in-use")
        if "wait" in request.headers["prefer"]:
            return JSONResponse({"choices": []}, headers={"Relume-Job": "job_abc"})
        return JSONResponse(QUEUED, 202, {"Location": "/v1/jobs/job_queued"})

    async def _list(self, request: Request) -> Response:
        if (refusal := await self._note(request)) is not None:
            return refusal
        if self.empty_pages:  # many jobs were read, and none was the caller's
            self.empty_pages -= 1
            last = f"read-{self.empty_pages + 1}"
            return JSONResponse({"object": "list", "data": [], "has_more": True, "last_id": last})
        wanted = request.query_params.get("status", "")
        jobs: Sequence[Mapping[str, object]] = list(self.jobs.values())
        after = request.query_params.get("after")
        if wanted:
            jobs = [job for job in jobs if job["status"] in wanted.split(",")]
        ids = [job["id"] for job in jobs]
        start = ids.index(after) + 1 if after in ids else 0
        page = jobs[start : start + 2]
        more = start + 2 < len(jobs)
        last = page[-1]["id"] if page else None
        shown = {"object": "list", "data": page, "has_more": more, "last_id": last}
        return JSONResponse(shown)

    async def _one(self, request: Request) -> Response:
        if (refusal := await self._note(request)) is not None:
            return refusal
        if request.method == "DELETE":
            return Response(status_code=204)
        return JSONResponse(self.jobs[request.path_params["id"]])

    async def _result(self, request: Request) -> Response:
        if (refusal := await self._note(request)) is not None:
            return refusal
        if request.path_params["id"] == "job_dead":
            return JSONResponse({"error": {"message": "it broke"}}, 500)
        if request.path_params["id"] == "job_queued":
            return refused(409, "the job is not settled", "not-settled")
        return Response(b'{"choices": ["whole"]}', media_type="application/json")

    async def _events(self, request: Request) -> Response:
        if (refusal := await self._note(request)) is not None:
            return refusal
        after = int(request.headers.get("last-event-id", "0"))
        job = self.jobs[request.path_params["id"]]
        return StreamingResponse(self._parts(after, job), media_type="text/event-stream")

    async def _parts(self, after: int, job: Mapping[str, object]):  # type: ignore[no-untyped-def]
        yield ": starting phase=weights\n\n"
        cut = self.cuts.pop(0) if self.cuts else None
        for position, words in enumerate(WORDS, 1):
            if position <= after:
                continue
            if cut is not None and position > cut:
                yield f"id: {position}\ndata: {chunk(words)[:9]}"  # half a part
                return
            if position == self.restart_at:
                yield f'event: restarted\nid: {position}\ndata: {{"attempt":2}}\n\n'
            else:
                yield f"id: {position}\ndata: {chunk(words)}\n\n"
        yield f"event: {job['status']}\nid: {len(WORDS) + 1}\ndata: {json.dumps(job)}\n\n"

    async def _act(self, request: Request) -> Response:
        if (refusal := await self._note(request)) is not None:
            return refusal
        if request.path_params["action"] == "cancel" and request.path_params["id"] == "job_abc":
            return refused(409, "job job_abc is completed: it cannot be cancelled", "job-conflict")
        return JSONResponse(self.jobs[request.path_params["id"]])

    async def _queues(self, request: Request) -> Response:
        if (refusal := await self._note(request)) is not None:
            return refusal
        return JSONResponse({"object": "list", "data": self.queues})

    async def _on_queue(self, request: Request) -> Response:
        if (refusal := await self._note(request)) is not None:
            return refusal
        if request.path_params["action"] == "purge":
            return JSONResponse({"object": "queue.purge", "cancelled": 3})
        return JSONResponse(QUEUE)


def refused(status: int, error: str, reason: str) -> Response:
    return JSONResponse({"error": error, "reason": reason}, status, {"Retry-After": "1"})
