"""Who may call, and as whom: keys, tokens of a local issuer, and the door when neither is there."""

import asyncio
import base64
import json
import logging
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import Message, Receive, Scope, Send

from relume.base.clock import SystemClock
from relume.base.testing import VirtualClock
from relume.eventing.event_log import StoreUnavailable
from relume.eventing.jobs.access import Access, Guarded, OpenToAll, Unauthorized, check_bind
from relume.eventing.jobs.keys import StoredKey, new_key
from relume.eventing.jobs.oidc import (
    BadIssuer,
    FetchedKeys,
    IssuerUnreachable,
    OidcSettings,
    TokenRefused,
    Tokens,
)
from relume.eventing.jobs.testing import MemoryKeyStore

ISSUER, AUDIENCE = "https://issuer.example", "relume"
RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
STRANGER = rsa.generate_private_key(public_exponent=65537, key_size=2048)
EC = ec.generate_private_key(ec.SECP256R1())
KEY_SET = {
    "keys": [
        {**json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(RSA.public_key())), "kid": "rsa"},
        {**json.loads(jwt.algorithms.ECAlgorithm.to_jwk(EC.public_key())), "kid": "ec"},
    ]
}


def token(*, key: Any = RSA, alg: str = "RS256", kid: str | None = "rsa", **claims: object) -> str:
    now = datetime.now(UTC)
    whole = {"iss": ISSUER, "aud": AUDIENCE, "sub": "ada", "exp": now + timedelta(hours=9)}
    left = {name: value for name, value in (whole | claims).items() if value is not None}
    return jwt.encode(left, key, algorithm=alg, headers={"kid": kid} if kid else None)


class FixedKeys:
    """Keys that are known from the start, from a JSON Web Key Set."""

    def __init__(self, key_set: dict[str, object]) -> None:
        self._keys = {key.key_id: key for key in jwt.PyJWKSet.from_dict(key_set).keys}

    async def key(self, key_id: str) -> jwt.PyJWK:
        if (found := self._keys.get(key_id)) is None:
            raise TokenRefused("the issuer has no key of the id that the token names")
        return found


def tokens() -> Tokens:
    return Tokens(OidcSettings(ISSUER, AUDIENCE), FixedKeys(KEY_SET))


# ---- tokens


@pytest.mark.parametrize(
    "sent", [token(), token(key=EC, alg="ES256", kid="ec")], ids=["RS256", "ES256"]
)
async def test_a_good_token_names_its_issuer_and_subject(sent: str) -> None:
    assert await tokens().check(sent) == (f"{ISSUER}#ada", "ada")


async def test_a_tenant_comes_from_its_claim() -> None:
    assert await tokens().check(token(tenant="team-a")) == (f"{ISSUER}#ada", "team-a")


@pytest.mark.parametrize("name", ["\ud800", "a\0b", "a\nb", "x" * 2000])
@pytest.mark.parametrize("claim", ["sub", "tenant"])
async def test_a_token_with_a_name_that_cannot_be_stored_is_refused(claim: str, name: str) -> None:
    with pytest.raises(TokenRefused, match=f"its claim {claim} must be a name"):
        await tokens().check(token(**{claim: name}))


NOW = datetime.now(UTC)
UNSIGNED = jwt.encode({"sub": "ada"}, None, algorithm="none", headers={"kid": "rsa"})
# The public key as the secret of a symmetric algorithm, which is the classic forgery.
_head = base64.urlsafe_b64encode(b'{"alg":"HS256","kid":"rsa","typ":"JWT"}').rstrip(b"=").decode()
SYMMETRIC = _head + "." + token().split(".")[1] + ".c2ln"


@pytest.mark.parametrize(
    "sent, why",
    [
        (token(aud="another"), "another audience"),
        (token(aud=None), "no claim aud"),
        (token(iss="https://evil.example"), "another issuer"),
        (token(exp=NOW - timedelta(minutes=5)), "expired"),
        (token(exp=None), "no claim exp"),
        (token(sub=None), "no claim sub"),
        (token(nbf=NOW + timedelta(hours=1)), "not valid yet"),
        (token(key=STRANGER), "signature does not fit"),
        (token(kid="another"), "no key"),
        (token(kid=None), "kid"),
        (token(kid="ec"), "does not fit"),
        (UNSIGNED, "sign the token with one of RS256"),
        (SYMMETRIC, "sign the token with one of RS256"),
        ("a.b.c", "neither"),
        ("", "neither"),
    ],
)
async def test_a_bad_token_is_refused_with_the_reason(sent: str, why: str) -> None:
    with pytest.raises(TokenRefused, match=why) as refused:
        await tokens().check(sent)
    assert not sent or sent not in str(refused.value)


