"""An event is posted to an HTTPS endpoint, signed as Standard Webhooks say.

One delivery is one attempt. What may succeed later is answered with 429 or 503, and the Broker
tries again by the rules of the Trigger; what will not succeed is answered with 422, and the Broker
makes a dead letter of the event. An event that was posted is answered with 200 and no event.
"""

import hashlib
import json
import logging
from datetime import UTC, datetime
from pathlib import Path

import httpx
from cloudevents.core.v1.event import CloudEvent
from standardwebhooks import Webhook
from standardwebhooks.webhooks import EmptyWebhookSecretError

from .addresses import AddressError, endpoint_of, permitted_address
from .events import EventFunction, HttpAnswer

#: Seconds until the next attempt, where the endpoint does not say.
RETRY_AFTER_S = 5
MOST_RETRY_AFTER_S = 3600
ATTRIBUTES = ("id", "source", "type", "subject", "correlationid", "causationid")


def new() -> "WebhookOut":
    return WebhookOut()


class WebhookOut(EventFunction):
    name = "webhook-out"
    takes_errors = True

    def start(self, cfg: dict[str, str]) -> None:
        """Read the variables. Raises ValueError or AddressError, which end the process."""
        super().start(cfg)
        url = _required(cfg, "WEBHOOK_URL")
        allow_private = cfg.get("WEBHOOK_ALLOW_PRIVATE", "").lower() == "true"
        self._endpoint = endpoint_of(url, allow_private=allow_private)
        self._timeout_s = float(cfg.get("WEBHOOK_TIMEOUT_S") or 20)
        self._signers = read_secrets(Path(_required(cfg, "WEBHOOK_SECRET_FILE")))
        self._client: httpx.AsyncClient | None = None
        logging.info("events go to %s, signed with %d keys", url, len(self._signers))

    async def answer(self, request: CloudEvent) -> None:
        body = payload(request)
        headers = self._headers(request, body)
        try:
            address = await permitted_address(self._endpoint)
            response = await self._post(address, body, headers)
        except AddressError as error:
            raise HttpAnswer(422, "address-refused", str(error)) from None
        except (OSError, TimeoutError, httpx.TransportError) as error:
            told = f"the endpoint did not answer: {type(error).__name__}"
            raise HttpAnswer(503, "endpoint-unreachable", told, RETRY_AFTER_S) from None
        _judge(response)

    async def _post(self, address: str, body: bytes, headers: dict[str, str]) -> httpx.Response:
        """One attempt at the address that was checked; redirects are not followed."""
        if self._client is None:
            # No proxy of the environment, but its SSL_CERT_FILE.
            trusted = httpx.create_ssl_context()
            self._client = httpx.AsyncClient(
                timeout=self._timeout_s, trust_env=False, verify=trusted
            )
        asked = httpx.URL(self._endpoint.url)
        request = self._client.build_request(
            "POST",
            asked.copy_with(host=address),
            content=body,
            headers={**headers, "host": asked.netloc.decode()},
            extensions={"sni_hostname": self._endpoint.host},
        )
        response = await self._client.send(request, stream=True)
        await response.aclose()  # what the endpoint has to say beyond its status is not read
        return response

    def _headers(self, request: CloudEvent, body: bytes) -> dict[str, str]:
        id_, now = message_id(request), datetime.now(UTC)
        signatures = [signer.sign(id_, now, body.decode()) for signer in self._signers]
        return {
            "content-type": "application/json",
            "user-agent": "relume-webhook-out/1",
            "webhook-id": id_,
            "webhook-timestamp": str(int(now.timestamp())),
            "webhook-signature": " ".join(signatures),
        }


def read_secrets(path: Path) -> list[Webhook]:
    """One signer for each line; during a rotation the file has the new and the old secret.

    Raises ValueError, which does not repeat a secret.
    """
    try:
        lines = path.read_text(encoding="utf-8").split()
    except OSError as error:
        raise ValueError(f"WEBHOOK_SECRET_FILE: {path}: {error.strerror}") from None
    try:
        signers = [Webhook(line) for line in lines]
    except (ValueError, EmptyWebhookSecretError):
        signers = []
    if not signers:
        raise ValueError(f"WEBHOOK_SECRET_FILE: {path}: each line must be whsec_ and base64")
    return signers


def message_id(request: CloudEvent) -> str:
    """The same for every attempt with this event, so that the endpoint can tell a repetition."""
    told = json.dumps([request.get_source(), request.get_id()])
    return "msg_" + hashlib.sha256(told.encode()).hexdigest()[:32]


def payload(request: CloudEvent) -> bytes:
    """The body: `type`, `timestamp` and `data`, as Standard Webhooks want, and the attributes."""
    attributes = request.get_attributes()
    data = request.get_data()
    if isinstance(data, bytes):
        try:
            data = json.loads(data)
        except ValueError:
            data = data.decode("utf-8", "replace")
    time = request.get_time()
    told = {
        "type": request.get_type(),
        "timestamp": time.isoformat().replace("+00:00", "Z") if time else None,
        "data": data,
        "event": {name: str(attributes[name]) for name in ATTRIBUTES if name in attributes},
    }
    return json.dumps(told).encode()


def _judge(response: httpx.Response) -> None:
    """Raise HttpAnswer unless the endpoint took the event (Standard Webhooks: a 2xx)."""
    status = response.status_code
    if 200 <= status < 300:
        return
    told = f"the endpoint answered {status}"
    if status == 429 or status == 408 or status >= 500:
        wait = response.headers.get("retry-after", "")
        seconds = int(wait) if wait.isascii() and wait.isdigit() else RETRY_AFTER_S
        raise HttpAnswer(
            429 if status == 429 else 503,
            "endpoint-busy" if status == 429 else "endpoint-failed",
            told,
            min(seconds, MOST_RETRY_AFTER_S),
        )
    raise HttpAnswer(422, "endpoint-gone" if status == 410 else "endpoint-refused", told)


def _required(cfg: dict[str, str], name: str) -> str:
    value = cfg.get(name)
    if not value:
        raise ValueError(f"{name} is not set")
    return value
