"""CORS on every path: a service's own flags, the plane's option, and no model woken by a question.

What is checked is what a browser checks (Fetch, "CORS check" and "CORS-preflight fetch").
"""

import json
from collections.abc import Sequence

import pytest
from aiohttp import web
from starlette.types import Receive, Scope, Send

from relume.config import InferenceService
from relume.serving.cross_origin import CrossOrigin, policy_of

from .conftest import Stage, Staging, service
from .conversation import Conversation, ask
from .virtual import hello

PAGE = "http://localhost:3000"
OTHER = "https://other.example"
OPEN = service(args=(f'--allowed-origins=["{PAGE}"]',))
CLOSED = service(name="embed")
CHAT = "/openai/v1/chat/completions"


def fetch(
    s: Stage,
    services: Sequence[InferenceService],
    method: str,
    path: str,
    origin: str = PAGE,
    *,
    plane: Sequence[str] = (),
    body: bytes = b"{}",
    **headers: str,
) -> Conversation:
    """What a page of `origin` asks of the plane."""
    app = CrossOrigin(s.plane.app, services, plane)
    return ask(app, path, method=method, headers={"origin": origin, **headers}, body=body)


def preflight(
    s: Stage,
    services: Sequence[InferenceService],
    path: str,
    origin: str = PAGE,
    plane: Sequence[str] = (),
) -> Conversation:
    wanted = {
        "access-control-request-method": "POST",
        "access-control-request-headers": "authorization,content-type",
    }
    return fetch(s, services, "OPTIONS", path, origin, plane=plane, body=b"", **wanted)


@pytest.mark.parametrize(
    ("path", "host"),
    [
        (CHAT, "localhost"),
        ("/openai/v1/models", "localhost"),
        ("/serving/default/summarize/v1/chat/completions", "localhost"),
        ("/serving/default/summarize/v2/models/summarize/infer", "localhost"),
        ("/v1/chat/completions", "summarize.default.example.com"),
    ],
)
async def test_a_preflight_passes_without_waking_the_service(
    stage: Staging, path: str, host: str
) -> None:
    async with stage(OPEN, CLOSED) as s:
        wanted = {"access-control-request-method": "POST", "host": host}
        asked = await fetch(s, [OPEN, CLOSED], "OPTIONS", path, body=b"", **wanted).end()
        assert asked.status == 200
        assert asked.headers["access-control-allow-origin"] == PAGE
        assert "POST" in asked.headers["access-control-allow-methods"]
        assert s.launcher.started == []


async def test_the_headers_that_a_page_wants_to_send_are_allowed(stage: Staging) -> None:
    async with stage(OPEN) as s:
        asked = await preflight(s, [OPEN], CHAT).end()
        assert asked.headers["access-control-allow-headers"] == "authorization,content-type"


@pytest.mark.parametrize(
    ("path", "origin"),
    [
        (CHAT, OTHER),
        ("/serving/default/summarize/v1/completions", OTHER),
        ("/serving/default/embed/v1/embeddings", PAGE),
        ("/relume/status", PAGE),
        ("/", PAGE),
    ],
)
async def test_an_origin_that_is_not_allowed_is_told_how_to_allow_it(
    stage: Staging, path: str, origin: str
) -> None:
    async with stage(OPEN, CLOSED) as s:
        asked = await preflight(s, [OPEN, CLOSED], path, origin).end()
        assert asked.status == 400
        assert "access-control-allow-origin" not in asked.headers
        assert f"--allowed-origin {origin}" in asked.body.decode()
        assert s.launcher.started == []


@pytest.mark.parametrize(
    ("path", "method", "body", "status"),
    [
        ("/openai/v1/models", "GET", b"", 200),
        ("/openai/v1/models/nosuch", "GET", b"", 404),
        ("/openai/v1/modelsx", "GET", b"", 404),
        ("/openai/v1/models", "DELETE", b"", 405),
        (CHAT, "POST", b"not JSON", 400),
        (CHAT, "POST", b'{"model":"nosuch"}', 404),
        ("/serving/default/nosuch/x", "GET", b"", 404),
        ("/", "GET", b"", 404),
    ],
)
async def test_the_list_and_our_own_errors_carry_the_header(
    stage: Staging, path: str, method: str, body: bytes, status: int
) -> None:
    async with stage(OPEN) as s:
        found = await fetch(s, [OPEN], method, path, plane=[PAGE], body=body).end()
        assert (found.status, found.headers["access-control-allow-origin"]) == (status, PAGE)


async def test_what_the_services_allow_holds_for_the_list_and_errors_of_openai(
    stage: Staging,
) -> None:
    async with stage(OPEN, CLOSED) as s:
        for path, body in (("/openai/v1/models", b""), (CHAT, b"{}")):
            method = "POST" if body else "GET"
            found = await fetch(s, [CLOSED, OPEN], method, path, body=body).end()
            assert found.headers["access-control-allow-origin"] == PAGE
            other = await fetch(s, [CLOSED, OPEN], method, path, OTHER, body=body).end()
            assert "access-control-allow-origin" not in other.headers
            assert other.headers["vary"] == "Origin"


async def test_an_answer_has_the_headers_of_the_service_that_gave_it(stage: Staging) -> None:
    async with stage(OPEN, CLOSED) as s:
        allowed = fetch(s, [OPEN, CLOSED], "POST", CHAT, body=b'{"model":"summarize"}')
        await s.ready(1)
        assert (await allowed.end()).headers["access-control-allow-origin"] == PAGE
        closed = fetch(s, [OPEN, CLOSED], "POST", CHAT, body=b'{"model":"embed"}')
        await s.ready(2)
        await closed.end()
        assert closed.status == 200
        assert "access-control-allow-origin" not in closed.headers