def test_an_issuer_over_plain_http_is_trusted_on_loopback_only() -> None:
    OidcSettings("http://127.0.0.1:9000", "a")
    with pytest.raises(BadIssuer, match="--oidc-issuer"):
        OidcSettings("http://issuer.example", "a")
    with pytest.raises(BadIssuer, match="--oidc-jwks"):
        OidcSettings("https://issuer.example", "a", "file:///etc/passwd")


class Issuer:
    """A local issuer: discovery and keys on loopback."""

    def __init__(self) -> None:
        issuer = self
        self.fetched = 0
        self.key_set: dict[str, object] = KEY_SET
        self.named: str | None = None

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if self.path == "/keys":
                    issuer.fetched += 1
                    answer: object = issuer.key_set
                else:
                    answer = {
                        "issuer": issuer.named or issuer.url,
                        "jwks_uri": issuer.url + "/keys",
                    }
                self.send_response(200)
                self.end_headers()
                self.wfile.write(json.dumps(answer).encode())

            def log_message(self, *_: object) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    made = Issuer()
    yield made
    made.stop()


async def test_keys_are_discovered_fetched_once_and_made_up_key_ids_do_not_flood_the_issuer(
    issuer: Issuer,
) -> None:
    checking = Tokens(OidcSettings(issuer.url, AUDIENCE))
    for _ in range(3):
        assert await checking.check(token(iss=issuer.url)) == (f"{issuer.url}#ada", "ada")
    assert issuer.fetched == 1
    for number in range(20):
        with pytest.raises(TokenRefused):
            await checking.check(token(iss=issuer.url, kid=f"made-up-{number}"))
    assert issuer.fetched <= 2


async def test_the_discovery_document_of_another_issuer_is_not_believed(issuer: Issuer) -> None:
    issuer.named = "https://evil.example"
    with pytest.raises(IssuerUnreachable, match="another issuer"):
        await FetchedKeys(OidcSettings(issuer.url, AUDIENCE)).key("rsa")


# ---- keys and the middleware


async def _say(scope: Scope, receive: Receive, send: Send) -> None:
    state = Request(scope).state
    found = {name: getattr(state, name, None) for name in ("owner", "tenant")}
    await JSONResponse(found)(scope, receive, send)


def client(access: Access) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(app=Guarded(_say, access))
    return httpx.AsyncClient(transport=transport, base_url="http://gateway")


