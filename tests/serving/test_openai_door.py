"""/openai/v1 before any predictor: what names no model, a wrong method, encodings and forms."""

import json
from time import thread_time
from typing import Any

import pytest
from aiohttp import web

from relume.serving.errors import ModelUnnamed
from relume.serving.model_field import named_in

from .conftest import Stage, Staging, service
from .conversation import Conversation
from .test_addresses import mirror, mirrored, names

RENAMED = service(args=("--served-model-name=smol",))


async def bytes_back(request: web.Request) -> web.StreamResponse:
    return web.Response(body=await request.read())


async def refused(s: Stage, request: Conversation) -> dict[str, Any]:
    """The error in OpenAI's shape; no model was woken."""
    await request.end()
    assert s.launcher.started == []
    found: dict[str, Any] = json.loads(request.body)
    assert set(found["error"]) == {"message", "type", "param", "code"}
    return found


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/openai/v1/responses/resp_1"),
        ("DELETE", "/openai/v1/responses/resp_1"),
        ("POST", "/openai/v1/responses/resp_1/cancel"),
        ("POST", "/openai/v1/chat/completions"),
        ("GET", "/openai/v1/files"),
    ],
)
async def test_a_request_without_a_body_is_told_what_to_add(
    stage: Staging, method: str, path: str
) -> None:
    async with stage(service(), service(name="embed")) as s:
        request = s.ask(path, method=method, body=b"")
        error = (await refused(s, request))["error"]
        assert (request.status, error["param"]) == (400, "model")
        assert "?model=NAME" in error["message"]
        assert "summarize, embed" in error["message"]


async def test_a_model_in_the_query_is_enough(stage: Staging) -> None:
    async with stage(handler=mirror) as s:
        path = "/openai/v1/responses/resp_1?model=summarize"
        found = await mirrored(s, s.ask(path, method="GET", body=b""))
        assert (found["method"], found["target"]) == ("GET", "/v1/responses/resp_1?model=summarize")


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("DELETE", "/openai/v1/models/summarize", "GET, HEAD"),
        ("POST", "/openai/v1/models", "GET, HEAD"),
        ("DELETE", "/openai/v1/models/summarize?model=summarize", "GET, HEAD"),
        ("OPTIONS", "/openai/v1/models", "GET, HEAD"),
        ("GET", "/openai/v1/chat/completions", "POST"),
        ("HEAD", "/openai/v1/completions/", "POST"),
        ("PUT", "/openai/v1/embeddings?model=summarize", "POST"),
        ("GET", "/openai/v1/audio/transcriptions", "POST"),
    ],
)
async def test_a_method_that_the_path_does_not_have_is_405(
    stage: Staging, method: str, path: str, allow: str
) -> None:
    async with stage() as s:
        request = s.ask(path, method=method, body=b"")
        assert (await refused(s, request))["reason"] == "method-not-allowed"
        assert (request.status, request.headers["allow"]) == (405, allow)


