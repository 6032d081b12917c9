"""Whatever a client sends: no 5xx of our making, and no 2xx whose body is not an event."""

import asyncio
import base64
import json
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, unquote

import jsonschema
from cloudevents.http import from_http
from event_client import EVENT
from hypothesis import given, settings
from hypothesis import strategies as st
from stub_vllm import MODEL, Stub

from tests.conformance.event_schema import EVENT_SCHEMA

PATHS = [
    *("/", "/", "/", "/", "/", "/", "/", "/"),
    *("/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/nothing", "/health"),
    *(f"/v1/models/{MODEL}:predict", "/v1/models/other:predict", f"/v2/models/{MODEL}/infer"),
]
MEDIA = [
    *("application/json", "text/plain", "application/octet-stream", "application/json; charset=x"),
    *("application/cloudevents+json", "application/cloudevents-batch+json"),
    *("application/cloudevents+json; charset=utf-16", "text/plain; charset=iso-8859-1"),
]


def in_base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


# What an HTTP server lets through as a header value: no control characters but the tab.
wire_text = st.text(st.characters(codec="latin-1", exclude_categories=["Cc"]), max_size=30)
names = st.sampled_from(["id", "source", "type", "specversion", "subject", "time", "expirytime"])
foreign = st.sampled_from(
    ["prefer", "relume-queue-ms", "relume-cold-start-ms", "inference-header-content-length"]
)
words = st.sampled_from(["reply", "-1", "9" * 20, "²", "0", "99999999999999999999", "2020-01-01"])
values = words | wire_text

numbers = st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False)
scalars = st.none() | st.booleans() | numbers | st.text(max_size=10)
anything = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=6,
)
user = {"role": "user", "content": "hi"}
tensor = {"name": "q", "datatype": "BYTES", "shape": [2], "data": ["a", "b"]}
WHOLE: list[dict[str, Any]] = [
    {"messages": [user]},
    {"prompt": "hi", "stream": True},
    {"input": ["a", "b"]},
    {"instances": ["a", user, {"prompt": "b"}]},
    {"instances": [{"messages": [user], "seed": 1}], "parameters": {"n": 1}},
    {"inputs": [tensor], "outputs": [{"name": "text_output", "parameters": {}}]},
    {"id": "7", "inputs": [tensor], "parameters": {"seed": 1}, "model": MODEL},
]


def broken(value: Any) -> st.SearchStrategy[Any]:
    """`value` with one or two of its parts, however deep, replaced by anything."""
    if isinstance(value, dict) and value:
        part = st.sampled_from(sorted(value)).flatmap(
            lambda name: broken(value[name]).map(lambda new: {**value, name: new})
        )
        return anything | part | part | part
    if isinstance(value, list) and value:
        return anything | broken(value[0]).map(lambda new: [new, *value[1:]])
    return anything


payloads = st.sampled_from(WHOLE).flatmap(
    lambda whole: (
        st.just(whole)
        | broken(whole).filter(lambda value: isinstance(value, dict))
        | st.dictionaries(st.sampled_from(["model", "stream", "parameters", "id"]), anything).map(
            lambda more: {**whole, **more}
        )
    )
)
documents = payloads.map(lambda data: json.dumps(data).encode())
bodies = documents | documents | documents | st.binary(max_size=50)


@dataclass(frozen=True)
class Answered:
    """A status, headers in lower case, and a body."""

    status: int
    headers: dict[str, str]
    body: bytes


def post(path: str, headers: dict[str, str], body: bytes) -> Answered:
    """What a server behind our middleware answers; whatever escapes from it escapes from here."""
    stub = Stub()
    sent: list[Any] = []
    incoming = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> dict[str, Any]:
        return incoming.pop() if incoming else await asyncio.Event().wait()  # type: ignore[return-value]

    async def send(message: Any) -> None:
        sent.append(message)

    raw = [(k.encode("latin-1"), v.encode("latin-1")) for k, v in headers.items()]
    scope = {
        **{"type": "http", "http_version": "1.1", "method": "POST", "scheme": "http"},
        **{"path": path, "raw_path": path.encode(), "query_string": b"", "root_path": ""},
        **{"headers": raw, "server": ("127.0.0.1", 80), "client": ("127.0.0.1", 9)},
    }
    asyncio.run(stub.app(scope, receive, send))
    found = {k.decode("latin-1"): v.decode("latin-1") for k, v in sent[0]["headers"]}
    return Answered(sent[0]["status"], found, b"".join(m.get("body", b"") for m in sent[1:]))