async def test_so_it_does_where_something_between_copies_the_scope(stage: Staging) -> None:
    async with stage(CLOSED, OPEN) as s:

        async def copying(scope: Scope, receive: Receive, send: Send) -> None:
            await s.plane.app({**scope}, receive, send)

        app = CrossOrigin(copying, [OPEN, CLOSED], [])
        closed = ask(app, CHAT, headers={"origin": PAGE}, body=b'{"model":"embed"}', state={})
        await s.ready()
        await closed.end()
        assert closed.status == 200
        assert "access-control-allow-origin" not in closed.headers


async def test_a_failure_of_the_service_has_its_headers_too(stage: Staging) -> None:
    slow = service(timeout_s=5.0, args=OPEN.args)
    async with stage(slow) as s:
        late = fetch(s, [slow], "POST", CHAT, body=b'{"model":"summarize"}')
        await s.launched()
        await s.clock.advance(6)
        await late.end()
        assert (late.status, late.headers["access-control-allow-origin"]) == (504, PAGE)


async def test_the_predictor_s_own_header_is_not_doubled(stage: Staging) -> None:
    async def allowing(request: web.Request) -> web.StreamResponse:
        own = {"access-control-allow-origin": request.headers["origin"], "vary": "Origin"}
        return web.json_response({}, headers=own)

    async with stage(OPEN, handler=allowing) as s:
        found = fetch(s, [OPEN], "POST", "/serving/default/summarize/x", plane=[PAGE])
        await s.ready()
        await found.end()
        assert found.headers["access-control-allow-origin"] == PAGE
        assert found.headers["vary"] == "Origin"


async def test_nor_is_its_word_that_the_answer_varies(stage: Staging) -> None:
    async def varying(request: web.Request) -> web.StreamResponse:
        return web.json_response({}, headers={"vary": "Origin"})

    async with stage(OPEN, handler=varying) as s:
        path = "/serving/default/summarize/x"
        found = fetch(s, [OPEN], "POST", path, OTHER)
        await s.ready()
        assert (await found.end()).headers["vary"] == "Origin"
        found = await fetch(s, [OPEN], "POST", path, OTHER, plane=[OTHER]).end()
        assert found.headers["access-control-allow-origin"] == OTHER
        assert found.headers["vary"] == "Origin"


@pytest.mark.parametrize("plane", [["*"], [OTHER, PAGE]])
async def test_the_plane_s_own_option_holds_for_every_path(
    stage: Staging, plane: Sequence[str]
) -> None:
    allowed = "*" if plane == ["*"] else PAGE
    async with stage(CLOSED) as s:
        for path in (CHAT, "/serving/default/embed/v1/embeddings", "/relume/status", "/x"):
            asked = await preflight(s, [CLOSED], path, plane=plane).end()
            assert (asked.status, asked.headers["access-control-allow-origin"]) == (200, allowed)


async def test_without_an_origin_nothing_is_changed(stage: Staging) -> None:
    async with stage(OPEN, handler=hello) as s:
        app = CrossOrigin(s.plane.app, [OPEN], ["*"])
        request = ask(app, "/serving/default/summarize/x")
        await s.ready()
        await request.end()
        assert not [name for name in request.headers if "access-control" in name or name == "vary"]
        options = ask(app, "/serving/default/summarize/x", method="OPTIONS", body=b"")
        assert json.loads((await options.end()).body) == {"hello": "/x"}


@pytest.mark.parametrize(
    ("args", "allows"),
    [
        ((f'--allowed-origins=["{PAGE}"]',), True),
        (("--allowed-origins", f'["{OTHER}", "{PAGE}"]'), True),
        ((f'--allowed_origins=["{PAGE}"]', "--dtype", "bfloat16"), True),
        (('--allowed-origins=["*"]',), True),
        ((f'--allowed-origins=["{PAGE}"]', "--allowed-origins=[]"), False),
        ((f'--allowed-origins=["{PAGE}/"]',), False),
        (("--allowed-origins",), False),
        (("--allowed-origins=*",), False),
        (("--allowed-origins={}",), False),
        (("--allowed-origins=[1]",), False),
        (("--allowed-methods=[]",), False),
        ((), False),
    ],
    ids=[
        "after an equals sign",
        "as an argument of its own",
        "with underscores",
        "every origin",
        "the last one counts",
        "another origin",
        "without a value",
        "no JSON",
        "an object",
        "no texts",
        "another flag",
        "none",
    ],
)
def test_flags_are_read_as_vllm_reads_them(args: tuple[str, ...], allows: bool) -> None:
    policy = policy_of(hello_app, args)
    assert (policy is not None and policy.is_allowed_origin(PAGE)) is allows


def test_methods_headers_and_credentials_are_the_service_s_own() -> None:
    policy = policy_of(
        hello_app,
        (
            *('--allowed-origins=["*"]', '--allowed-methods=["GET"]'),
            *('--allowed-headers=["x-a"]', "--allow-credentials"),
        ),
    )
    assert policy is not None
    assert list(policy.allow_methods) == ["GET"]
    assert "x-a" in policy.allow_headers
    assert "authorization" not in policy.allow_headers
    assert policy.allow_credentials


async def hello_app(scope: object, receive: object, send: object) -> None:
    """No request reaches it."""
