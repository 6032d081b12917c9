"""Host, path template and /openai/v1 through the plane, and what is changed on the way."""

import json
from typing import Any

import pytest
from aiohttp import web

from .conftest import Stage, Staging, service
from .conversation import Conversation


async def mirror(request: web.Request) -> web.StreamResponse:
    body = (await request.read()).decode()
    headers = [[k.decode().lower(), v.decode()] for k, v in request.raw_headers]
    seen = {"method": request.method, "target": request.raw_path, "headers": headers, "body": body}
    return web.json_response(seen, headers={"x-predictor": "yes", "connection": "close"})


async def mirrored(s: Stage, request: Conversation) -> dict[str, Any]:
    if s.noticed[0] == 0:
        await s.ready()
    await request.end()
    assert request.status == 200, request.body
    found: dict[str, Any] = json.loads(request.body)
    return found


def names(found: dict[str, Any]) -> dict[str, str]:
    return dict(found["headers"])


async def test_a_host_reaches_the_service_with_the_path_as_it_is(stage: Staging) -> None:
    """Checklist A12."""
    async with stage(handler=mirror) as s:
        host = {"host": "summarize.default.example.com:8080"}
        found = await mirrored(s, s.ask("/v1/a%2Fb?x=1&y=%20", headers=host))
        assert found["target"] == "/v1/a%2Fb?x=1&y=%20"
        assert names(found)["host"] == "summarize.default.example.com:8080"


async def test_the_path_template_s_prefix_is_taken_off(stage: Staging) -> None:
    async with stage(handler=mirror) as s:
        found = await mirrored(s, s.ask("/serving/default/summarize/v2/models?x=1", method="GET"))
        assert (found["method"], found["target"]) == ("GET", "/v2/models?x=1")


async def test_openai_s_model_field_reaches_its_service(stage: Staging) -> None:
    services = (service(), service(name="embed"))
    async with stage(*services, handler=mirror) as s:
        body = b'{"model":"embed","input":"hi"}'
        found = await mirrored(s, s.ask("/openai/v1/embeddings", body=body))
        assert (found["target"], found["body"]) == ("/v1/embeddings", body.decode())
        assert (s.status("embed")["replicas"], s.status("summarize")["replicas"]) == (1, 0)


async def test_a_model_s_name_is_translated_to_what_its_server_calls_it(stage: Staging) -> None:
    async with stage(service(args=("--served-model-name=smol",)), handler=mirror) as s:
        body = b'{"model":"default/summarize","stream":true}'
        length = {"content-length": str(len(body))}
        found = await mirrored(s, s.ask("/openai/v1/completions", body=body, headers=length))
        assert json.loads(found["body"]) == {"model": "smol", "stream": True}
        assert names(found)["content-length"] == str(len(found["body"]))


async def test_openai_s_models_are_listed_without_waking_one(stage: Staging) -> None:
    async with stage(service(), service(name="embed")) as s:
        listed = await s.ask("/openai/v1/models", method="GET").end()
        parsed = json.loads(listed.body)
        assert parsed["object"] == "list"
        assert [m["id"] for m in parsed["data"]] == ["summarize", "embed"]
        assert {m["object"] for m in parsed["data"]} == {"model"}
        one = await s.ask("/openai/v1/models/embed", method="GET").end()
        assert json.loads(one.body)["id"] == "embed"
        assert s.launcher.started == []


@pytest.mark.parametrize(
    ("path", "method", "body", "status", "reason"),
    [
        ("/openai/v1/models/nosuch", "GET", b"", 404, "model-unknown"),
        ("/openai/v1/chat/completions", "POST", b'{"model":"nosuch"}', 404, "model-unknown"),
        ("/openai/v1/chat/completions", "POST", b"{}", 400, "bad-request"),
        ("/openai/v1/chat/completions", "POST", b"not json", 400, "bad-request"),
        ("/openai/v1/chat/completions", "POST", b'"text"', 400, "bad-request"),
    ],
)
async def test_a_model_that_is_not_here_is_told_in_openai_s_shape(
    stage: Staging, path: str, method: str, body: bytes, status: int, reason: str
) -> None:
    async with stage() as s:
        request = await s.ask(path, method=method, body=body).end()
        assert request.status == status
        parsed = json.loads(request.body)
        assert parsed["reason"] == reason
        assert set(parsed["error"]) == {"message", "type", "param", "code"}
        assert s.launcher.started == []


