"""A compressed body reaches the application as the client meant it, or is refused with a reason."""

import gzip
import tracemalloc
import zlib
from collections.abc import AsyncIterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from served import H2C, Echo, answers, serving

from relume.web import bodies, codings
from relume.web.codings import BrokenCoding, Decoder

BODY = b'{"a": 1}' * 50


def raw_deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(data) + packer.flush()


def request(body: bytes, *headers: str, chunk: int = 0) -> bytes:
    head = "".join(f"{line}\r\n" for line in ("POST /v1/x HTTP/1.1", "Host: x", *headers)).encode()
    if not chunk:
        return head + b"Content-Length: %d\r\n\r\n" % len(body) + body
    parts = [body[at : at + chunk] for at in range(0, len(body), chunk)]
    coded = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts)
    return head + b"Transfer-Encoding: chunked\r\n\r\n" + coded + b"0\r\n\r\n"


@pytest.fixture
async def echo() -> AsyncIterator[tuple[int, Echo]]:
    app = Echo()
    async with serving(app) as port:
        yield port, app


@pytest.mark.parametrize("chunk", [0, 1, 100])
@pytest.mark.parametrize(
    ("headers", "body"),
    [
        pytest.param(["Content-Encoding: gzip"], gzip.compress(BODY), id="gzip"),
        pytest.param(["content-encoding: X-GZip"], gzip.compress(BODY), id="x-gzip"),
        pytest.param(["Content-Encoding: deflate"], zlib.compress(BODY), id="deflate"),
        pytest.param(["Content-Encoding: deflate"], raw_deflate(BODY), id="deflate without zlib"),
        pytest.param(["Content-Encoding: identity"], BODY, id="identity"),
        pytest.param(["Content-Encoding: Identity, gzip"], gzip.compress(BODY), id="a list"),
        pytest.param(["Content-Encoding:"], BODY, id="an empty header"),
        pytest.param(
            ["Content-Encoding: identity", "Content-Encoding: gzip"],
            gzip.compress(BODY),
            id="two headers",
        ),
        pytest.param(
            ["Content-Encoding: gzip"],
            gzip.compress(BODY[:7]) + gzip.compress(BODY[7:]) + b"\0" * 512,
            id="two gzip streams and padding",
        ),
        pytest.param(
            ["Content-Encoding: gzip", *H2C.decode().split("\r\n")[:-1]],
            gzip.compress(BODY),
            id="beside an offer to upgrade",
        ),
    ],
)
async def test_the_body_is_decoded(
    echo: tuple[int, Echo], headers: list[str], body: bytes, chunk: int
) -> None:
    [(status, _, said)] = await answers(echo[0], request(body, *headers, chunk=chunk))
    assert (status, said["body"]) == (200, BODY.decode())
    if body != BODY:
        assert not {"content-encoding", "content-length"} & set(said["headers"])


async def test_an_empty_body_is_empty(echo: tuple[int, Echo]) -> None:
    [(status, _, said)] = await answers(echo[0], request(b"", "Content-Encoding: gzip"))
    assert (status, said["body"]) == (200, "")


@pytest.mark.parametrize("coding", ["br", "zstd", "compress", "gzip, gzip", "klingon", "gzip, br"])
async def test_another_coding_is_refused_before_the_body_is_sent(
    echo: tuple[int, Echo], coding: str
) -> None:
    head = request(b"x" * 10, f"Content-Encoding: {coding}", "Expect: 100-continue")[:-10]
    [(status, headers, said)] = await answers(echo[0], head)
    assert (status, headers["accept-encoding"]) == (415, "gzip, deflate")
    assert headers["connection"] == "close"
    assert said["reason"] == "unsupported-encoding"
    assert said["error"]["message"].startswith(f"Content-Encoding: {coding!r}")
    assert not echo[1].asked


@pytest.mark.parametrize("coding", ["br", "gzip"])
@pytest.mark.parametrize("length", ["", "Content-Length: 0\r\n"])
async def test_a_request_without_a_body_has_nothing_to_decode(
    echo: tuple[int, Echo], coding: str, length: str
) -> None:
    sent = f"GET /v1/models HTTP/1.1\r\nHost: x\r\nContent-Encoding: {coding}\r\n{length}\r\n"
    [(status, _, said)] = await answers(echo[0], sent.encode())
    assert (status, said["body"]) == (200, "")


