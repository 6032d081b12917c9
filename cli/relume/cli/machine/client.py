"""HTTP client of a running plane: its control API and its Broker ingress."""

import contextlib
import json
import os
from collections.abc import AsyncIterator, Sequence
from typing import Any, Self

import httpx
import orjson

from relume.base.home import NoHome
from relume.base.vocabulary import STREAM_LIVE, STREAM_SUBSCRIBED, Json
from relume.cli.errors import BadUsage, NoPlane, NotAPlane, Refused
from relume.cli.machine.reports import (
    BrokerStatus,
    ColdStartReport,
    DeadLetterPage,
    DeadLetterReport,
    EventRecord,
    ReloadReport,
    ServiceStatus,
    Status,
)
from relume.cloudevents.json_format import dump_event
from relume.eventing.envelope import Envelope
from relume.plane.addresses import DEFAULT_HTTP_PORT, StateFolder, default_state

RING = 1000  # how many past records a plane remembers at most
CONNECT_TIMEOUT_S = 5.0
ANSWER_TIMEOUT_S = 15.0
# A reload reads files and models, and may wait for deliveries that end (`leave_s` of eventing).
RELOAD_TIMEOUT_S = 60.0


def find_plane(url: str | None) -> str:
    """Base URL of the plane's HTTP port, without a slash at the end; does not connect.

    It is `url` (the option --url), else $RELUME_URL, else what the state folder says, else the
    default port. Raises BadUsage for what is no URL of a plane.
    """
    if url:
        return _base_url("--url ", url)
    if chosen := os.environ.get("RELUME_URL"):
        return _base_url("RELUME_URL=", chosen)
    # A user without a home has no state folder either; the plane may be at the default port.
    with contextlib.suppress(NoHome):
        folder = StateFolder(default_state())
        if plane := folder.running():
            return _base_url(f"{folder.plane_json}: ", plane.http)
    return f"http://127.0.0.1:{DEFAULT_HTTP_PORT}"


def _base_url(origin: str, text: str) -> str:
    """The URL without a slash at the end. Raises BadUsage, which begins with `origin`."""
    chosen = text if "://" in text else f"http://{text}"
    try:
        wrong = _wrong(httpx.URL(chosen))
    except (httpx.InvalidURL, ValueError) as error:
        wrong = str(error)
    if wrong:
        raise BadUsage(f"{origin}{text} is not a plane's URL: {wrong}; write http://HOST:PORT")
    return chosen.rstrip("/")


def _wrong(url: httpx.URL) -> str:
    if url.scheme not in ("http", "https"):
        return f"its scheme is {url.scheme}"
    if url.query or url.fragment:
        return "it has a query or a fragment"
    if url.port is not None and not 0 < url.port < 65536:
        return f"no port has the number {url.port}"
    url.host.encode("idna")  # as the resolver does it; a label may be empty or too long
    return "" if url.host else "it names no host"


class NotOperator(Refused):
    """Only an operator of the gateway may see or change its dead letters."""

    reason = "not-allowed"