@pytest.mark.parametrize("path", ["/", "/v1/models", "/serving/default/nosuch/x", "/serving/x"])
async def test_an_address_that_names_no_service_is_404_in_plain_text(
    stage: Staging, path: str
) -> None:
    async with stage() as s:
        request = await s.ask(path).end()
        assert request.status == 404
        assert request.headers["content-type"].startswith("text/plain")


async def test_a12_headers_of_ours_and_of_the_connection_are_not_passed_on(stage: Staging) -> None:
    """Checklist A12."""
    given = {
        "knative-serving-namespace": "x",
        "knative-serving-revision": "y",
        "relume-queue-ms": "1",
        "relume-anything": "2",
        "connection": "keep-alive",
        "te": "trailers",
        "ce-id": "e-1",
        "x-custom": "kept",
    }
    async with stage(handler=mirror) as s:
        request = s.ask(headers=given)
        found = await mirrored(s, request)
        headers = names(found)
        assert headers["x-custom"] == "kept"
        assert headers["ce-id"] == "e-1"
        assert not {"knative-serving-namespace", "knative-serving-revision", "te"} & set(headers)
        assert "relume-anything" not in headers
        assert headers["relume-queue-ms"] != "1"
        assert request.headers["x-predictor"] == "yes"
        assert "connection" not in request.headers


async def test_the_wait_is_told_once_where_the_predictor_is_itself_behind_a_plane(
    stage: Staging,
) -> None:
    async def behind(_: web.Request) -> web.StreamResponse:
        return web.Response(headers={"Relume-Queue-Ms": "71", "Relume-Model": "m"})

    async with stage(handler=behind) as s:
        request = s.ask()
        await s.ready()
        await request.end()
        told = [each for each in request.raw_headers if each[0].startswith(b"relume-")]
        assert told[0] == (b"relume-model", b"m")
        assert [name for name, _ in told[1:]] == [b"relume-queue-ms", b"relume-cold-start-ms"]
        assert told[1][1] != b"71"


async def test_a_held_request_tells_the_predictor_how_long_it_waited(stage: Staging) -> None:
    async with stage(handler=mirror) as s:
        request = s.ask()
        await s.launched()
        await s.clock.advance(7)
        first = names(await mirrored(s, request))
        assert int(first["relume-queue-ms"]) >= 7000
        assert int(first["relume-cold-start-ms"]) >= 7000
        # The client is told of the cold start too: a job counts it.
        assert request.headers["relume-cold-start-ms"] == first["relume-cold-start-ms"]
        assert request.headers["relume-queue-ms"] == first["relume-queue-ms"]
        second = s.ask()
        warm = names(await mirrored(s, second))
        assert warm["relume-queue-ms"] == "0"
        assert "relume-cold-start-ms" not in warm
        assert "relume-cold-start-ms" not in second.headers


async def test_a_host_s_own_list_of_models_is_its_predictor_s(stage: Staging) -> None:
    async with stage(handler=mirror) as s:
        host = {"host": "summarize.default.example.com"}
        found = await mirrored(s, s.ask("/openai/v1/models", method="GET", headers=host))
        assert found["target"] == "/openai/v1/models"


async def test_a_body_too_large_to_look_for_a_model_is_413(stage: Staging) -> None:
    async with stage(body_limit=1000) as s:
        request = await s.ask("/openai/v1/completions", body=b"x" * 1001).end()
        assert request.status == 413
        assert json.loads(request.body)["reason"] == "body-too-large"


async def test_header_bytes_beyond_ascii_arrive_as_they_were(stage: Staging) -> None:
    """Checklist A12."""
    async with stage(handler=mirror) as s:
        request = s.ask(headers={"x-name": "Grüße"})
        assert names(await mirrored(s, request))["x-name"] == "Grüße"


async def test_a_body_in_pieces_arrives_whole(stage: Staging) -> None:
    async with stage(handler=mirror) as s:
        request = s.ask(body=b"x" * 100_000)
        found = await mirrored(s, request)
        assert found["body"] == "x" * 100_000
