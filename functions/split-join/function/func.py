"""A long document goes out in parts, and the answers come together in order.

The parts are requests, posted to `K_SINK`; their `correlationid` says which part they are, and a
model copies it into its answer. When all parts of a round are answered, either the answers are
joined or they become the parts of a shorter round, until one is left. The state is in JetStream's
key-value store (`jobs.py`), so that any process can go on with any job.
"""

import asyncio
import hashlib
import json
import logging
import re
import time
from collections.abc import Callable
from typing import Any

from cloudevents.core.v1.event import CloudEvent

from .events import (
    COPIED,
    ERROR,
    MODEL_ERROR,
    Answer,
    EventFunction,
    HttpAnswer,
    Json,
    Refusal,
    error_answer,
    event_for,
    object_of,
    text_of,
)
from .jobs import End, Job, Jobs, Part
from .settings import ConfigError, Settings, load_settings
from .sink import Sink, SinkError
from .store import Store
from .texts import group, split

FIELDS = frozenset(
    {"documents", "request_type", "type", "tick", "kind", "part_chars", "most_parts"}
    | {"timeout_s", "reduce_chars"}
    | {"partial", "reduce", "instruction", "reduce_instruction", "max_tokens"}
)
BUCKET = "relume-split-join"
KEEP_S = 7 * 86_400
_PART = re.compile(r"sj\.([0-9a-f]{24})\.(\d{1,3})\.(\d{1,5})")
_AT_ONCE = 8
#: Who ended a job whose time was over.
_LATE = "tick"


def new() -> "SplitJoin":
    return SplitJoin()