def judge(answer: Answered) -> dict[str, Any] | None:
    """The reply as a JSON document, or None where the status says that there is none."""
    assert answer.status in {200, 400, 409, 413, 422, 429}, answer
    if answer.status == 200 and not answer.body:
        return None
    kind = answer.headers["content-type"]
    if kind == "application/cloudevents+json":
        return json.loads(answer.body)  # type: ignore[no-any-return]
    if not any(name.startswith("ce-") for name in answer.headers):
        assert answer.status >= 400, "a 2xx with a body that is not an event"
        assert json.loads(answer.body)["reason"]
        return None
    names = {k[3:]: unquote(v) for k, v in answer.headers.items() if k.startswith("ce-")}
    return {**names, "datacontenttype": kind, "data": json.loads(answer.body)}


def check(answer: Answered) -> None:
    document = judge(answer)
    if document is None:
        return
    jsonschema.validate(document, EVENT_SCHEMA, format_checker=jsonschema.FormatChecker())
    seen = from_http(answer.headers, answer.body)  # another implementation's reading of it
    assert seen["type"] in ("relume.inference.response", "relume.inference.error")
    assert seen["id"] == document["id"]
    if "data" in document:
        assert seen.get_data() == document["data"]
    else:
        assert json.loads(base64.b64decode(document["data_base64"]))
    if answer.status >= 400:
        assert document["type"] == "relume.inference.error"


@given(
    path=st.sampled_from(PATHS),
    headers=st.dictionaries(names.map("ce-{}".format) | foreign, values, max_size=6),
    media=st.sampled_from(MEDIA) | wire_text,
    body=bodies,
)
@settings(deadline=None, max_examples=150)
def test_no_headers_and_no_body_make_a_5xx(
    process_for_fuzz: None,
    path: str,
    headers: dict[str, str],
    media: str,
    body: bytes,
) -> None:
    headers["ce-type"] = headers.get("ce-type", "x")  # an event, however broken
    check(post(path, {**headers, "content-type": media}, body))


@given(
    path=st.sampled_from(PATHS),
    extensions=st.just({})
    | st.dictionaries(names | st.from_regex(r"[a-z0-9]{1,9}", fullmatch=True), values),
    more=st.dictionaries(foreign, values),
    media=st.just(MEDIA[0]) | st.sampled_from(MEDIA[:4]),
    body=bodies,
)
@settings(deadline=None, max_examples=250)
def test_no_binary_event_makes_a_5xx(
    process_for_fuzz: None,
    path: str,
    extensions: dict[str, str],
    more: dict[str, str],
    media: str,
    body: bytes,
) -> None:
    attributes = {**extensions, **EVENT, **{k: v for k, v in extensions.items() if k == "subject"}}
    encoded = {f"ce-{name}": quote(value, safe=" /:.-") for name, value in attributes.items()}
    check(post(path, {**encoded, **more, "content-type": media}, body))


@given(
    path=st.sampled_from(PATHS),
    members=st.just({})
    | st.just({})
    | st.dictionaries(names | st.text(max_size=5), anything, max_size=2),
    data=st.fixed_dictionaries({"data": payloads})
    | st.fixed_dictionaries({"data_base64": documents.map(in_base64)})
    | st.fixed_dictionaries({"data": anything}, optional={"datacontenttype": values})
    | st.fixed_dictionaries({"data_base64": st.binary().map(in_base64) | anything}),
    more=st.dictionaries(foreign, values),
)
@settings(deadline=None, max_examples=250)
def test_no_structured_event_makes_a_5xx(
    process_for_fuzz: None,
    path: str,
    members: dict[str, Any],
    data: dict[str, Any],
    more: dict[str, str],
) -> None:
    body = json.dumps({**EVENT, **members, **data}).encode()
    headers = {**more, "content-type": "application/cloudevents+json"}
    check(post(path, headers, body))


@given(path=st.sampled_from(PATHS[-3:]), payload=payloads, length=st.none() | values)
@settings(deadline=None, max_examples=250)
def test_no_plain_request_to_v1_or_v2_makes_a_5xx(
    process_for_fuzz: None, path: str, payload: dict[str, Any], length: str | None
) -> None:
    headers = {"content-type": "application/json"}
    if length is not None:
        headers["inference-header-content-length"] = length
    answer = post(path, headers, json.dumps(payload).encode())
    assert answer.status in {200, 400, 404}, answer
    if answer.status != 200:
        assert isinstance(json.loads(answer.body)["error"], str)
