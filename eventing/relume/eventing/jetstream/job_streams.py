"""The streams of jobs: their names, their subjects, and how they are made.

| stream | subject | holds |
|---|---|---|
| relume_work | relume.work.SERVICE.PRIORITY.TENANT.ID | what is to be done |
| relume_jobs | relume.job.ID | how far each job is |
| relume_tokens | relume.tokens.ID | the answer of each job, as it came |
| relume_unsent | relume.unsent.ID.NAME | events that their sink has not taken |
| relume_letters | relume.letters.ID.NAME | events that no sink took, of gateways |
| OBJ_relume_payloads | $O.relume_payloads.C.ID.NAME, $O.relume_payloads.M.NAME | large bodies |
| KV_relume_control | $KV.relume_control.KEY | paused services, where removed lanes ended |

What is stored in `relume_jobs` and `relume_tokens` is published again under `relume.live`, for
those who follow a job. Who follows an answer says so under `relume.reading.ID`, which no stream
keeps. Messages with a time to live need nats-server 2.11 or newer.
"""

import functools
import hashlib
import math
import re
from typing import Any

from relume.eventing.event_log import StoreUnavailable
from relume.eventing.jetstream.job_api import JobApi, Refused
from relume.eventing.jobs.job import ServiceName
from relume.eventing.jobs.settings import JobSettings
from relume.eventing.jobs.store import Lane, NoSuchJob

WORK, JOBS, TOKENS = "relume_work", "relume_jobs", "relume_tokens"
UNSENT, LETTERS = "relume_unsent", "relume_letters"
LETTER_SUBJECTS = "relume.letters.*.*"
PAYLOADS, CONTROL = "OBJ_relume_payloads", "KV_relume_control"
#: The durable consumer of all publishers together, on JOBS and on UNSENT.
OUTBOX = "outbox"
#: What is sent with each message, so that a writer whose answer was lost knows its own again.
WRITE = "Relume-Write"

_OLDEST_SERVER = (2, 11)
_ID = re.compile(r"[A-Za-z0-9_-]{1,128}")
_HELD = 10_000  # messages of a lane, or settled records, on lease at once
# Each takes about 60 KB of nats-server's memory. Where a stream says nothing, nats-server takes
# 1,000 from release 2.15 on (nats-io/nats-server pull request 8337).
MOST_LANES = 10_000
_S = 10**9
# err_code of nats-server: a stream of this name exists, with another configuration.
_EXISTS = 10058


def job_token(job_id: str) -> str:
    """A job's id as part of a subject. Raises NoSuchJob: no job has an id of other characters."""
    if not _ID.fullmatch(job_id):
        raise NoSuchJob("there is no job of this id")
    return job_id


def service_token(service: ServiceName) -> str:
    """A service as part of a subject: names never hold `=` or `_`, dots separate tokens."""
    return f"{service.namespace.replace('.', '=')}_{service.name.replace('.', '=')}"


def tenant_token(tenant: str) -> str:
    """A tenant as part of a subject; tenants hold every kind of character.

    80 bits, so that nobody finds two names that share a lane.
    """
    return hashlib.blake2b(tenant.encode(), digest_size=10).hexdigest()


def lane_token(lane: Lane) -> str:
    """The name of a lane's consumer."""
    return f"{service_token(lane.service)}_{lane.priority}_{tenant_token(lane.tenant)}"


@functools.lru_cache(maxsize=10_000)
def lane_subjects(lane: Lane) -> str:
    """The subjects of all jobs of a lane."""
    return (
        f"relume.work.{service_token(lane.service)}.{lane.priority}.{tenant_token(lane.tenant)}.*"
    )


def work_subject(lane: Lane, job_id: str) -> str:
    return f"{lane_subjects(lane)[:-1]}{job_token(job_id)}"


def work_of(job_id: str) -> str:
    """The subject of a job's work message, whatever its lane is."""
    return f"relume.work.*.*.*.{job_token(job_id)}"


def record_subject(job_id: str) -> str:
    return f"relume.job.{job_token(job_id)}"


def tokens_subject(job_id: str) -> str:
    return f"relume.tokens.{job_token(job_id)}"


def reading_subject(job_id: str) -> str:
    """Where the readers of an answer say that they read it; of all answers where the id is `*`."""
    return f"relume.reading.{job_id if job_id == '*' else job_token(job_id)}"


def unsent_subject(job_id: str, name: str) -> str:
    """The subject of one parked event; of all events of a job where the name is `*`."""
    return f"relume.unsent.{job_token(job_id)}.{name}"


def letter_subject(job_id: str, name: str) -> str:
    """The subject of one dead letter."""
    return f"relume.letters.{job_token(job_id)}.{name}"