class PlaneClient:
    """Talks to the plane at one base URL; use as an async context manager."""

    def __init__(self, url: str) -> None:
        self.url = url
        # trust_env=False: a proxy from the environment must not stand between us and loopback.
        self._http = httpx.AsyncClient(
            trust_env=False, timeout=httpx.Timeout(ANSWER_TIMEOUT_S, connect=CONNECT_TIMEOUT_S)
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.aclose()

    async def status(self) -> Status:
        """The whole state of the plane, as of now."""
        return Status.parse(await self.raw_status())

    async def raw_status(self) -> object:
        """The same as JSON, with all fields that the plane sends."""
        return await self._get("/relume/status")

    async def cold_starts(self) -> tuple[ColdStartReport, ...]:
        """The ledger, oldest first."""
        entries = await self._get("/relume/coldstarts")
        if not isinstance(entries, list):
            raise NotAPlane(f"{self.url} does not answer like a plane: no list of cold starts")
        return tuple(ColdStartReport.parse(entry) for entry in entries)

    @contextlib.asynccontextmanager
    async def events(
        self, *, replay: int = 0, follow: bool = True, filter: str | None = None
    ) -> AsyncIterator[AsyncIterator[EventRecord]]:
        """Subscribe to the records of the eventing plane; subscribed once the block is entered.

        `replay` is how many past records come first, at most what the plane's ring holds. Of all
        these come those whose event passes `filter`, a CESQL expression. The iterator ends when
        the plane stops, or, without `follow`, after the replayed records.
        """
        request = self._request(
            "GET",
            f"{self.url}/relume/events",
            params={"replay": replay} | ({} if filter is None else {"filter": filter}),
            timeout=httpx.Timeout(None, connect=CONNECT_TIMEOUT_S),
        )
        response = await self._send(request, stream=True)
        try:
            self._check(response)
            lines = response.aiter_lines()
            if await _first(lines) != STREAM_SUBSCRIBED:
                raise NotAPlane(f"{request.url} is not a stream of events: not a plane?")
            yield _records(lines, follow)
        finally:
            await response.aclose()

    async def whole(self, record: EventRecord) -> Json:
        """The event of a record, with its data also where the record has only the beginning.

        Where the plane's log does not keep it, the data is the beginning and a note at its end.
        """
        if record.key is None:
            return record.event
        url = f"{self.url}/relume/events/{record.broker}/{record.key}"
        response = await self._send(self._http.build_request("GET", url), stream=False)
        if response.status_code == 200:
            event = Envelope.unpack(response.content).event
            found: dict[str, object] = orjson.loads(dump_event(event))
            return found
        note = f"… (the data has {record.bytes} bytes, and the plane does not keep the rest)"
        return {**record.event, "data": f"{record.begins} {note}"}

    async def dead_letters(self, broker: str) -> AsyncIterator[DeadLetterReport]:
        """The dead letters of a Broker (`NAMESPACE/NAME`), oldest first. Raises BadUsage."""
        after: int | None = 0
        while after is not None:
            path = f"/relume/dlq/{broker}?after={after}"
            page = DeadLetterPage.parse(await self._change("GET", path))
            for letter in page.letters:
                yield letter
            after = page.next

    async def dead_letter(self, broker: str, sequence: int) -> DeadLetterReport:
        """One dead letter, with its event in `raw`. Raises BadUsage when it is not there."""
        answer = await self._change("GET", f"/relume/dlq/{broker}/{sequence}")
        return DeadLetterReport.parse(answer)

    async def redrive(self, broker: str, sequence: int) -> None:
        """Send a dead letter through its Trigger again. Raises BadUsage, Refused."""
        await self._change("POST", f"/relume/dlq/{broker}/{sequence}/redrive")

    async def remove_dead_letter(self, broker: str, sequence: int) -> None:
        """Forget a dead letter. Raises BadUsage, Refused."""
        await self._change("DELETE", f"/relume/dlq/{broker}/{sequence}")

    async def warm(self, service: str) -> ServiceStatus:
        """Start a service (`NAMESPACE/NAME`) where it is at zero. Raises BadUsage, Refused."""
        return ServiceStatus.parse(
            await self._change("POST", f"/relume/services/{service}/warm", done=202)
        )

    async def reload(self) -> ReloadReport:
        """Let the plane read its manifests again. Raises BadUsage where one is wrong, Refused."""
        self._http.timeout = httpx.Timeout(RELOAD_TIMEOUT_S, connect=CONNECT_TIMEOUT_S)
        return ReloadReport.parse(await self._change("POST", "/relume/reload"))

    async def post_event(
        self, url: str, headers: Sequence[tuple[str, str]], body: bytes
    ) -> httpx.Response:
        """Post one encoded event to a Broker's ingress; any status is returned."""
        request = self._request("POST", url, headers=list(headers), content=body)
        return await self._send(request, stream=False)

    async def _change(self, method: str, path: str, done: int = 200) -> object:
        request = self._request(method, self.url + path)
        response = await self._send(request, stream=False)
        if response.status_code == 204:
            return None
        try:
            said = response.json()
            if response.status_code == done:
                return said
            words = str(said["error"])
        except (ValueError, LookupError, TypeError, RecursionError):
            raise NotAPlane(
                f"{request.url} answers {response.status_code}: not a plane, or another version"
            ) from None
        if response.status_code in (401, 403):
            raise NotOperator(words, reason=str(said.get("reason") or NotOperator.reason))
        raise (Refused if response.status_code >= 500 else BadUsage)(words)

    async def _get(self, path: str) -> object:
        response = await self._send(self._request("GET", self.url + path), stream=False)
        self._check(response)
        try:
            return response.json()
        except (ValueError, RecursionError):
            raise NotAPlane(f"{self.url}{path} does not answer with JSON: not a plane?") from None

    def _request(self, method: str, url: str, **parts: Any) -> httpx.Request:
        try:
            return self._http.build_request(method, url, **parts)
        except (httpx.InvalidURL, ValueError) as error:
            raise BadUsage(f"{self.url} cannot be asked: {error}") from None

    async def _send(self, request: httpx.Request, *, stream: bool) -> httpx.Response:
        try:
            return await self._http.send(request, stream=stream)
        except httpx.ConnectError:
            raise NoPlane(
                f"no plane is running at {self.url}; start one with `relume up FILE`"
            ) from None
        except (httpx.UnsupportedProtocol, ValueError) as error:
            raise NotAPlane(f"{request.url} cannot be asked: {error}") from None
        except httpx.LocalProtocolError as error:
            raise BadUsage(f"{request.url} cannot be asked: {error}") from None
        except httpx.HTTPError as error:
            words = str(error) or type(error).__name__
            raise NoPlane(f"the plane at {self.url} did not answer: {words}") from None

    def _check(self, response: httpx.Response) -> None:
        if response.status_code != 200:
            raise NotAPlane(
                f"{response.request.url} answers {response.status_code}: "
                "not a plane, or a different version of one"
            )


async def _first(lines: AsyncIterator[str]) -> str:
    """The first line of a stream, empty where it is broken or has none."""
    try:
        return await anext(lines, "")
    except httpx.HTTPError:
        return ""


async def _records(lines: AsyncIterator[str], follow: bool) -> AsyncIterator[EventRecord]:
    with contextlib.suppress(httpx.RemoteProtocolError, httpx.ReadError):
        async for line in lines:
            if line.startswith("data:"):
                yield EventRecord.parse(_parsed(line.removeprefix("data:")))
            elif line == STREAM_LIVE and not follow:
                return


def _parsed(text: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise NotAPlane(f"the plane's stream of events is not understood: {error}") from None


def choose_broker(status: Status, wanted: str | None) -> BrokerStatus:
    """The Broker by `NS/NAME` (or NAME in `default`), or the only one that has a Trigger.

    A Broker without Triggers, where another keeps its dead letters, is chosen only by name, or
    when there is no other. The channels of flows are Brokers here. Raises BadUsage.
    """
    brokers = {broker.full_name: broker for broker in status.eventing.brokers}
    names = ", ".join(sorted(brokers))
    if wanted is not None:
        full_name = wanted if "/" in wanted else f"default/{wanted}"
        if full_name not in brokers:
            raise BadUsage(f"--broker {wanted}: no such Broker here; there is {names or 'none'}")
        return brokers[full_name]
    if not brokers:
        raise BadUsage(f"the plane at {status.http} has no Broker; add one to its YAML")
    used = {f"{trigger.namespace}/{trigger.broker}" for trigger in status.eventing.triggers}
    own = [name for name, broker in brokers.items() if broker.of is None] or list(brokers)
    candidates = [name for name in own if name in used] or own
    if len(candidates) > 1:
        raise BadUsage(f"the plane has several Brokers; choose one with --broker: {names}")
    return brokers[candidates[0]]
