"""The books of a jobs gateway, kept from outside: what was accepted, and what became of it.

    python checker.py GATEWAY NATS ACCEPTED EVENTS

GATEWAY is the base URL of any gateway, NATS the URLs of nats-server, separated by commas. ACCEPTED
is the journal of the clients (`client.py`), EVENTS that of the sink for replies and usage
(`sink.py`). This shares no code with relume: it asks over HTTP, reads the streams of JetStream, and
compares answers with the scripts in the prompts. The exit code is 1 when something is wrong.
"""

import asyncio
import json
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import nats
import nats.errors
import nats.js.errors
from nats.aio.client import Client
from nats.js import JetStreamContext
from nats.js.api import StreamConfig, StreamSource

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from tests.jobs_outside.script import Script

SETTLED = frozenset({"completed", "failed", "expired", "cancelled", "dead"})
RUNNING = frozenset({"leased", "streaming"})
JOBS, WORK, HISTORY = "relume_jobs", "relume_work", "history_of_jobs"
USAGE = "relume.inference.usage"
REPLIES = frozenset({"relume.inference.response", "relume.inference.error"})
_AT_ONCE = 16
_ANSWER_S = 2.0
_VERSIONS = 64
_THERE_ALREADY = 10058  # err_code of nats-server


@dataclass(frozen=True, slots=True)
class Accepted:
    """One line of the clients' journal: a job that was answered with 202, and what it should be.

    `event` is the id of the request event where the job came as one. `ends` lists the states in
    which it may settle.
    """

    id: str
    prompt: str
    ends: tuple[str, ...] = ("completed",)
    event: str | None = None
    streamed: bool = True
    deleted: bool = False

    @classmethod
    def read(cls, journal: Path) -> Iterator["Accepted"]:
        """Every job once, as its last line says."""
        last: dict[str, Mapping[str, Any]] = {}
        for line in journal.read_text().splitlines() if journal.exists() else ():
            told = json.loads(line)
            last[told["id"]] = last.get(told["id"], {}) | told
        for told in last.values():
            yield cls(**{**told, "ends": tuple(told.get("ends", ("completed",)))})


@dataclass(slots=True)
class Books:
    """What an examination found; ids of jobs, but for the counts and `wrong`, which has words."""

    accepted: int = 0
    states: Counter[str] = field(default_factory=Counter)
    lost: list[str] = field(default_factory=list)
    settled_twice: list[str] = field(default_factory=list)
    replied_twice: list[str] = field(default_factory=list)
    usage_twice: list[str] = field(default_factory=list)
    without_reply: list[str] = field(default_factory=list)
    without_usage: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    sent_again: int = 0
    unrest: str = ""  # what is waited for, where the jobs do not come to rest

    @property
    def queued(self) -> int:
        return self.states["queued"]

    @property
    def running(self) -> int:
        return sum(self.states[each] for each in RUNNING)

    @property
    def settled(self) -> int:
        return sum(self.states[each] for each in SETTLED)

    @property
    def conserved(self) -> bool:
        return self.accepted == self.queued + self.running + self.settled

    @property
    def at_rest(self) -> bool:
        """Everything is settled, and its events are out; not where nothing was accepted."""
        return (
            0 < self.settled == self.accepted and not self.without_reply and not self.without_usage
        )

    @property
    def sound(self) -> bool:
        twice = self.settled_twice or self.replied_twice or self.usage_twice
        return self.conserved and not self.lost and not twice and not self.wrong

    def __str__(self) -> str:
        return "\n".join(
            (
                f"accepted {self.accepted} = queued {self.queued} + running {self.running} + "
                f"settled {self.settled}: {'yes' if self.conserved else 'NO'}; "
                f"{dict(sorted(self.states.items()))}",
                f"lost {len(self.lost)} {self.lost[:5]}",
                f"settled twice {len(self.settled_twice)} {self.settled_twice[:5]}",
                f"replied twice {len(self.replied_twice)} {self.replied_twice[:5]}",
                f"usage twice {len(self.usage_twice)} {self.usage_twice[:5]}",
                f"settled without a reply {len(self.without_reply)} {self.without_reply[:5]}",
                f"settled without usage {len(self.without_usage)} {self.without_usage[:5]}",
                f"wrong {len(self.wrong)}",
                *(f"  {each}" for each in self.wrong[:10]),
                f"events that were sent again, as at-least-once allows: {self.sent_again}",
                *([f"what is waited for:\n{self.unrest}"] if self.unrest else ()),
            )
        )