@pytest.mark.parametrize(
    "path",
    ["/openai/v1/modelssummarize", "/openai/v1/models:x", "/openai/v1", "/openai/v1/"],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_path_that_only_begins_like_a_route_is_404(
    stage: Staging, method: str, path: str
) -> None:
    async with stage() as s:
        request = s.ask(path, method=method)
        assert (await refused(s, request))["reason"] == "route-unknown"
        assert request.status == 404


@pytest.mark.parametrize("path", ["/openai/v1x/models", "/openai", "/serving/default", "/servingx"])
async def test_a_longer_or_shorter_prefix_is_404(stage: Staging, path: str) -> None:
    async with stage() as s:
        assert (await s.ask(path, method="GET").end()).status == 404


@pytest.mark.parametrize(
    ("path", "model"),
    [
        ("/openai/v1/models/", None),
        ("/openai/v1/%6dodels", None),
        ("/openai/v1/models/summarize/", "summarize"),
        ("/openai/v1/models/default%2Fsummarize", "default/summarize"),
        ("/openai/v1/models/default/summarize", "default/summarize"),
    ],
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_the_list_and_a_model_are_found_however_they_are_written(
    stage: Staging, method: str, path: str, model: str | None
) -> None:
    async with stage() as s:
        request = await s.ask(path, method=method, body=b"").end()
        assert request.status == 200
        assert json.loads(request.body).get("id") == model
        assert s.launcher.started == []


ENCODINGS = ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-be"]


@pytest.mark.parametrize("encoding", ENCODINGS)
async def test_json_in_any_encoding_of_unicode_names_its_model(
    stage: Staging, encoding: str
) -> None:
    async with stage(handler=bytes_back) as s:
        body = json.dumps({"model": "summarize", "prompt": "Grüße"}, ensure_ascii=False)
        request = s.ask("/openai/v1/completions", body=body.encode(encoding))
        await s.ready()
        await request.end()
        assert request.body == body.encode(encoding)


@pytest.mark.parametrize("encoding", ENCODINGS)
async def test_and_gets_the_predictor_s_own_name_in_utf_8(stage: Staging, encoding: str) -> None:
    async with stage(RENAMED, handler=mirror) as s:
        body = json.dumps({"model": "summarize", "prompt": "Grüße"}).encode(encoding)
        length = {"content-length": str(len(body))}
        found = await mirrored(s, s.ask("/openai/v1/completions", body=body, headers=length))
        assert json.loads(found["body"]) == {"model": "smol", "prompt": "Grüße"}
        assert names(found)["content-length"] == str(len(found["body"].encode()))


FORM = (
    b"--b1\r\n"
    b'Content-Disposition: form-data; name="file"; filename="model"\r\n'
    b"Content-Type: audio/wav\r\n\r\n"
    b'RIFF\x00\r\n--b2\r\nname="model"\r\n\r\nother'
    b"\r\n--b1\r\n"
    b'content-disposition: form-data; name="model"\r\n\r\n'
    b"summarize"
    b"\r\n--b1--\r\n"
)
MULTIPART = {"content-type": "multipart/form-data; boundary=b1"}


async def test_a_form_names_its_model(stage: Staging) -> None:
    async with stage(service(), service(name="embed"), handler=bytes_back) as s:
        request = s.ask("/openai/v1/audio/transcriptions", body=FORM, headers=MULTIPART)
        await s.ready()
        await request.end()
        assert request.body == FORM


async def test_a_form_gets_the_predictor_s_own_name(stage: Staging) -> None:
    async with stage(RENAMED, handler=bytes_back) as s:
        sized = {**MULTIPART, "content-length": str(len(FORM))}
        request = s.ask("/openai/v1/audio/transcriptions", body=FORM, headers=sized)
        await s.ready()
        await request.end()
        assert request.body == FORM.replace(b"\r\n\r\nsummarize\r\n", b"\r\n\r\nsmol\r\n")


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (FORM.replace(b"b1", b"b3"), "not the form"),
        (FORM.replace(b'name="model"\r\n\r\nsumm', b'name="x"\r\n\r\nsumm'), "names no model"),
        (FORM[: FORM.index(b"summarize")], "names no model"),
        (FORM.replace(b"summarize", b"nosuch"), "does not exist"),
        (b"--b1\r\n\r\n1\r\n" * 2000, "more than 1000 fields"),
    ],
    ids=["another boundary", "no such field", "cut off", "an unknown model", "too many fields"],
)
async def test_a_form_that_names_no_model_is_refused(
    stage: Staging, body: bytes, says: str
) -> None:
    async with stage() as s:
        request = s.ask("/openai/v1/audio/transcriptions", body=body, headers=MULTIPART)
        assert says in (await refused(s, request))["error"]["message"]


@pytest.mark.parametrize(
    "disposition",
    [
        b'Content-Disposition: form-data; name="model"',
        b"content-disposition:form-data;name=model",
        b'X-A: b\r\nContent-Disposition: form-data; filename="\xc3\xa4; name=\\"x"; NAME = model',
    ],
    ids=["quoted", "a token", "behind a file's name"],
)
def test_the_name_of_a_field_is_read_however_it_is_written(disposition: bytes) -> None:
    body = b"before it\r\n--b\r\n" + disposition + b"\r\n\r\nm\r\n--b--"
    named = named_in('multipart/form-data; boundary="b"', body)
    assert named.name == "m"
    assert named.renamed("longer") == body.replace(b"\nm\r", b"\nlonger\r")


@pytest.mark.parametrize(
    "part",
    [
        b"X-A: y\r\n" * 1000,
        b"Content-Disposition: " + b";" * 8000 + b"\r\n",
        b"Content-Disposition: " + b';a="\\' * 2000 + b"\r\n",
    ],
    ids=["many headers", "many parameters", "quotes without an end"],
)
def test_a_form_that_is_made_to_be_slow_is_not(part: bytes) -> None:
    body = (b"--b\r\n" + part + b"\r\nv\r\n") * 999 + b"--b--\r\n"
    began = thread_time()
    with pytest.raises(ModelUnnamed):
        named_in("multipart/form-data; boundary=b", body)
    assert thread_time() - began < 2  # of the processor: others may want it too


@pytest.mark.parametrize("body", [b"model=summarize&x=%C3%A4", b'{"model":"summarize"}'])
async def test_a_url_encoded_form_names_its_model_and_so_does_json_of_that_type(
    stage: Staging, body: bytes
) -> None:
    kind = {"content-type": "application/x-www-form-urlencoded", "content-length": str(len(body))}
    async with stage(RENAMED, handler=mirror) as s:
        found = await mirrored(s, s.ask("/openai/v1/completions", body=body, headers=kind))
        assert found["body"] == body.decode().replace("summarize", "smol")


@pytest.mark.parametrize(
    "body", [b"\xff\xfe\x00", b"\xef\xbb\xbf", b"{", b"\x00" * 7, b"[" * 100_000, b"nonsense"]
)
async def test_what_is_not_json_in_any_encoding_is_400(stage: Staging, body: bytes) -> None:
    async with stage() as s:
        request = s.ask("/openai/v1/completions", body=body)
        assert "not JSON" in (await refused(s, request))["error"]["message"]
        assert request.status == 400
