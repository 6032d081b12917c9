"""The job object, as every answer of the API and of the door shows a job. Pure."""

import re
from dataclasses import asdict, replace
from datetime import datetime, timedelta

from relume.base.vocabulary import Json
from relume.cloudevents.event import rfc3339
from relume.eventing.jobs.job import Job
from relume.eventing.jobs.settings import lifetime_s
from relume.eventing.jobs.state import Record, is_shown
from relume.eventing.jobs.store import NoSuchJob, Seen

#: Where the API keeps jobs.
JOBS_PATH = "/v1/jobs"
_ID = re.compile(r"job_[a-z2-7]{24}")


def is_job_id(text: str) -> bool:
    """Whether a job could have this id. Ask before it becomes a part of a subject in the store."""
    return _ID.fullmatch(text) is not None


def self_link(job_id: str) -> str:
    """The path of a job."""
    return f"{JOBS_PATH}/{job_id}"


def job_object(
    seen: Seen, *, position: int | None = None, predicted_start_s: float | None = None
) -> Json:
    """A job as JSON. `position` is its place in its queue, from 1; both numbers only while queued.

    Raises NoSuchJob when nothing is stored of the job.
    """
    stored = told(seen)
    record = seen.current
    state = "queued" if record is None else record.state
    path = self_link(stored.id)
    shown: dict[str, object] = {
        "object": "job",
        "id": stored.id,
        "status": state,
        "service": str(stored.service),
        "route": stored.route,
        "priority": stored.priority,
        "tenant": stored.tenant,
        "created_at": rfc3339(stored.accepted_at),
        "started_at": _time(record.leased_at) if record and record.started else None,
        "settled_at": _time(record.settled_at) if record else None,
        "attempts": record.attempt if record else 0,
        "round": stored.round,
        "reason": record.reason if record else "",
        "detail": record.detail if record else "",
        "usage": asdict(record.usage) if record and record.settled else None,
        "position": position if state == "queued" else None,
        "predicted_start_s": predicted_start_s if state == "queued" else None,
        "expires_at": _time(_expires_at(seen.job, record)),
        "links": {
            "self": path,
            "result": f"{path}/result",
            "events": f"{path}/events",
            "cancel": f"{path}/cancel",
        },
    }
    if (event := stored.event) is not None:
        shown["event"] = {name: event[name] for name in ("id", "source", "type") if name in event}
    if record is not None and record.deleted:
        shown["deleted"] = True
    return shown


def told(seen: Seen) -> Job | Record:
    """What is stored of the job, for what both its request and its record tell.

    Raises NoSuchJob when there is neither.
    """
    stored = seen.job or seen.record
    if stored is None:
        raise NoSuchJob("nothing is stored of this job")
    return stored


def without_body(seen: Seen) -> Seen:
    """The same without the body of the request, to be held for long."""
    return seen if seen.job is None else replace(seen, job=replace(seen.job, body=b""))


def no_longer_shown(seen: Seen, now: datetime) -> bool:
    """Whether the job was settled so long ago that nobody is shown it any more."""
    return seen.current is not None and not is_shown(seen.current, now)


def _time(at: datetime | None) -> str | None:
    return None if at is None else rfc3339(at)


def _expires_at(job: Job | None, record: Record | None) -> datetime | None:
    """When the store forgets the job; None where nothing stored tells it."""
    if record is not None and record.settled_at is not None:
        return record.settled_at + timedelta(seconds=record.keep_s)
    if job is not None:
        return job.accepted_at + timedelta(seconds=lifetime_s(job.limits))
    return None
