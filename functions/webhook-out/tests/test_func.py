"""What an endpoint gets, and what its answers become."""

import asyncio
import json
import ssl
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
from environment import SECRET
from function import new
from function.addresses import AddressError, endpoint_of, is_public
from standardwebhooks import Webhook, WebhookVerificationError

TICKET = {"category": "billing"}
OTHER_SECRET = "whsec_" + "b" * 32


class Endpoint:
    """An HTTP server that answers each POST with the next of `answers`, or with the last one."""

    def __init__(self, *answers: str) -> None:
        self.answers = list(answers)
        self.got: list[tuple[dict[str, str], bytes]] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")[1:-2]
            headers = {k.lower(): v for k, v in (line.split(": ", 1) for line in head)}
            body = await reader.readexactly(int(headers["content-length"]))
            self.got.append((headers, body))
            answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
            writer.write(f"HTTP/1.1 {answer}\r\ncontent-length: 0\r\n\r\n".encode())
            await writer.drain()
        finally:
            writer.close()


@asynccontextmanager
async def listening(endpoint: Endpoint, **options: object) -> AsyncIterator[int]:
    server = await asyncio.start_server(endpoint.serve, "127.0.0.1", 0, **options)
    async with server:
        yield server.sockets[0].getsockname()[1]


@pytest.fixture
def started(running, tmp_path: Path) -> Callable[..., object]:
    def start(url: str, secrets: str = SECRET, **cfg: str):
        (tmp_path / "secret").write_text(secrets)
        values = {"WEBHOOK_ALLOW_PRIVATE": "true", "WEBHOOK_TIMEOUT_S": "2"} | cfg
        secret_file = str(tmp_path / "secret")
        return running(WEBHOOK_URL=url, WEBHOOK_SECRET_FILE=secret_file, **values)

    return start


