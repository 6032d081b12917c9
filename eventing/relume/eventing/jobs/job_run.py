"""One job under one lease: its requests to the predictor, and the parts of its answer.

Every `await` here may be the last thing that this process does. What a reader has seen is stored
before it is shown, what was asked is written before it is asked (`Attempted`), and the next worker
goes on from both. Nothing in this object is needed by it.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from functools import partial

import orjson

from relume.base.clock import Clock, Timer
from relume.base.errors import RelumeError
from relume.base.interrupt import Interrupt
from relume.base.limits import KIB
from relume.cloudevents.event import InvalidEvent
from relume.cloudevents.http import Mode, decode, encode
from relume.eventing.delivery.decision import DeadLetter, Retry
from relume.eventing.delivery.llm_d import FreeRetry, refused, router_headers
from relume.eventing.delivery.outcome import Answered, Outcome, Unanswered, pause_s
from relume.eventing.event_log import LeaseLost, StoreUnavailable
from relume.eventing.jobs.chunk_log import STORE_PAUSE_S, ChunkLog
from relume.eventing.jobs.continuation import Question, question_of
from relume.eventing.jobs.ends import End, of_event, of_refusal, tokens_in
from relume.eventing.jobs.held_job import HeldJob, is_over
from relume.eventing.jobs.payloads import request_event, whole_body
from relume.eventing.jobs.predictor import (
    Answer,
    AnswerTooLarge,
    NoAnswer,
    NoConnection,
    Predictors,
    once_connected,
)
from relume.eventing.jobs.retries import PROFILE, Retries
from relume.eventing.jobs.settings import JobSettings, lifetime_s
from relume.eventing.jobs.sse import EventTooLong
from relume.eventing.jobs.state import (
    AlreadySettled,
    Answering,
    Attempted,
    Usage,
    fence,
    may_be_attempted,
    round_of,
)
from relume.eventing.jobs.store import JobStore, NoSuchPayload
from relume.eventing.jobs.transcript import BrokenPart, StreamedError, Tokens, Transcript

log = logging.getLogger(__name__)

_ERROR_BODY_BYTES = 64 * KIB


class _TimeUp(RelumeError):
    """A clock of the job ran out; the message is its name."""

    reason = "time-up"


class _MustBeginAgain(Exception):
    """The predictor does not take the text so far."""


@dataclass(frozen=True, slots=True)
class World:
    """What all jobs of a service share. `url` is the predictor's, without a path of a route."""

    url: str
    store: JobStore
    predictors: Predictors
    clock: Clock
    settings: JobSettings
    pause: Callable[[float], None]  # no job of the service is begun for so many seconds