@dataclass(slots=True)
class Sent:
    """What came at the sink.

    `replies`: for each request event the data of its replies by their identity. `usage`: for each
    job identity and data of its usage events by round.
    """

    replies: Mapping[str, Mapping[str, set[str]]]
    usage: Mapping[str, Mapping[str, set[str]]]
    again: int

    @classmethod
    def read(cls, journal: Path) -> "Sent":
        replies: defaultdict[str, defaultdict[str, set[str]]] = defaultdict(_sets)
        usage: defaultdict[str, defaultdict[str, set[str]]] = defaultdict(_sets)
        seen = Counter[tuple[str, str]]()
        for line in journal.read_text().splitlines() if journal.exists() else ():
            told = json.loads(line)
            attributes = told["attributes"]
            name = attributes["source"], attributes["id"]
            seen[name] += 1
            if attributes["type"] == USAGE:
                data = json.loads(told["data"])
                usage[data["job"]][str(data["round"])].add(" ".join((*name, told["data"])))
            elif attributes["type"] in REPLIES:
                replies[attributes.get("causationid", "")][" ".join(name)].add(told["data"])
        return cls(replies, usage, sum(seen.values()) - len(seen))


def _sets() -> defaultdict[str, set[str]]:
    return defaultdict(set)


async def keep_history(client: Client, replicas: int = 1) -> None:
    """Keep every version of every record from now on, in a stream of the trial's own.

    The gateways keep only the last version of each, so a second settlement would not be seen there.
    A gateway that starts sets its stream right again: call this after each start. Raises
    nats.errors.Error while there is no such stream yet.
    """
    # By hand: nats-py would leave out what it does not know of a configuration.
    config = (await _ask(client, f"STREAM.INFO.{JOBS}", {}))["config"]
    if config["max_msgs_per_subject"] != _VERSIONS:
        # So that no version is gone before the mirror has it.
        config["max_msgs_per_subject"] = _VERSIONS
        await _ask(client, f"STREAM.UPDATE.{JOBS}", config)
    mirror = StreamConfig(
        name=HISTORY, mirror=StreamSource(name=JOBS), num_replicas=replicas, max_msgs_per_subject=-1
    )
    try:
        await client.jetstream(timeout=_ANSWER_S).add_stream(mirror)
    except nats.js.errors.BadRequestError as error:
        if error.err_code != _THERE_ALREADY:
            raise


async def _ask(client: Client, what: str, request: Mapping[str, Any]) -> dict[str, Any]:
    answer = await client.request(f"$JS.API.{what}", json.dumps(request).encode(), _ANSWER_S)
    told: dict[str, Any] = json.loads(answer.data)
    if "error" in told:
        raise nats.errors.Error(f"{what}: {told['error']}")
    return told


