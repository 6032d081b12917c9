"""What was accepted: one request for a model, with who asked, how urgent it is and its limits.

A job is stored as an event, in the form in which a Broker stores one (`Envelope`), so that the
delivery engine needs to know nothing of jobs: its attributes say what the job is, its data is the
body of the request, and the headers of the envelope go to the predictor.
"""

import base64
import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, NamedTuple, get_args

import orjson

from relume.cloudevents.event import CloudEvent, InvalidEvent, rfc3339
from relume.eventing.envelope import Envelope

Priority = Literal["high", "normal", "low"]
PRIORITIES: tuple[Priority, ...] = get_args(Priority)

#: The type of the event as which a job is stored.
JOB = "relume.job"
_DESCRIPTION = "relumejob"


class ServiceName(NamedTuple):
    """Names a service: an InferenceService in its namespace."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True)
class Limits:
    """The three clocks of a job and its number of attempts; times in seconds.

    `queue_s` runs from acceptance to the first attempt, `start_s` from each attempt until the
    predictor begins to answer (a cold start is part of it), `run_s` from there to the end of the
    answer. `keep_s` is how long a settled job and its key are kept. `max_attempts` counts the first
    attempt: with 1, nothing is ever tried again.
    """

    queue_s: float = 86_400.0
    start_s: float = 900.0
    run_s: float = 3_600.0
    keep_s: float = 86_400.0
    max_attempts: int = 5


@dataclass(frozen=True, slots=True)
class Job:
    """One accepted request; it never changes.

    `route` is the path at the predictor, with its query. `tenant` shares the queue fairly with
    other tenants, `owner` is who may see the job ("": everybody). `digest` tells whether two
    requests with one key are the same. `payload` names the body in the object store where the body
    does not travel with the job; `size` is then its size in bytes, as far as it is known (0: it is
    not). `event` holds the attributes of the request event where the job
    came as one, `reply_to` the URL or the name of the Broker that gets its reply event. `round`
    counts from 1 and goes up when a settled job is retried.
    """

    id: str
    service: ServiceName
    route: str
    tenant: str
    owner: str
    priority: Priority
    limits: Limits
    accepted_at: datetime
    digest: str
    content_type: str = "application/json"
    body: bytes = b""
    payload: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    event: Mapping[str, object] | None = None
    reply_to: str | None = None
    round: int = 1
    size: int = 0

    @property
    def is_event(self) -> bool:
        """Whether the job came as an event and is answered by one."""
        return self.event is not None

    def to_envelope(self) -> Envelope:
        """The stored form."""
        description = {
            "route": self.route,
            "tenant": self.tenant,
            "owner": self.owner,
            "priority": self.priority,
            "digest": self.digest,
            "round": self.round,
            "limits": self.limits,
            "payload": self.payload,
            "event": self.event,
            "reply_to": self.reply_to,
            "size": self.size,
        }
        event = CloudEvent(
            {
                "specversion": "1.0",
                "id": self.id,
                "source": f"/namespaces/{self.service.namespace}"
                f"/inferenceservices/{self.service.name}",
                "type": JOB,
                "time": rfc3339(self.accepted_at),
                "datacontenttype": self.content_type,
                _DESCRIPTION: orjson.dumps(description).decode(),
            },
            self.body,
        )
        return Envelope(event, self.headers)

    @classmethod
    def from_envelope(cls, envelope: Envelope) -> "Job":
        """Raises InvalidEvent when the envelope was not made by `to_envelope`."""
        event = envelope.event
        try:
            told = orjson.loads(str(event.attributes[_DESCRIPTION]))
            _, _, namespace, _, name = event.source.split("/")
            return cls(
                id=event.id,
                service=ServiceName(namespace, name),
                route=told["route"],
                tenant=told["tenant"],
                owner=told["owner"],
                priority=told["priority"],
                limits=Limits(**told["limits"]),
                accepted_at=datetime.fromisoformat(str(event.attributes["time"])),
                digest=told["digest"],
                content_type=str(event.attributes["datacontenttype"]),
                body=event.data or b"",
                payload=told["payload"],
                headers=envelope.headers,
                event=told["event"],
                reply_to=told["reply_to"],
                round=told["round"],
                size=told.get("size", 0),
            )
        except (KeyError, ValueError, TypeError) as error:
            raise InvalidEvent(f"the stored job is damaged: {error!r}") from None


# Each of the 32 letters of base32 stands for eight bytes.
_LETTERS = b"abcdefghijklmnopqrstuvwxyz234567" * 8
_ID_LETTERS = 24
_ids: list[str] = []  # for jobs without a key


def _random_letters() -> str:
    """Letters that nobody can guess; the kernel is asked for those of many ids at once."""
    if not _ids:
        many = os.urandom(64 * _ID_LETTERS).translate(_LETTERS).decode()
        _ids.extend(many[at : at + _ID_LETTERS] for at in range(0, len(many), _ID_LETTERS))
    return _ids.pop()


def id_for(owner: str, key: str | None) -> str:
    """The id of a job: always the same for one key of one owner, a new one without a key."""
    if key is None:
        return "job_" + _random_letters()
    raw = hashlib.blake2b(f"{owner}\0{key}".encode(), digest_size=15).digest()
    return "job_" + base64.b32encode(raw).decode().lower()


def digest_of(service: ServiceName, route: str, content_type: str, body: bytes) -> str:
    """What two requests with the same key must have in common to be the same request."""
    whole = digesting(service, route, content_type)
    whole.update(body)
    return whole.hexdigest()


def digesting(service: ServiceName, route: str, content_type: str) -> "hashlib.blake2b":
    """The same for a body that comes in pieces: give them to `update`, then call `hexdigest`."""
    begin = f"{service}\0{route}\0{content_type}\0".encode()
    return hashlib.blake2b(begin, digest_size=16)