class SplitJoin(EventFunction):
    name = "split-join"
    takes_errors = True

    def __init__(self, now: Callable[[], float] = time.time) -> None:
        self._now = now

    def start(self, cfg: dict[str, str]) -> None:
        super().start(cfg)
        settings = load_settings(cfg, "split-join.yaml", FIELDS)
        self._documents = settings.read("documents", list)
        self._request_type = settings.read("request_type", str)
        self._type = settings.read("type", str)
        self._tick = settings.read("tick", str, "relume.function.tick")
        self._chars = _positive(settings, "part_chars", 2000, least=100)
        self._reduce_chars = _positive(settings, "reduce_chars", self._chars, least=100)
        self._most_parts = _positive(settings, "most_parts", 500)
        self._timeout_s = _positive(settings, "timeout_s", 900)
        self._partial = settings.read("partial", bool, True)
        self._reduce = _one_of(settings, "reduce", "join", "model")
        self._kind = _one_of(settings, "kind", "chat", "embedding")
        self._instruction = settings.read("instruction", str, "Summarize this part.")
        self._together = settings.read("reduce_instruction", str, self._instruction)
        self._max_tokens = _positive(settings, "max_tokens", 200)
        url = cfg.get("NATS_URL")
        if not url:
            raise ConfigError("NATS_URL is not set; it names the nats-server that keeps the state")
        self._jobs = Jobs(Store(url, BUCKET, KEEP_S))
        self._sink = Sink(cfg)
        logging.info("documents of %s become %s", self._documents, self._type)

    async def answer(self, request: CloudEvent) -> Answer | None:
        part = _PART.fullmatch(text_of(request, "correlationid") or "")
        if request.get_type() in self._documents:
            return await self._take(request)
        if request.get_type() == self._tick:
            await self._end_the_late()
            return None
        if part is not None:
            return await self._answered(request, part[1], int(part[2]), int(part[3]))
        if request.get_type() == ERROR:
            return None
        raise Refusal("unknown-event", "neither a document nor the answer for a part", "type")

    async def _take(self, request: CloudEvent) -> Answer | None:
        """Begin the job of a document, or go on with it where it is known."""
        texts = split(_document(request), self._chars)
        if not texts:
            raise Refusal("empty-document", "the document has no text", "data")
        if len(texts) > self._most_parts:
            told = f"the document has {len(texts)} parts, and most_parts is {self._most_parts}"
            raise Refusal("document-too-long", told, "data")
        attributes = {"id": request.get_id(), "source": request.get_source()}
        attributes |= {name: value for name in COPIED if (value := text_of(request, name))}
        job = Job(_job_id(request), attributes, (len(texts),), self._now() + self._timeout_s)
        job = await self._jobs.begin(job)
        if job.round == 0:
            await self._ask(job, texts)
        return await self._advance(job, 0, _name(request))

    async def _answered(
        self, request: CloudEvent, id_: str, round_: int, number: int
    ) -> Answer | None:
        job = await self._jobs.find(id_)
        if job is None:
            raise Refusal("unknown-job", "the job of this part is not there any more")
        if round_ > job.round or number >= job.rounds[round_]:
            raise Refusal("unknown-part", "the job has no such part", "correlationid")
        await self._jobs.settle(id_, round_, number, _part(request))
        return await self._advance(job, round_, _name(request))

    async def _advance(self, job: Job, asked: int, by: str) -> Answer | None:
        """Do what can be done for a job: wait, begin the next round, or end it.

        `asked` is the round of the event at hand, and `by` names that event. Where the job is
        further already, the process that took it there may have been killed before it asked for
        all parts, so they are asked for again; a Broker and the store know what they have.
        """
        if (end := await self._jobs.ended(job.id)) is not None:
            return await self._result(job, by) if end.by == by else None
        if job.deadline <= self._now():
            return await self._result(job, by)
        if job.round > asked:
            before = await self._jobs.parts(job, job.round - 1)
            await self._ask(job, group(_texts(before), self._reduce_chars))
        if len(await self._jobs.answered(job)) < job.rounds[-1]:
            return None
        if self._reduce == "join" or self._kind == "embedding" or job.rounds[-1] == 1:
            return await self._result(job, by)
        texts = group(_texts(await self._jobs.parts(job, job.round)), self._reduce_chars)
        if not texts:
            return await self._result(job, by)
        await self._jobs.next_round(job, len(texts))  # or somebody else did, with the same texts
        further = await self._jobs.find(job.id)
        assert further is not None, "jobs are kept for days"
        return await self._advance(further, asked, by)

    async def _ask(self, job: Job, texts: list[str]) -> None:
        """Post the requests of a round for the parts that have no answer yet."""
        answered = await self._jobs.answered(job)
        places = asyncio.Semaphore(_AT_ONCE)

        async def ask(number: int, text: str) -> None:
            async with places:
                await self._sink.post(self._request(job, number, text))

        waiting = [n for n in range(len(texts)) if n not in answered]
        try:
            async with asyncio.TaskGroup() as group_:
                for number in waiting:
                    group_.create_task(ask(number, texts[number]))
        except ExceptionGroup as errors:
            told = str(errors.exceptions[0])
            raise HttpAnswer(503, "sink-unavailable", told, 2) from None

    def _request(self, job: Job, number: int, text: str) -> CloudEvent:
        name = f"sj.{job.id}.{job.round}.{number}"
        data: Json = {"input": [text]}
        if self._kind == "chat":
            instruction = self._instruction if job.round == 0 else self._together
            data = {
                "messages": [
                    {"role": "system", "content": instruction},
                    {"role": "user", "content": text},
                ],
                "max_tokens": self._max_tokens,
                "temperature": 0,
            }
        attributes = {"id": name, "correlationid": name}
        about = CloudEvent(dict(job.request) | {"type": self._type})
        return event_for(
            about, Answer(self._request_type, data, attributes=attributes), self.source
        )

    async def _end_the_late(self) -> None:
        """Post the result of every job whose time is over and that no answer has ended."""
        for id_ in await self._jobs.untold():
            job = await self._jobs.find(id_)
            if job is None or job.deadline > self._now():
                continue
            end = await self._jobs.ended(id_)
            if end is None or end.by == _LATE:
                answer = await self._result(job, _LATE)
                about = CloudEvent(dict(job.request) | {"type": self._type})
                try:
                    await self._sink.post(event_for(about, answer, self.source))
                except SinkError as error:
                    raise HttpAnswer(503, "sink-unavailable", str(error), 2) from None
            await self._jobs.told(id_)

    async def _result(self, job: Job, by: str) -> Answer:
        """End the job, if nobody has; the result is the same whenever it is asked for."""
        first = await self._jobs.parts(job, 0)
        missing = tuple(n for n, part in enumerate(first) if part is None or part.error)
        last = await self._jobs.parts(job, job.round)
        reduced = job.rounds[-1] == 1 and job.round > 0 and bool(_texts(last))
        # Answers may still come in; the decision that was stored first holds.
        end = await self._jobs.end(job.id, End(by, missing, reduced))
        attributes = {"id": f"sj.{job.id}", "causationid": job.request["id"]}
        attributes |= {name: job.request[name] for name in COPIED if name in job.request}
        try:
            data = self._joined([None if n in end.missing else p for n, p in enumerate(first)])
        except Refusal as refusal:
            made = error_answer(refusal)
            return Answer(made.type, made.data, attributes=attributes)
        if end.reduced:
            data["text"] = "\n\n".join(_texts(last))
        return Answer(self._type, data, attributes=attributes)

    def _joined(self, first: list[Part | None]) -> Json:
        missing = [n for n, part in enumerate(first) if part is None or part.error]
        if len(missing) == len(first) or (missing and not self._partial):
            told = f"{len(missing)} of {len(first)} parts have no answer"
            raise Refusal("parts-missing", told)
        data: Json = {"parts": len(first), "missing": missing, "complete": not missing}
        if self._kind == "embedding":
            vectors = [{"part": n, "vector": part.vector} for n, part in enumerate(first) if part]
            return data | {"vectors": [each for each in vectors if each["vector"] is not None]}
        return data | {"text": "\n\n".join(_texts(first))}


