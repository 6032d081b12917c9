"""Which event an id names: the whole id or its beginning, and of which source."""

from collections.abc import Iterable, Iterator, Sequence

from relume.cli.errors import BadUsage
from relume.cli.machine.reports import EventRecord
from relume.cli.machine.story import related
from relume.eventing.answer_event import reply_id

_SHOWN = 5
# How the ids of answers to plain HTTP requests begin.
_OF_REQUESTS = ("chatcmpl-", "cmpl-", "resp_", "msg_", "embd-")


def chosen_id(known: Iterable[str], wanted: str) -> str | None:
    """Return the one id that is `wanted` or begins with it; None where there is none.

    Raises BadUsage where several begin with it.
    """
    ids = list(dict.fromkeys(known))
    if wanted in ids:
        return wanted
    found = [each for each in ids if each.startswith(wanted)]
    if len(found) > 1:
        more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
        shown = ", ".join(found[:_SHOWN])
        raise BadUsage(f"{wanted}: {len(found)} ids begin with it: {shown}{more}; write one out")
    return found[0] if found else None


def known_ids(records: Iterable[EventRecord]) -> Iterator[str]:
    """Yield the ids of events with records, and of those of which only the answers have some."""
    for record in records:
        yield from filter(None, (record.id, record.causation, record.answers))


def records_of(
    records: Sequence[EventRecord], event_id: str, source: str | None
) -> list[EventRecord]:
    """Return the records of one event and of all that answers it.

    An event is named by its source and its id together. Raises BadUsage where events of several
    sources have the id and `source` chooses none of them.
    """
    sources = _sources(records, event_id)
    if source is None and len(sources) > 1:
        names = " and ".join(sources)
        raise BadUsage(f"{event_id}: events from {names} have this id; choose one with --source")
    if source is not None and source not in sources:
        there = f"; there is one from {' and '.join(sources)}" if sources else ""
        raise BadUsage(f"--source {source}: no event {event_id} from there{there}")
    others = [each for each in sources if source is not None and each != source]
    foreign = {reply_id(each, event_id) for each in others}
    own = [
        record
        for record in records
        if record.id not in foreign and not (record.id == event_id and record.source in others)
    ]
    return related(own, event_id)


def _sources(records: Sequence[EventRecord], event_id: str) -> list[str]:
    """Return who has sent an event of this id. A function may answer under the id of its request.

    Of an event that is itself an answer it is whoever has answered.
    """
    replies = {(each.id, each.source) for each in records if each.stage == "replied"}
    named = [each for each in records if each.id == event_id and not each.is_job]
    sent = [each.source for each in named if (each.id, each.source) not in replies]
    return list(dict.fromkeys(sent or (each.source for each in named)))


def unknown(event_id: str, started_at: str | None, newest_jobs: int) -> str:
    """Say that an id is not known, what is remembered, and where to look.

    started_at: since when the plane runs; None for a gateway, which remembers no events.
    """
    jobs = f"none of the newest {newest_jobs:,} jobs came as it"
    if event_id.startswith(_OF_REQUESTS):
        return (
            f"{event_id}: no such event, and {jobs}. It looks like the id of an answer over HTTP, "
            "of which nothing is recorded: its headers relume-queue-ms and relume-cold-start-ms "
            "say how long it waited, and `relume status` what the last start took"
        )
    if started_at is None:
        return f"{event_id}: no such event here, and {jobs}"
    return (
        f"{event_id}: no such event among the last 1,000 records of the plane, and {jobs}. "
        f"The plane remembers nothing from before its start at {started_at}; `relume dlq list` "
        "has the dead letters of earlier times, `relume events --replay 1000 --no-follow` the rest"
    )
