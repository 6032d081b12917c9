"""The place of jobs in front of an application: there before they are served, and after.

While jobs are not served, their paths and what asks for a job are refused with 503, so that nothing
is accepted that is not stored. Everything else passes at all times.
"""

from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from relume.eventing.jobs.api import QUEUES_PATH
from relume.eventing.jobs.events_door import EVENTS_PATH
from relume.eventing.jobs.preferences import async_preference
from relume.eventing.jobs.shapes import JOBS_PATH

_PATHS = (JOBS_PATH, QUEUES_PATH, EVENTS_PATH)


class JobsFront:
    """An ASGI application; `behind` gets what is not about jobs.

    An object, not a method: uvicorn takes a bound method for an ASGI 2 application.
    """

    def __init__(self, behind: ASGIApp) -> None:
        self.behind = behind
        self._jobs: ASGIApp | None = None
        self._why = "jobs are not served yet"

    def open(self, jobs: ASGIApp) -> None:
        """Serve jobs, by an application that has `behind` behind it."""
        self._jobs = jobs

    def close(self, why: str) -> None:
        """Refuse jobs from here on."""
        self._jobs, self._why = None, why

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._jobs is not None:
            await self._jobs(scope, receive, send)
        elif scope["type"] == "http" and (is_about_jobs(scope["path"]) or _asks_for_job(scope)):
            await self._refusal()(scope, receive, send)
        else:
            await self.behind(scope, receive, send)

    def _refusal(self) -> Response:
        body = {"error": self._why, "reason": "jobs-not-served"}
        return JSONResponse(body, 503, {"Retry-After": "1"})


def is_about_jobs(path: str) -> bool:
    """Whether a path belongs to jobs alone."""
    if not path.startswith(_PATHS):
        return False
    return any(path == each or path.startswith(f"{each}/") for each in _PATHS)


def _asks_for_job(scope: Scope) -> bool:
    values = [value.decode("latin-1") for name, value in scope["headers"] if name == b"prefer"]
    return scope["method"] == "POST" and bool(values) and async_preference(values) is not None
