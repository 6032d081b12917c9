"""The page in front of the plane's HTTP port.

GET  /                                        the page, to a browser, where Host names no service
GET  /relume/page/FILE                        its modules and styles
GET  /relume/page/stream?filter=CESQL         what it shows, as server-sent events (see `reader`)
PUT  /relume/page/streams/ID/filter           the body is another filter; 422: it cannot be read
POST /relume/page/streams/ID/send/NS/BROKER   the body is an event, as JSON with `type` and `data`;
                                              it gets an id, and the page follows it: 202 and the id

All of it is only for who may see the page (`access`); others get a 403. Every other request passes
to what is behind, untouched.
"""

import contextlib
from collections.abc import Awaitable, Callable, Collection, Iterator

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from relume.base.clock import Clock
from relume.base.errors import InvalidInput
from relume.cesql.parser import ParseError
from relume.cloudevents.event import InvalidEvent
from relume.eventing.jobs.answers import NotAllowed
from relume.eventing.jobs.pages import check_page
from relume.eventing.observer import Observer
from relume.plane.page.access import REFUSAL, may_see
from relume.plane.page.assets import INDEX, read_assets
from relume.plane.page.feed import Feed
from relume.plane.page.reader import Reader, ReaderStream
from relume.plane.page.sending import Passed, event_of
from relume.serving.addresses import by_host, header
from relume.serving.predictor import ServiceKey

PREFIX = "/relume/page/"
#: So many pages may be open at once.
MOST_PAGES = 16
_MOST_FILTER, _MOST_EVENT = 8 * 1024, 2**20
_READING = ("GET", "HEAD")
# A page of another origin could otherwise take all places.
_OWN_SITE = ("same-origin", "none")
Handler = Callable[[Reader, Request], Awaitable[Response]]


class TooLarge(InvalidInput):
    """The body of a request is longer than what it is for may be."""

    reason = "too-large"


class Page:
    """The routes. `services` are those of now, and `ingress` takes events once it is there."""

    def __init__(
        self,
        feed: Feed,
        observer: Observer,
        clock: Clock,
        *,
        services: Callable[[], Collection[ServiceKey]],
        ingress: Callable[[], ASGIApp | None] = lambda: None,
        prompts: bool = False,
    ) -> None:
        self._feed = feed
        self._observer = observer
        self._clock = clock
        self._services = services
        self._ingress = ingress
        self._prompts = prompts
        self._assets = read_assets()
        self._readers: dict[str, Reader] = {}
        self._closed = False
        one = f"{PREFIX}streams/{{stream}}"
        self.app = Starlette(
            routes=[
                Route(f"{PREFIX}stream", self._stream),
                Route(f"{one}/filter", self._of_a_page(self._filter), methods=["PUT"]),
                Route(
                    f"{one}/send/{{namespace}}/{{broker}}",
                    self._of_a_page(self._send),
                    methods=["POST"],
                ),
                Route(f"{PREFIX}{{name}}", self._asset),
            ]
        )

    def in_front_of(self, app: ASGIApp) -> ASGIApp:
        """One ASGI app: the page on its own paths, and `app` for everything else."""

        def route(scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
            answer: ASGIApp = app
            if scope["type"] == "http" and scope["path"].startswith(PREFIX):
                answer = self.app if may_see(scope) else _refused(403, REFUSAL, "not-on-loopback")
            elif self._is_asked(scope):
                known = header(scope, b"if-none-match")
                answer = self._assets[INDEX].answer(known)
                if not may_see(scope):
                    answer = PlainTextResponse(f"{REFUSAL}\n", 403)
            return answer(scope, receive, send)

        return route

    def close(self) -> None:
        """End the streams, so that the server can shut down."""
        self._closed = True

    def _is_asked(self, scope: Scope) -> bool:
        """Whether a browser asks for the page, and not for the root of a service."""
        if scope["type"] != "http" or scope["path"] != "/" or scope["method"] not in _READING:
            return False
        if "text/html" not in (header(scope, b"accept") or ""):
            return False
        return by_host(header(scope, b"host") or "", self._services()) is None

    async def _asset(self, request: Request) -> Response:
        asset = self._assets.get(request.path_params["name"])
        if asset is None:
            return _refused(404, "the page has no such file", "not-found")
        return asset.answer(request.headers.get("if-none-match"))

    async def _stream(self, request: Request) -> Response:
        if request.headers.get("sec-fetch-site", "same-origin") not in _OWN_SITE:
            return _refused(403, "only the page itself reads its stream", NotAllowed.reason)
        if self._closed:
            return _refused(503, "the plane is shutting down", "stopping")
        if len(self._readers) >= MOST_PAGES:
            return _refused(503, f"{MOST_PAGES} pages are open: close one", "too-many-pages")
        expression = request.query_params.get("filter", "")
        if len(expression.encode()) > _MOST_FILTER:
            return _refused(413, f"a filter has at most {_MOST_FILTER:,} bytes", TooLarge.reason)
        reader = Reader(self._feed, self._observer, prompts=self._prompts)
        try:
            reader.events.want(expression)
        except ParseError as error:
            reader.events.close()
            return _refused(422, str(error), "bad-filter")
        return ReaderStream(reader, self._open(reader), self._clock, lambda: not self._closed)

    @contextlib.contextmanager
    def _open(self, reader: Reader) -> Iterator[None]:
        """The page is open while the block runs."""
        self._readers[reader.id] = reader
        try:
            with self._feed.reading():
                yield
        finally:
            reader.events.close()
            del self._readers[reader.id]

    def _of_a_page(self, handler: Handler) -> Callable[[Request], Awaitable[Response]]:
        """Answer for the open page that the path names, where it is this plane's own that asks."""

        async def answer(request: Request) -> Response:
            try:
                check_page(request.scope, "what runs here")
                reader = self._readers.get(request.path_params["stream"])
                if reader is None:
                    return _refused(404, "this page is not open any more: reload it", "no-page")
                return await handler(reader, request)
            except NotAllowed as error:
                return _refused(403, str(error), error.reason)
            except TooLarge as error:
                return _refused(413, str(error), error.reason)
            except (InvalidEvent, InvalidInput, ParseError) as error:
                return _refused(422, str(error), getattr(error, "reason", "bad-filter"))

        return answer

    async def _filter(self, reader: Reader, request: Request) -> Response:
        reader.events.want((await _body(request, _MOST_FILTER)).decode(errors="replace"))
        return Response(status_code=204)

    async def _send(self, reader: Reader, request: Request) -> Response:
        ingress = self._ingress()
        if ingress is None:
            return _refused(503, "the plane does not take events now", "stopping")
        event = event_of(await _body(request, _MOST_EVENT))
        reader.events.follow(event.id)
        named = request.path_params
        return Passed(ingress, f"/{named['namespace']}/{named['broker']}", event)


async def _body(request: Request, most: int) -> bytes:
    """The body of a request. Raises TooLarge."""
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > most:
            raise TooLarge(f"the page sends at most {most:,} bytes here")
    return body


def _refused(status: int, message: str, reason: str) -> Response:
    return JSONResponse({"error": message, "reason": reason}, status)