@pytest.mark.parametrize(
    ("coding", "body"),
    [
        pytest.param("gzip", BODY, id="no gzip at all"),
        pytest.param("gzip", gzip.compress(BODY)[:-9], id="the end is missing"),
        pytest.param("gzip", gzip.compress(BODY)[:-8] + bytes(8), id="a wrong checksum"),
        pytest.param("gzip", gzip.compress(BODY) + b"more", id="something behind it"),
        pytest.param("gzip", gzip.compress(b"") * 2000, id="too many streams"),
        pytest.param("deflate", zlib.compress(BODY)[:-1], id="deflate without its end"),
        pytest.param("deflate", zlib.compress(BODY) + b"more", id="deflate and more"),
        pytest.param("deflate", b"x", id="one byte"),
    ],
)
async def test_a_body_that_is_not_what_it_says_is_refused(
    echo: tuple[int, Echo], coding: str, body: bytes
) -> None:
    [(status, _, said)] = await answers(echo[0], request(body, f"Content-Encoding: {coding}"))
    assert (status, said["reason"]) == (400, "broken-encoding")
    assert not echo[1].asked


async def test_a_transfer_coding_that_is_not_chunked_is_refused(echo: tuple[int, Echo]) -> None:
    sent = request(gzip.compress(BODY), chunk=100).replace(b"chunked", b"gzip, chunked")
    [(status, _, said)] = await answers(echo[0], sent)
    assert (status, said["reason"]) == (501, "unsupported-transfer-encoding")
    assert not echo[1].asked


async def test_a_bomb_is_refused_before_it_is_unpacked(monkeypatch: pytest.MonkeyPatch) -> None:
    bomb = gzip.compress(bytes(200 * 2**20), 9)
    monkeypatch.setattr(bodies, "MAX_DECODED_BYTES", 2**20)
    app = Echo()  # it has no bound of its own
    async with serving(app) as port:
        tracemalloc.start()
        [(status, _, said)] = await answers(port, request(bomb, "Content-Encoding: gzip"))
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert (status, said["reason"]) == (413, "too-large")
    assert app.gone.is_set()
    assert peak < 10 * 2**20


async def test_at_the_broker_a_refusal_is_a_text_and_a_reason() -> None:
    said = bodies.as_at_broker("/default/b", 415, "Content-Encoding: 'br' is not supported", "r")
    assert said == {"error": "Content-Encoding: 'br' is not supported", "reason": "r"}


@given(
    st.binary(max_size=2000).map(lambda b: b * 40),
    st.sampled_from(["gzip", "deflate", "raw"]),
    st.lists(st.integers(1, 5000), min_size=1, max_size=8),
)
def test_however_it_is_cut_it_decodes_the_same(data: bytes, kind: str, cuts: list[int]) -> None:
    packed = {"gzip": gzip.compress, "deflate": zlib.compress, "raw": raw_deflate}[kind](data)
    decoder = Decoder("gzip" if kind == "gzip" else "deflate")
    found, at = [], 0
    while at < len(packed):
        step = cuts[at % len(cuts)]
        found += decoder.feed(packed[at : at + step])
        at += step
    assert b"".join(found) + decoder.end() == data


@given(st.binary(max_size=300))
def test_any_bytes_are_decoded_or_refused(data: bytes) -> None:
    for coding in ("gzip", "deflate"):
        decoder = Decoder(coding)
        try:
            pieces = [*decoder.feed(data), decoder.end()]
        except BrokenCoding:
            continue
        assert all(len(piece) <= codings.PIECE_BYTES for piece in pieces)


def test_pieces_are_bounded() -> None:
    packed = gzip.compress(bytes(30 * 2**20))
    sizes = [len(piece) for piece in Decoder("gzip").feed(packed)]
    assert sum(sizes) == 30 * 2**20
    assert max(sizes) <= codings.PIECE_BYTES