def ttl(lasts_s: float) -> dict[str, str]:
    """The header that lets a message go by itself: whole seconds, at least one."""
    return {"Nats-TTL": f"{max(1, math.ceil(lasts_s))}s"}


def lane_consumer(lane: Lane, first: int, ensured: float, settings: JobSettings) -> dict[str, Any]:
    """The configuration of a lane's consumer; `first` is its first sequence (0: whatever lies
    there), `ensured` when somebody last made sure that it is there, in seconds since 1970."""
    start = {"deliver_policy": "by_start_sequence", "opt_start_seq": first}
    return {
        "durable_name": lane_token(lane),
        "name": lane_token(lane),
        **(start if first else {"deliver_policy": "all"}),
        "filter_subject": lane_subjects(lane),
        "metadata": {
            "relume.namespace": lane.service.namespace,
            "relume.service": lane.service.name,
            "relume.priority": lane.priority,
            "relume.tenant": lane.tenant,
            "relume.ensured": f"{ensured:.0f}",
        },
        **_delivery(settings),
    }


def _delivery(settings: JobSettings) -> dict[str, Any]:
    return {
        "ack_policy": "explicit",
        "ack_wait": int(settings.lease_s * _S),
        "max_deliver": -1,
        "max_ack_pending": _HELD,
        "replay_policy": "instant",
        "num_replicas": settings.replicas,
    }


async def ensure_streams(api: JobApi, settings: JobSettings) -> None:
    """All streams exist as we want them. Raises StoreUnavailable."""
    version = api.client.connected_server_version
    if (version.major, version.minor) < _OLDEST_SERVER:
        raise StoreUnavailable(
            f"nats-server {version} is too old for jobs: install 2.11 or newer",
            reason="nats-too-old",
        )
    try:
        for config in _streams(settings):
            await _ensure_stream(api, config)
        for stream, subjects in ((JOBS, "relume.job.*"), (UNSENT, "relume.unsent.*.*")):
            config = _outbox(subjects, settings)
            if stream == UNSENT:
                config["max_ack_pending"] = -1  # whatever waits for one sink, others go on
            await api.ask(
                f"CONSUMER.CREATE.{stream}.{OUTBOX}.{subjects}",
                {"stream_name": stream, "config": config, "action": ""},
            )
    except Refused as refusal:
        raise StoreUnavailable(f"the streams of jobs cannot be made: {refusal}") from None


def _outbox(subjects: str, settings: JobSettings) -> dict[str, Any]:
    return {
        "durable_name": OUTBOX,
        "name": OUTBOX,
        "deliver_policy": "all",
        "filter_subject": subjects,
        **_delivery(settings),
    }


def _streams(settings: JobSettings) -> list[dict[str, Any]]:
    window = int(settings.duplicate_window_s * _S)
    common: dict[str, Any] = {
        "storage": "file",
        "retention": "limits",
        # If somebody sets a limit on a stream, new messages are refused; stored ones are kept.
        "discard": "new",
        "max_msgs_per_subject": 1,
        "max_msgs": -1,
        "max_bytes": -1,
        "max_age": 0,
        "max_msg_size": -1,
        "max_consumers": -1,
        "num_replicas": settings.replicas,
        "duplicate_window": window,
        "allow_direct": True,
        "allow_msg_ttl": True,
    }

    def again(subjects: str) -> dict[str, Any]:
        # nats-server maps `>` to `>`, but no `*` to `*`.
        live = subjects.replace("relume.", "relume.live.", 1)
        return {"republish": {"src": subjects, "dest": live}}

    return [
        common | {"name": WORK, "subjects": ["relume.work.*.*.*.*"], "max_consumers": MOST_LANES},
        common | {"name": JOBS, "subjects": ["relume.job.*"], **again("relume.job.>")},
        common
        | {"name": TOKENS, "subjects": ["relume.tokens.*"], "max_msgs_per_subject": -1}
        | again("relume.tokens.>"),
        # An event that is acknowledged is removed.
        common | {"name": UNSENT, "subjects": ["relume.unsent.*.*"], "retention": "workqueue"},
        common | {"name": LETTERS, "subjects": [LETTER_SUBJECTS]},
        common
        | {
            "name": PAYLOADS,
            "subjects": ["$O.relume_payloads.C.>", "$O.relume_payloads.M.>"],
            "max_msgs_per_subject": -1,
            "allow_rollup_hdrs": True,
        },
        common
        | {"name": CONTROL, "subjects": ["$KV.relume_control.>"], "allow_rollup_hdrs": True}
        | {"deny_delete": True},
    ]


async def _ensure_stream(api: JobApi, config: dict[str, Any]) -> None:
    try:
        await api.ask(f"STREAM.CREATE.{config['name']}", config)
    except Refused as refusal:
        if refusal.code != _EXISTS:
            raise
        await api.ask(f"STREAM.UPDATE.{config['name']}", config)