def _document(request: CloudEvent) -> str:
    """The text of a document: text as it is, or the field `text` of an object."""
    data: Any = request.get_data()
    if isinstance(data, str) and "json" not in (request.get_datacontenttype() or "json"):
        return data
    text = object_of(request).get("text")
    if not isinstance(text, str):
        raise Refusal("invalid-data", "the data must be text, or have a field text", "data.text")
    return text


def _part(request: CloudEvent) -> Part:
    """What an answer brings for its part; what is no answer is an error of the part."""
    data = request.get_data()
    if not isinstance(data, dict):
        return Part(error="invalid-answer")
    if request.get_type() in (ERROR, MODEL_ERROR):
        return Part(error=str(data.get("reason", "unknown")))
    try:
        if "choices" in data:
            choice = data["choices"][0]
            text = choice["message"]["content"] if "message" in choice else choice["text"]
            return Part(text=text.strip()) if isinstance(text, str) else Part(error="no-answer")
        vector = tuple(float(number) for number in data["data"][0]["embedding"])
        return Part(vector=vector)
    except (LookupError, TypeError, ValueError):
        return Part(error="invalid-answer")


def _texts(parts: list[Part | None]) -> list[str]:
    return [part.text for part in parts if part is not None and part.text]


def _name(request: CloudEvent) -> str:
    return json.dumps([request.get_source(), request.get_id()])


def _job_id(request: CloudEvent) -> str:
    return hashlib.sha256(_name(request).encode()).hexdigest()[:24]


def _positive(settings: Settings, name: str, default: int, least: int = 1) -> int:
    value: int = settings.read(name, int, default)
    if value < least:
        raise ConfigError(f"{settings.file}: {name} must be at least {least}")
    return value


def _one_of(settings: Settings, name: str, *choices: str) -> str:
    value: str = settings.read(name, str, choices[0])
    if value not in choices:
        raise ConfigError(f"{settings.file}: {name} must be {' or '.join(choices)}")
    return value
