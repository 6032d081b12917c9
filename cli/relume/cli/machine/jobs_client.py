"""HTTP client of jobs, which a plane and a gateway answer alike."""

import contextlib
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass

import httpx

from relume.cli.errors import BadUsage, NotAPlane, Refused
from relume.cli.machine.client import ANSWER_TIMEOUT_S, CONNECT_TIMEOUT_S, PlaneClient
from relume.cli.machine.job_reports import JobPage, JobReport, QueueList
from relume.cli.machine.reports import QueueReport
from relume.cli.machine.server_sent import Sent, sent_events

KEY_VARIABLE = "RELUME_KEY"
LONGEST_WAIT_S = 300
_PAGE = 100
# A stream says something at least every 5 seconds: after this silence the connection is dead.
_SILENCE_S = 20.0
# Answers that mean "not now": the same request may succeed later.
_LATER = (429, 500, 502, 503, 504)


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which jobs to list; None and () take all."""

    statuses: Sequence[str] = ()
    service: str | None = None


class NotNow(Refused):
    """The server cannot answer at this moment."""

    retryable = True


class JobsClient(PlaneClient):
    """Asks for jobs with the API key or token in $RELUME_KEY, where there is one."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        if key := os.environ.get(KEY_VARIABLE, "").strip():
            if not (key.isascii() and key.isprintable()):
                raise BadUsage(f"{KEY_VARIABLE} holds what cannot be a key; copy it again")
            self._http.headers["authorization"] = f"Bearer {key}"

    async def submit(
        self, path: str, headers: Mapping[str, str], body: bytes, wait_s: int = 0
    ) -> httpx.Response:
        """The answer to a request that asks for a job: 200 or 202. Raises BadUsage, Refused."""
        return await self._ask("POST", path, headers=dict(headers), content=body, wait_s=wait_s)

    async def job(self, job_id: str, wait_s: int = 0) -> JobReport:
        """One job; with `wait_s` when it is settled, or after that time. Raises BadUsage."""
        query = f"?wait={wait_s}" if wait_s else ""
        return JobReport.parse(_json(await self._ask("GET", _path(job_id) + query, wait_s=wait_s)))

    async def result(self, job_id: str) -> httpx.Response:
        """The stored answer, with the status of the predictor. Raises BadUsage, Refused."""
        request = self._request("GET", f"{self.url}{_path(job_id)}/result")
        response = await self._send(request, stream=False)
        if response.status_code in (401, 403, 404, 409, 410, 503) and _said(response):
            self._raise(response)
        return response

    async def jobs(self, wanted: Wanted) -> AsyncIterator[JobReport]:
        """The jobs that pass, newest first."""
        after: str | None = ""
        while after is not None:
            query = [("status", ",".join(wanted.statuses)), ("service", wanted.service or "")]
            query += [("limit", str(_PAGE)), ("after", after)]
            given = httpx.QueryParams([(name, value) for name, value in query if value])
            page = JobPage.parse(_json(await self._ask("GET", f"/v1/jobs?{given}")))
            for job in page.jobs:
                yield job
            after = page.last_id if page.has_more else None

    async def cancel(self, job_id: str) -> None:
        await self._ask("POST", f"{_path(job_id)}/cancel")

    async def retry(self, job_id: str) -> None:
        await self._ask("POST", f"{_path(job_id)}/retry")

    async def delete(self, job_id: str) -> None:
        await self._ask("DELETE", _path(job_id))

    async def queues(self) -> tuple[QueueReport, ...]:
        listed = QueueList.parse(_json(await self._ask("GET", "/v1/queues")))
        return tuple(map(QueueReport.parse, listed.data))

    async def on_queue(self, service: str, action: str) -> object:
        """Pause, resume or purge the queue of `NAMESPACE/NAME`; what the server says."""
        response = await self._ask("POST", f"/v1/queues/{service}/{action}")
        return _json(response) if response.content else {}

    @contextlib.asynccontextmanager
    async def stream(self, job_id: str, after: int) -> AsyncIterator[AsyncIterator[Sent]]:
        """The answer of a job as it comes, from the first part behind position `after`.

        Raises BadUsage when there is no such job, NotNow when it is worth another try.
        """
        request = self._request(
            "GET",
            f"{self.url}{_path(job_id)}/events",
            headers={"accept": "text/event-stream"}
            | ({"last-event-id": str(after)} if after else {}),
            timeout=httpx.Timeout(_SILENCE_S, connect=CONNECT_TIMEOUT_S),
        )
        response = await self._send(request, stream=True)
        try:
            if response.status_code != 200:
                await response.aread()
                self._raise(response)
            yield sent_events(response.aiter_bytes())
        finally:
            await response.aclose()

    async def _ask(
        self,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str] | None = None,
        content: bytes | None = None,
        wait_s: int = 0,
    ) -> httpx.Response:
        request = self._request(
            method,
            self.url + path,
            headers=dict(headers or {}),
            content=content,
            timeout=httpx.Timeout(ANSWER_TIMEOUT_S + wait_s, connect=CONNECT_TIMEOUT_S),
        )
        response = await self._send(request, stream=False)
        if response.status_code >= 300 and "relume-job" not in response.headers:
            self._raise(response)
        return response

    def _raise(self, response: httpx.Response) -> None:
        """Raise what an answer that is not a good one means to the user."""
        status, said = response.status_code, _said(response)
        if said is None and status in _LATER:
            raise NotNow(f"{self.url} answers {status}")
        if said is None:
            raise NotAPlane(
                f"{response.request.url} answers {status}: "
                "not a plane with jobs, or a different version of one"
            )
        words, reason = said
        if status in _LATER:
            after = response.headers.get("retry-after")
            raise NotNow(words + (f"; try again in {after} s" if after else ""), reason=reason)
        if status in (401, 403):
            raise Refused(f"{words}; put a key into ${KEY_VARIABLE}", reason=reason)
        raise (Refused if status in (409, 410) else BadUsage)(words, reason=reason)


def _path(job_id: str) -> str:
    if not job_id.isascii() or not job_id.replace("_", "").isalnum():
        raise BadUsage(f"{job_id!r} is no id of a job; one looks like job_4xk2… (relume jobs list)")
    return f"/v1/jobs/{job_id}"


def _json(response: httpx.Response) -> object:
    try:
        return response.json()
    except (ValueError, RecursionError):
        raise NotAPlane(f"{response.request.url} does not answer with JSON") from None


def _said(response: httpx.Response) -> tuple[str, str] | None:
    """The message and the reason of a refusal; None when it is not one of ours."""
    try:
        answer = response.json()
        error, reason = answer["error"], answer["reason"]
    except (ValueError, LookupError, TypeError, RecursionError):
        return None
    return (error, reason) if isinstance(error, str) and isinstance(reason, str) else None