class JobRun:
    """The attempts of one job; enter `opened` first.

    `begun` says that the lease has counted the first attempt already.
    """

    def __init__(
        self, world: World, held: HeldJob, generation: int, *, begun: bool = False
    ) -> None:
        self._world = world
        self._clock = world.clock
        self._held = held
        self._job = held.job
        self._generation = generation
        self._begun = begun
        self._retries = Retries(held.job.limits.max_attempts)
        lasts_s = lifetime_s(held.job.limits)
        self._chunks = ChunkLog(
            world.store,
            held.job.id,
            fence(held.job, generation),
            lasts_s,
            world.clock,
            world.settings,
        )
        self._interrupt = Interrupt()
        self._chunks.on_error = self._interrupt.trip
        self._body = b""
        self._unreadable: End | None = None  # where the request itself is gone
        self._transcript: Transcript | None = None
        self._question: Question | None = None
        self._may_go_on = True
        self._goes_on = False  # whether the request under way goes on from stored text
        self._shown_before = False  # parts of an earlier round
        self._refused = Answered(0)  # the last answer that was none of the job
        self._refused_type = ""
        self._unreached = ""  # why no model was asked by the request under way
        self._start_left_s: float | None = None  # None: the next request is a new attempt
        self._tokens = Tokens()  # of an answer that was not streamed
        self._start_until = 0.0  # when the time to start of the request under way is over
        self._run_s = 0.0

    @property
    def position(self) -> int:
        """The position of the last stored part."""
        return self._chunks.position

    @property
    def usage(self) -> Usage:
        """What the job has cost up to now."""
        record = self._held.record
        assert record is not None
        tokens = self._tokens if self._transcript is None else self._transcript.tokens
        waited = (record.leased_at or self._clock.now()) - record.accepted_at
        return Usage(
            prompt_tokens=tokens.prompt,
            completion_tokens=tokens.completion,
            cached_tokens=tokens.cached,
            queue_ms=max(0, round(waited.total_seconds() * 1000)),
            cold_start_ms=record.usage.cold_start_ms,
            run_ms=round(self._run_s * 1000),
        )

    @contextlib.asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        """Read the request and the stored parts."""
        try:
            self._body = await self._read_body()
        except NoSuchPayload as error:
            self._unreadable = End("failed", error.reason, str(error))
        if not self._job.is_event:
            self._question = question_of(self._job.route, self._job.content_type, self._body)
            if self._question is not None:
                self._transcript = Transcript(self._question)
        await self._read_parts()
        watching = asyncio.create_task(self._watch())
        try:
            async with self._chunks.writing():
                yield
        finally:
            watching.cancel()
            await asyncio.wait([watching])

    async def attempt(self) -> End | Retry:
        """One request, or none where the end is known. Raises LeaseLost and AlreadySettled."""
        if (end := self._unreadable or await self._known_end()) is not None:
            return end
        record = self._held.record
        if self._begun:
            self._begun = False  # this attempt is counted already
        elif self._start_left_s is not None:
            # So is this one; no write would show that the job was cancelled in the wait.
            await self._held.confirm(self._generation)
        elif record is not None and not may_be_attempted(record, self._job):
            return End("dead", "retries-exhausted", "the worker of the last attempt died")
        else:
            await self._held.take(Attempted(self._generation))
        while True:
            try:
                return await self._try()
            except _MustBeginAgain:
                self._may_go_on = False
            except LeaseLost:
                # The worker before this one may have stored a part after this one had read them.
                await self._held.confirm(self._generation)
                await self._read_parts()
                if (end := await self._known_end()) is not None:
                    return end

    async def _try(self) -> End | Retry:
        outcome: Outcome
        try:
            with self._interrupt:
                asked = await self._ask()
        except _TimeUp as error:
            asked = self._expired(str(error))
        except StreamedError as error:
            asked = self._refused = Answered(error.status, body=error.body)
            self._refused_type = "application/json"
        except (NoAnswer, BrokenPart) as error:
            asked = Unanswered(str(error))
        except (AnswerTooLarge, EventTooLong) as error:
            asked = End("failed", error.reason, str(error))
        if self._transcript is not None:
            self._chunks.put(self._transcript.end())
            await self._chunks.flush()
            if (end := await self._known_end()) is not None:
                return end
        if isinstance(asked, End):
            return asked
        outcome = asked
        if isinstance(outcome, Answered) and self._must_begin_again(outcome.status):
            raise _MustBeginAgain
        return self._decided(outcome)

    async def _ask(self) -> End | Outcome:
        """One request; also returns when the transcript is complete, which ends the job."""
        limits, job = self._job.limits, self._job
        body, headers = self._request()
        streamed = self._transcript is not None
        # An answer that comes at once does not say when the predictor has begun with it.
        start_s = limits.start_s if streamed else limits.start_s + limits.run_s
        if self._start_left_s is None:
            self._unreached = ""
        else:
            start_s, self._start_left_s = self._start_left_s, None
        self._start_until = self._clock.monotonic() + start_s
        timer = self._timer(start_s, "start" if streamed else "run")
        began: float | None = None
        try:
            post = partial(self._world.predictors.post, self._world.url + job.route, headers, body)
            # A request that nobody took uses up no attempt: nothing was asked.
            async with once_connected(post, self._clock, self._not_connected) as (answer, asked):
                timer.cancel()
                if not answer.good:
                    return await self._refusal(answer)
                self._unreached = ""
                began = answer.began(asked, self._clock.monotonic())
                timer = self._timer(limits.run_s, "run")
                now, cold_start_ms = self._clock.now(), answer.cold_start_ms
                await self._held.take(Answering(self._generation, now, cold_start_ms))
                if self._transcript is not None and answer.streams:
                    return await self._stream(answer, self._transcript)
                return await self._whole(answer)
        finally:
            timer.cancel()
            if began is not None:
                self._run_s += self._clock.monotonic() - began

    def _expired(self, clock: str) -> End:
        why = f": {self._unreached}" if self._unreached else ""
        return End("expired", clock, f"the time to {clock} is over{why}")

    def _not_connected(self, error: NoConnection) -> None:
        self._unreached = str(error)
        log.info("job %s: %s", self._job.id, error)

    async def _stream(self, answer: Answer, transcript: Transcript) -> Outcome:
        size, most = 0, self._world.settings.max_body_bytes
        answer.on_end(self._chunks.begins())
        async for together in answer.parts(self._chunks):
            parts: list[bytes] = []
            try:
                for data in together:
                    size += len(data)
                    if size > most:
                        raise AnswerTooLarge(f"the answer streams more than {size} bytes")
                    parts += transcript.receive(data)
            finally:
                self._chunks.put(parts)
            await self._chunks.room()
        return Unanswered("the stream ended before the answer was complete")

    async def _whole(self, answer: Answer) -> End | Outcome:
        body = await answer.read(self._world.settings.max_body_bytes)
        if not self._job.is_event:
            self._transcript = None  # the predictor does not stream
            self._tokens = tokens_in(body)
            return End("completed", result=(answer.status, answer.content_type, body))
        try:
            reply = decode(answer.headers, body, lenient=True).event if body else None
        except InvalidEvent as error:
            return Answered(answer.status, malformed=f"the reply is no event: {error}")
        self._tokens = tokens_in(reply.data or b"") if reply is not None else Tokens()
        return of_event(answer.status, reply)

    async def _refusal(self, answer: Answer) -> Answered:
        body = await answer.read_some(_ERROR_BODY_BYTES)
        self._refused = refused(answer.status, body, answer.headers)
        self._refused_type = answer.content_type
        return self._refused

    def _decided(self, outcome: Outcome) -> End | Retry:
        record, now = self._held.record, self._clock.now()
        attempt = record.attempt if record is not None else 1
        action = self._retries.decide(outcome, attempt, now)
        if pause := pause_s(outcome, self._retries.policy, now):
            self._world.pause(pause)
        if isinstance(action, FreeRetry):
            self._unreached = action.why
            self._start_left_s = self._start_until - self._clock.monotonic() - action.after_s
            if self._start_left_s <= 0:
                return self._expired("run" if self._transcript is None else "start")
        if isinstance(action, Retry):
            return action
        if isinstance(action, DeadLetter):
            return of_refusal(action, self._refused, self._refused_type)
        raise AssertionError(f"an answer that ends nothing: {outcome}")

    def _must_begin_again(self, status: int) -> bool:
        """Whether a request that goes on was refused for good: then it is the going on."""
        goes_on, self._goes_on = self._goes_on, False
        return goes_on and 400 <= status < 500 and status not in PROFILE.retried

    def _request(self) -> tuple[bytes, list[tuple[str, str]]]:
        """The body and the headers of the next request, from the beginning or going on."""
        job, transcript = self._job, self._transcript
        headers = list(job.headers.items())
        if job.event is not None:
            event = request_event(job, self._body)
            encoded, body = encode(event, Mode.BINARY)
            routed = router_headers(event)
            return body or b"", [*encoded, *headers, *routed, ("Prefer", "reply")]
        if not any(name.lower() == "content-type" for name, _ in headers):
            headers.append(("Content-Type", job.content_type))
        if transcript is None:
            return self._body, headers
        # Its end wakes this process, also while the answer is not read (`Answer.parts`).
        headers.append(("Connection", "close"))
        going_on = transcript.going_on() if self._may_go_on else None
        self._goes_on = going_on is not None
        if going_on is not None:
            transcript.go_on()
            return orjson.dumps(going_on), headers
        if self._shown_before or not transcript.is_blank:
            record = self._held.record
            attempt = record.attempt if record is not None else 1
            self._chunks.put([str(attempt).encode()], "restarted")
            self._shown_before = False
        transcript.begin_again()
        return orjson.dumps(transcript.first_request), headers

    async def _known_end(self) -> End | None:
        """How the job ends where all of its answer is stored, or only its end is missing."""
        transcript = self._transcript
        if transcript is None:
            return None
        if not transcript.finished and transcript.exhausted:
            self._chunks.put(transcript.cut_off())
            await self._chunks.flush()
        if not transcript.finished:
            return None
        return End("completed", result=(200, "application/json", transcript.whole()))

    async def _read_body(self) -> bytes:
        while True:
            try:
                return await whole_body(self._world.store, self._job)
            except StoreUnavailable:
                await self._clock.sleep(STORE_PAUSE_S)

    async def _read_parts(self) -> None:
        record = self._held.record
        assert record is not None
        first = record.attempt == 1 if self._begun else record.generation == 1 > record.attempt
        if record.round == 1 and first:
            return  # nobody has tried the job before
        chunks = await self._chunks.read(record.position)
        # By their fence, not by their position: a worker of an earlier round that was cancelled may
        # have stored more than its record tells.
        of_this_round = [each for each in chunks if round_of(each.generation) == record.round]
        self._shown_before = bool(chunks) and not of_this_round
        if self._question is not None:
            self._transcript = Transcript(self._question)
            self._transcript.restore(of_this_round)

    async def _watch(self) -> None:
        """End the request when the job is cancelled, another worker has it, or nobody can tell."""
        while True:
            try:
                async for record in self._world.store.watch(self._job.id):
                    newer = record.generation > self._generation
                    said = f"job {self._job.id} is {record.state} in lease {record.generation}"
                    if is_over(record, self._job):
                        self._interrupt.trip(AlreadySettled(said))
                    elif newer and record.round == self._job.round:
                        self._interrupt.trip(LeaseLost(said))
            except StoreUnavailable:
                await self._clock.sleep(STORE_PAUSE_S)
            except Exception as error:
                # Nobody would notice a cancellation: the record is damaged, say.
                log.exception("job %s: its record cannot be watched", self._job.id)
                self._interrupt.trip(error)
                await self._clock.sleep(STORE_PAUSE_S)

    def _timer(self, seconds: float, name: str) -> Timer:
        trip = partial(self._interrupt.trip, _TimeUp(name))
        return self._clock.call_later(seconds, trip)
