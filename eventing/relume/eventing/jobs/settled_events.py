"""The events that are published when a job is settled: what it has cost, and its answer. Pure.

Both are made of the record alone, ids and times included. Published a second time, each is the same
event with the same id.
"""

import hashlib

import orjson

from relume.base.vocabulary import USAGE
from relume.cloudevents.event import CloudEvent, rfc3339
from relume.eventing.answer_event import ERROR_REASONS, error_data, error_event, source_of
from relume.eventing.jobs.payloads import ResultUrl, stored_reply
from relume.eventing.jobs.state import Record

_MESSAGE_CHARACTERS = 4096
_TOO_LONG = {
    "queue": "the job waited too long in its queue",
    "start": "the predictor took too long to begin its answer",
    "run": "the predictor took too long for its answer",
}


def usage_event(record: Record) -> CloudEvent:
    """What a settled job has cost: `relume.inference.usage`, one for each round of the job.

    A job is billable when a predictor was asked at all.
    """
    usage, request = record.usage, record.event
    data = {
        "job": record.id,
        "round": record.round,
        "service": str(record.service),
        "route": record.route,
        "tenant": record.tenant,
        "priority": record.priority,
        "state": record.state,
        "reason": record.reason,
        "attempts": record.attempt,
        "billable": record.started,
        "prompttokens": usage.prompt_tokens,
        "completiontokens": usage.completion_tokens,
        "cachedtokens": usage.cached_tokens,
        "queuems": usage.queue_ms,
        "coldstartms": usage.cold_start_ms,
        "runms": usage.run_ms,
    }
    attributes: dict[str, object] = {
        "id": hashlib.sha256(f"{record.id}\0{record.round}".encode()).hexdigest()[:32],
        "source": source_of(record.service.namespace, record.service.name),
        "type": USAGE,
        "subject": record.id,
        "time": _settled_at(record),
        "datacontenttype": "application/json",
    }
    if request is not None:
        attributes["causationid"] = request["id"]
    return CloudEvent.create(attributes, orjson.dumps(data))


def reply_event(record: Record, result_url: ResultUrl) -> CloudEvent | None:
    """The one answer to a job that came as an event; None for other jobs, and for a deleted one.

    It is the predictor's own, or says why there is none. A predictor that answers with nothing (as
    a Trigger's subscriber may) has completed the job, and there is no event. A job that is retried
    after its end has a second answer, which replaces the first: it has the same id. Raises
    InvalidEvent for a stored reply that is no event.
    """
    if record.event is None or record.deleted:
        return None
    # A job that ended in another way was not ended by its predictor.
    reply = stored_reply(record, result_url) if record.state in ("completed", "failed") else None
    if reply is not None or record.state == "completed":
        return reply
    status, reason, message = _cause(record)
    return error_event(
        record.event,
        error_data(status, reason, message[:_MESSAGE_CHARACTERS]),
        source=source_of(record.service.namespace, record.service.name),
        time=_settled_at(record),
        counts={"queuems": record.usage.queue_ms, "coldstartms": record.usage.cold_start_ms},
    )


def _settled_at(record: Record) -> str:
    return rfc3339(record.settled_at or record.accepted_at)


def _cause(record: Record) -> tuple[int, str, str]:
    """Status for an HTTP caller, reason and message of a job without an answer."""
    detail = f": {record.detail}" if record.detail else ""
    match record.state:
        case "expired":
            return 400, "expired", _TOO_LONG.get(record.reason, "the job expired") + detail
        case "cancelled":
            return 400, "cancelled", "the job was cancelled" + detail
        case "dead":
            return 503, "retries-exhausted", f"given up after {record.attempt} attempts{detail}"
    return _said_by_predictor(record, detail)


def _said_by_predictor(record: Record, detail: str) -> tuple[int, str, str]:
    result = record.result
    status = result.status if result is not None and 400 <= result.status < 500 else 400
    reason, message = record.reason, f"the predictor did not answer with an event{detail}"
    body = _parsed(b"" if result is None else result.body)
    error = body.get("error")
    said = error.get("message") if isinstance(error, dict) else error
    if isinstance(said, str) and said:
        reason, message = str(body.get("reason") or reason), said
    return status, reason if reason in ERROR_REASONS else "failed", message


def _parsed(body: bytes) -> dict[str, object]:
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        return {}
    return value if isinstance(value, dict) else {}
