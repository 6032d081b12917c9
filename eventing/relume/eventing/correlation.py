"""The correlation of a RequestReply: which request an event answers, and that nobody made it up.

Knative writes `<id>:<the id, encrypted with a secret>:<number of the pod>` into the correlation
attribute (knative/eventing `pkg/requestreply/correlation_id.go`), and only it reads the middle
part. Here the middle part is a digest of the request, and a signature with the plane's secret. So
two producers that use the same id get each their own answer.
"""

import base64
import hashlib
import hmac
from dataclasses import dataclass

from relume.cloudevents.event import CloudEvent, InvalidEvent
from relume.config import RequestReply

_DIGEST_BYTES, _SIGNATURE_BYTES = 16, 16
_PARTS = ":"


@dataclass(frozen=True, slots=True)
class Correlation:
    """The correlations of one RequestReply."""

    flow: RequestReply
    secret: bytes

    def of(self, request: CloudEvent) -> str:
        """The correlation of a request, always the same.

        Raises InvalidEvent for an id with a colon, whose answer a cluster would never find.
        """
        if _PARTS in request.id:
            raise InvalidEvent(
                f"id: {request.id!r} has a colon, and a RequestReply of a cluster would not find "
                "the answer to it: write an id without one"
            )
        named = "\0".join((request.source, request.id, request.type)).encode()
        digest = hashlib.blake2b(named, digest_size=_DIGEST_BYTES).digest()
        token = base64.urlsafe_b64encode(digest + self._signed(request.id, digest)).decode("ascii")
        return f"{request.id}{_PARTS}{token}{_PARTS}0"

    def asked(self, event: CloudEvent) -> str | None:
        """The correlation that an answer repeats; None for an event that answers no request."""
        value = event.attributes.get(self.flow.reply_attribute)
        parts = value.split(_PARTS) if isinstance(value, str) else []
        if len(parts) != 3 or not isinstance(value, str):
            return None
        try:
            token = base64.b64decode(parts[1].encode(), altchars=b"-_", validate=True)
        except ValueError:
            return None
        digest, signature = token[:_DIGEST_BYTES], token[_DIGEST_BYTES:]
        return value if hmac.compare_digest(signature, self._signed(parts[0], digest)) else None

    def is_answer(self, event: CloudEvent) -> bool:
        """Whether the event answers a request of this RequestReply."""
        return self.asked(event) is not None

    def _signed(self, id_: str, digest: bytes) -> bytes:
        name = "\0".join((self.flow.namespace, self.flow.name, id_)).encode()
        made = hmac.digest(self.secret, name + b"\0" + digest, "sha256")
        return made[:_SIGNATURE_BYTES]