class Checker:
    """Examines gateways that keep their jobs in one NATS system."""

    def __init__(self, gateway: str, nats_urls: Sequence[str], headers: Mapping[str, str]) -> None:
        self._gateway = gateway
        self._nats_urls = list(nats_urls)
        self._headers = dict(headers)

    async def examine(
        self, accepted: Iterable[Accepted], events: Path, *, texts: bool = True
    ) -> Books:
        """The books as they are now. `texts`: also read every answer and token stream.

        Raises httpx.HTTPError and nats.errors.Error where nobody answers.
        """
        jobs = list(accepted)
        books = Books(accepted=len(jobs))
        limits = httpx.Limits(max_connections=_AT_ONCE)
        async with httpx.AsyncClient(
            base_url=self._gateway, headers=self._headers, timeout=30, limits=limits
        ) as http:
            free = asyncio.Semaphore(_AT_ONCE)

            async def one(job: Accepted) -> None:
                async with free:
                    await self._one(http, job, books, texts)

            await asyncio.gather(*map(one, jobs))
        sent = Sent.read(events)
        self._events(jobs, sent, books)
        await self._streams(jobs, sent, books)
        return books

    async def _one(self, http: httpx.AsyncClient, job: Accepted, books: Books, texts: bool) -> None:
        answer = await http.get(f"/v1/jobs/{job.id}")
        if answer.status_code in (404, 410):
            if job.deleted:
                books.states["completed"] += 1
            else:
                books.lost.append(job.id)
            return
        answer.raise_for_status()
        status = answer.json()["status"]
        books.states[status] += 1
        if status not in SETTLED:
            return
        if status not in job.ends:
            told = answer.json()
            why = f"{told.get('reason')}: {told.get('detail')}"
            books.wrong.append(f"{job.id} is {status} ({why}), not {' or '.join(job.ends)}")
        elif status == "completed" and texts and not job.deleted:
            await self._text(http, job, books)

    async def _text(self, http: httpx.AsyncClient, job: Accepted, books: Books) -> None:
        """The stored answer and the stream of its parts say what the script says, once."""
        script = Script.read(job.prompt)
        result = await http.get(f"/v1/jobs/{job.id}/result")
        if result.status_code != script.status:
            books.wrong.append(f"{job.id}: the result has status {result.status_code}")
            return
        try:
            text = text_of(result)
        except (ValueError, KeyError) as error:
            text = f"{error!r} in {result.text}"
        if text != script.text():
            books.wrong.append(f"{job.id}: the result is {text!r}, not {script.text()!r}")
        if not job.streamed:
            return
        stream = await http.get(f"/v1/jobs/{job.id}/events")
        told = list(sse(stream.text))
        if words := faults_of_stream(told, script.text(), "completed"):
            books.wrong.append(f"{job.id}: {words}")

    async def _streams(self, jobs: Sequence[Accepted], sent: Sent, books: Books) -> None:
        """Settlements from the history, each with its usage; ids from the streams themselves."""
        client = await nats.connect(servers=self._nats_urls)
        try:
            jetstream = client.jetstream(timeout=5)
            settlements = Counter[tuple[str, int]]()
            for record in (await versions(jetstream)).values():
                if record["state"] in SETTLED and not record.get("deleted"):
                    settlements[record["id"], record.get("round", 1)] += 1
            books.settled_twice = [job for (job, _), count in settlements.items() if count > 1]
            books.without_usage += [
                f"{job} in round {round_}"
                for job, round_ in settlements
                if str(round_) not in sent.usage.get(job, {})
            ]
            kept = await _last_tokens(jetstream, WORK, JOBS)
            lost = {job.id for job in jobs if job.id not in kept and not job.deleted}
            books.lost = sorted({*books.lost, *lost})
        finally:
            await client.close()

    def _events(self, jobs: Sequence[Accepted], sent: Sent, books: Books) -> None:
        books.sent_again = sent.again
        for job in jobs:
            told = sent.usage.get(job.id, {})
            if any(len(each) > 1 for each in told.values()):
                books.usage_twice.append(job.id)
            elif not told:
                books.without_usage.append(job.id)
            if job.event is None:
                continue
            told = sent.replies.get(job.event, {})
            if len(told) > 1 or any(len(each) > 1 for each in told.values()):
                books.replied_twice.append(job.id)
            elif not told:
                books.without_reply.append(job.id)