def bearer(sent: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {sent}"}


async def test_without_access_everybody_is_anonymous() -> None:
    answer = await client(Access(SystemClock())).get("/v1/jobs", headers=bearer("whatever"))
    assert answer.json() == {"owner": "", "tenant": "anonymous"}


async def test_a_key_and_a_token_say_who_calls() -> None:
    keys = MemoryKeyStore()
    key, stored = new_key("team-a", "shared", NOW)
    await keys.put(stored)
    http = client(Access(SystemClock(), keys, tokens()))
    assert (await http.get("/v1/jobs", headers=bearer(key))).json() == {
        "owner": "team-a",
        "tenant": "shared",
    }
    said = (await http.get("/v1/jobs", headers=bearer(token()))).json()
    assert said == {"owner": f"{ISSUER}#ada", "tenant": "ada"}


async def test_no_key_a_wrong_one_and_two_are_401_and_the_secret_is_told_nowhere(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    keys = MemoryKeyStore()
    key, stored = new_key("team-a", None, NOW)
    await keys.put(stored)
    http = client(Access(SystemClock(), keys))
    none = await http.get("/v1/jobs")
    assert (none.status_code, none.headers["www-authenticate"]) == (401, 'Bearer realm="relume"')
    assert none.json()["reason"] == "unauthorized"
    wrong = key[:-1] + ("A" if key[-1] != "A" else "B")
    for headers in (
        bearer(wrong),
        {"Authorization": f"Basic {key}"},
        bearer(token()),
        bearer("rk_" + "x" * 500),
    ):
        answer = await http.get("/v1/jobs", headers=headers)
        assert answer.status_code == 401
        assert 'error="invalid_token"' in answer.headers["www-authenticate"]
        assert wrong not in answer.text and key not in answer.text
    twice = [("authorization", f"Bearer {key}"), ("authorization", f"Bearer {key}")]
    assert (await http.get("/v1/jobs", headers=twice)).status_code == 401
    assert key not in caplog.text and wrong not in caplog.text


async def test_the_probes_need_no_key() -> None:
    http = client(Access(SystemClock(), MemoryKeyStore()))
    assert (await http.get("/healthz")).status_code == 200
    assert (await http.get("/readyz")).status_code == 200
    assert (await http.get("/healthz/../v1/jobs")).status_code == 401


async def test_events_may_come_without_a_key_and_belong_to_the_broker() -> None:
    keys = MemoryKeyStore()
    key, stored = new_key("team-a", None, NOW)
    await keys.put(stored)
    app = Guarded(_say, Access(SystemClock(), keys), open_events=True)
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as http:
        said = (await http.post("/events/ns/it/v1/chat/completions")).json()
        assert said == {"owner": "broker", "tenant": None}
        said = (await http.post("/events/ns/it/", headers=bearer(key))).json()
        assert said["owner"] == "team-a"
        for path in ("/v1/jobs", "/events", "/v1/jobs/events/x"):
            assert (await http.post(path)).status_code == 401
        refused = await http.post("/events/ns/it/", headers=bearer("rk_wrong"))
        assert refused.status_code == 401
    closed = client(Access(SystemClock(), keys))
    assert (await closed.post("/events/ns/it/")).status_code == 401


async def test_a_revoked_key_stops_working_within_five_seconds() -> None:
    clock, keys = VirtualClock(), MemoryKeyStore()
    key, stored = new_key("team-a", None, NOW)
    await keys.put(stored)
    access = Access(clock, keys)
    assert (await access.caller(f"Bearer {key}")).owner == "team-a"
    await keys.remove(stored.id)
    await clock.advance(5)
    with pytest.raises(Unauthorized, match="revoked"):
        await access.caller(f"Bearer {key}")


@pytest.mark.parametrize("begun", [True, False], ids=["a stream", "a long poll"])
async def test_a_request_that_has_begun_ends_when_its_key_is_revoked(begun: bool) -> None:
    clock, keys = VirtualClock(), MemoryKeyStore()
    secret, stored = new_key("ada", None, clock.now())
    await keys.put(stored)
    ended = asyncio.Event()

    async def waits(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            if begun:
                await send({"type": "http.response.start", "status": 200, "headers": []})
            await asyncio.Event().wait()
        finally:
            ended.set()

    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    scope: Scope = {
        "type": "http",
        "path": "/v1/jobs/x/events",
        "headers": [(b"authorization", b"Bearer " + secret.encode())],
    }
    app = Guarded(waits, Access(clock, keys))
    asking = asyncio.create_task(app(scope, asyncio.Event().wait, send))  # type: ignore[arg-type]
    await clock.advance(60)
    assert not ended.is_set()
    await keys.remove(stored.id)
    await clock.advance(10)
    assert ended.is_set()
    await asking
    assert [each.get("status") for each in sent] == ([200, None] if begun else [401, None])
    assert not sent[-1].get("more_body")
    assert clock.sleeping == []


async def test_the_keys_that_are_remembered_are_bounded() -> None:
    keys = MemoryKeyStore()
    access = Access(VirtualClock(), keys)
    for number in range(1050):
        key, stored = new_key(f"team-{number}", None, NOW)
        await keys.put(stored)
        await access.caller(f"Bearer {key}")
    assert len(access._trusted) == 1000


async def test_a_store_that_does_not_answer_is_503_and_lets_nobody_in() -> None:
    class Away(MemoryKeyStore):
        async def get(self, key_id: str) -> StoredKey | None:
            raise StoreUnavailable("nats-server does not answer")

    key, _ = new_key("team-a", None, NOW)
    answer = await client(Access(SystemClock(), Away())).get("/v1/jobs", headers=bearer(key))
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
    assert answer.json()["reason"] == "store-unavailable"


async def test_an_issuer_that_does_not_answer_is_503(issuer: Issuer) -> None:
    await asyncio.to_thread(issuer.stop)
    settings = OidcSettings(issuer.url, AUDIENCE)
    http = client(Access(SystemClock(), tokens=Tokens(settings)))
    answer = await http.get("/v1/jobs", headers=bearer(token(iss=issuer.url)))
    assert (answer.status_code, answer.json()["reason"]) == (503, "issuer-unreachable")


# ---- where it may listen


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "localhost"])
def test_open_to_all_is_allowed_on_loopback(host: str) -> None:
    check_bind(host, Access(SystemClock()))


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.7", "gateway.example", ""])
def test_open_to_all_is_refused_elsewhere_and_the_message_names_the_fix(host: str) -> None:
    with pytest.raises(OpenToAll, match="relume keys create") as refused:
        check_bind(host, Access(SystemClock()))
    assert refused.value.exit_code == 2
    check_bind(host, Access(SystemClock(), MemoryKeyStore()))