async def test_an_event_is_posted_signed_and_settled(started) -> None:
    endpoint = Endpoint("204 No Content")
    async with listening(endpoint) as port:
        function = started(f"http://127.0.0.1:{port}/hook?a=1")
        reply = await function.post(TICKET, subject="ticket-7", time="2026-01-02T03:04:05Z")
    assert (reply.status, reply.type, reply.body) == (200, None, b"")
    ((headers, body),) = endpoint.got
    told = Webhook(SECRET).verify(body, headers)
    assert told == {
        "type": "com.example.asked",
        "timestamp": "2026-01-02T03:04:05Z",
        "data": TICKET,
        "event": {
            "id": "1",
            "source": "/shop",
            "type": "com.example.asked",
            "subject": "ticket-7",
        },
    }
    assert headers["host"] == f"127.0.0.1:{port}"
    with pytest.raises(WebhookVerificationError):
        Webhook(SECRET).verify(body.replace(b"billing", b"account"), headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(OTHER_SECRET).verify(body, headers)


def test_the_signature_is_that_of_the_published_vector() -> None:
    """The example of the Standard Webhooks specification, "Verifying webhook authenticity"."""
    signed = Webhook(SECRET).sign(
        "msg_p5jXN8AQM9LWM0D4loKWxJek",
        datetime.fromtimestamp(1614265330, UTC),
        '{"test": 2432232314}',
    )
    assert signed == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


async def test_an_attempt_repeats_the_id_of_the_one_before(started) -> None:
    endpoint = Endpoint("503 Busy", "200 OK")
    async with listening(endpoint) as port:
        function = started(f"http://127.0.0.1:{port}/")
        statuses = [(await function.post(TICKET)).status for _ in range(2)]
        await function.post(TICKET, id="2")
    ids = [headers["webhook-id"] for headers, _ in endpoint.got]
    assert statuses == [503, 200]
    assert ids[0] == ids[1] != ids[2]


async def test_during_a_rotation_both_secrets_verify(started) -> None:
    endpoint = Endpoint("200 OK")
    async with listening(endpoint) as port:
        await started(f"http://127.0.0.1:{port}/", f"{OTHER_SECRET}\n{SECRET}\n").post(TICKET)
    for secret in (SECRET, OTHER_SECRET):
        Webhook(secret).verify(endpoint.got[0][1], endpoint.got[0][0])


@pytest.mark.parametrize(
    ("answer", "status", "reason", "retry_after"),
    [
        ("429 Too Many\r\nretry-after: 17", 429, "endpoint-busy", "17"),
        ("503 Busy\r\nretry-after: 99999", 503, "endpoint-failed", "3600"),
        ("500 Oops\r\nretry-after: soon", 503, "endpoint-failed", "5"),
        ("408 Slow", 503, "endpoint-failed", "5"),
        ("410 Gone", 422, "endpoint-gone", None),
        ("404 Not Found", 422, "endpoint-refused", None),
        ("302 Found\r\nlocation: http://127.0.0.1:1/", 422, "endpoint-refused", None),
    ],
)
async def test_the_broker_is_told_what_the_endpoint_said(
    started, answer: str, status: int, reason: str, retry_after: str | None
) -> None:
    endpoint = Endpoint(answer)
    async with listening(endpoint) as port:
        reply = await started(f"http://127.0.0.1:{port}/").post(TICKET)
    assert (reply.status, reply.data["reason"]) == (status, reason)
    assert reply.headers.get("retry-after") == retry_after
    assert len(endpoint.got) == 1, "one delivery is one attempt"


async def test_an_endpoint_that_is_away_is_tried_again_by_the_broker(started) -> None:
    reply = await started("http://127.0.0.1:9/").post(TICKET)
    assert (reply.status, reply.data["reason"]) == (503, "endpoint-unreachable")
    assert reply.headers["retry-after"] == "5"


async def test_an_endpoint_that_hangs_is_given_up(started) -> None:
    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    endpoint = Endpoint("200 OK")
    endpoint.serve = hang
    async with listening(endpoint) as port:
        reply = await started(f"http://127.0.0.1:{port}/", WEBHOOK_TIMEOUT_S="0.2").post(TICKET)
    assert (reply.status, reply.data["reason"]) == (503, "endpoint-unreachable")


async def test_private_addresses_are_refused_unless_allowed(started) -> None:
    reply = await started("https://localhost:9/", WEBHOOK_ALLOW_PRIVATE="").post(TICKET)
    assert (reply.status, reply.data["reason"]) == (422, "address-refused")


async def test_the_certificate_must_be_that_of_the_name(started, tmp_path, monkeypatch) -> None:
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    asked = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    asked += ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    subprocess.run([*asked, "-keyout", key, "-out", cert], check=True, capture_output=True)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(cert, key)
    endpoint = Endpoint("200 OK")
    async with listening(endpoint, ssl=context) as port:
        untrusted = await started(f"https://localhost:{port}/").post(TICKET)
        assert untrusted.data["reason"] == "endpoint-unreachable"
        monkeypatch.setenv("SSL_CERT_FILE", str(cert))
        assert (await started(f"https://localhost:{port}/").post(TICKET)).status == 200
        other = await started(f"https://127.0.0.1:{port}/").post(TICKET)
        assert other.data["reason"] == "endpoint-unreachable"
    assert endpoint.got[0][0]["host"] == f"localhost:{port}"


async def test_error_events_and_data_of_any_kind_are_posted(started) -> None:
    endpoint = Endpoint("200 OK")
    async with listening(endpoint) as port:
        function = started(f"http://127.0.0.1:{port}/")
        for data in (b"", b"\xff", b"[1]", b'"\\ud800"'):
            assert (await function.post(data, type="relume.function.error")).status == 200
    data = [json.loads(body)["data"] for _, body in endpoint.got]
    assert data == [None, "\ufffd", [1], "\ud800"]


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("93.184.215.14", True),
        ("2606:2800:21f:cb07:6820:80da:af6b:8b2c", True),
        ("127.0.0.1", False),
        ("10.1.2.3", False),
        ("169.254.169.254", False),
        ("100.64.0.1", False),
        ("0.0.0.0", False),
        ("224.0.0.1", False),
        ("::1", False),
        ("fe80::1%eth0", False),
        ("fd00::1", False),
        ("::ffff:10.0.0.1", False),
        ("2002:a00:1::", False),
        ("64:ff9b::a00:1", False),
        ("64:ff9b::5db8:d70e", True),
    ],
)
def test_which_addresses_are_public(address: str, public: bool) -> None:
    assert is_public(address) is public


@pytest.mark.parametrize(
    "url", ["http://example.com/", "ftp://a/", "https:///x", "https://u:p@a/", "https://a:99999/"]
)
def test_urls_that_may_not_be_called(url: str) -> None:
    with pytest.raises(AddressError):
        endpoint_of(url, allow_private=False)


@pytest.mark.parametrize("content", ["", "whsec_", "whsec_!!"])
def test_a_secret_that_is_none_ends_the_start(tmp_path: Path, content: str) -> None:
    (tmp_path / "s").write_text(content)
    cfg = {"WEBHOOK_URL": "https://example.com/", "WEBHOOK_SECRET_FILE": str(tmp_path / "s")}
    with pytest.raises(ValueError, match="WEBHOOK_SECRET_FILE"):
        new().start(cfg)
    with pytest.raises(ValueError, match="WEBHOOK_URL"):
        new().start({})