async def versions(jetstream: JetStreamContext) -> Mapping[int, Mapping[str, Any]]:
    """Every version of every record by its place in the stream of records."""
    found: dict[int, Mapping[str, Any]] = {}
    for stream in (JOBS, HISTORY):  # what the mirror does not have yet is still in the first one
        state = (await jetstream.stream_info(stream)).state
        if not state.messages:
            continue
        subscription = await jetstream.subscribe("", stream=stream, ordered_consumer=True)
        left = 1
        while left:
            message = await subscription.next_msg(timeout=10)
            left = message.metadata.num_pending
            if message.data:
                found[message.metadata.sequence.stream] = record_of(message.data)
        await subscription.unsubscribe()
    return found


def record_of(data: bytes) -> Mapping[str, Any]:
    """The record in a message of the stream of records: its first line."""
    record: Mapping[str, Any] = json.loads(data.partition(b"\n")[0])
    return record


async def _last_tokens(jetstream: JetStreamContext, *streams: str) -> set[str]:
    """The last tokens of all subjects in these streams: ids of jobs."""
    found: set[str] = set()
    for stream in streams:
        info = await jetstream.stream_info(stream, subjects_filter=">")
        found |= {subject.rpartition(".")[2] for subject in info.state.subjects or {}}
    return found


def text_of(answer: httpx.Response) -> str:
    """The text of an OpenAI answer, streamed or whole; the data of an event likewise."""
    if answer.headers.get("content-type", "").startswith("text/event-stream"):
        return "".join(part_of(data) for _, _, data in sse(answer.text))
    told = answer.json()
    if "specversion" in told:
        told = told["data"]
    [choice] = told["choices"]
    text = choice["message"]["content"] if "message" in choice else choice["text"]
    return str(text)


def sse(text: str) -> Iterator[tuple[str, str, str]]:
    """(id, event, data) of server-sent events; comments are left out."""
    for block in text.replace("\r\n", "\n").split("\n\n"):
        fields = defaultdict(list)
        for line in block.split("\n"):
            name, _, value = line.partition(":")
            if name:
                fields[name].append(value.removeprefix(" "))
        if fields:
            yield (
                "".join(fields["id"]),
                "".join(fields["event"]) or "message",
                "\n".join(fields["data"]),
            )


def part_of(data: str) -> str:
    """The text in one chunk of an OpenAI stream."""
    if not data.startswith("{"):
        return ""
    choices = json.loads(data).get("choices") or []
    if not choices:
        return ""
    return str(choices[0].get("delta", choices[0]).get("content", choices[0].get("text", "")) or "")


def faults_of_stream(
    told: Sequence[tuple[str, str, str]], text: str, end: str, after: int = 0
) -> str:
    """What is wrong with the parts of a stream that follow position `after`; "" where nothing is.

    Positions go up by one, the terminal event is the last one, and the text behind the last
    `restarted` is `text`.
    """
    positions = [int(position) for position, _, _ in told]
    if positions != list(range(after + 1, after + 1 + len(positions))):
        return f"the positions are {positions[:3]} … {positions[-3:]} after {after}"
    if not told or told[-1][1] != end:
        return f"the stream ends with {told[-1:]}, not with {end}"
    shown = ""
    for _, event, data in told[:-1]:
        if event == "restarted":
            shown = ""
        elif event != "message":
            return f"a terminal event in the middle: {event}"
        else:
            shown += part_of(data)
    return "" if shown == text else f"the stream says {shown!r}, not {text!r}"


async def _main(gateway: str, nats_urls: str, accepted: str, events: str) -> int:
    checker = Checker(gateway, nats_urls.split(","), {})
    books = await checker.examine(Accepted.read(Path(accepted)), Path(events))
    print(books)
    return 0 if books.sound else 1


if __name__ == "__main__":
    if len(sys.argv) != 5:
        raise SystemExit(__doc__)
    raise SystemExit(asyncio.run(_main(*sys.argv[1:])))
