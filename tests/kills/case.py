"""One kill: who is killed in which phase, and what is true afterwards whoever it was."""

import time
import uuid
from dataclasses import dataclass, field
from typing import Any

import psutil
from click.testing import CliRunner

from relume.cli.machine import explain, status
from tests.kills import processes
from tests.kills.asking import Asked
from tests.kills.manifests import FUNCTION
from tests.kills.stage import Stage

#: The next request, the answer of the event and the job are there within these seconds, and the
#: killed family is gone. A start of a fresh process takes five seconds of a quiet machine.
NEXT_WITHIN_S, ANSWERED_WITHIN_S, GONE_WITHIN_S = 60.0, 90.0, 20.0
TOKENS, MANY_TOKENS = 8, 150
#: Who can be killed without harm to any request of a model.
HARMLESS = ("gatekeeper", "nats-server")


@dataclass(frozen=True)
class Case:
    """A process and a phase; `kind` is how its service starts, `group` which plane it needs."""

    process: str
    phase: str
    kind: str
    group: str = "all"

    def __str__(self) -> str:
        return f"{self.process}-{self.phase}".replace(" ", "_")


@dataclass
class Run:
    """What was seen of one case."""

    case: Case
    stage: Stage
    service: str
    hit: str = ""
    middle: str = ""
    asked: Asked = field(init=False)
    event_id: str = field(default_factory=lambda: f"k-{uuid.uuid4().hex[:12]}")
    said: list[str] = field(default_factory=list)
    victims: list[psutil.Process] = field(default_factory=list)
    killed: int = 0

    def __post_init__(self) -> None:
        plane = self.stage.plane
        self.asked = Asked(plane.http, plane.broker, self.service)

    # Before the kill.

    def ask(self, *kinds: str, tokens: int = TOKENS) -> None:
        """Let these requests be under way; events and jobs get a short answer."""
        for kind in kinds:
            short = kind in ("event", "job")
            self.asked.ask(kind, min(tokens, 64) if short else tokens, self.event_id)

    def all_have_come(self) -> None:
        """Wait until the plane has accepted what is to be accepted, and holds the rest."""
        accepted = [a for a in self.asked.answers.values() if a.kind in ("event", "job")]
        others = len(self.asked.answers) - len(accepted)

        def come() -> bool:
            now = self.stage.plane.service(self.service)
            stored = all(answer.status for answer in accepted)
            return stored and now["held"] + now["in_flight"] >= others + bool(accepted)

        processes.until(come, 10)

    def kill(self, pid: int | None, *, told: str, with_it: int | None = None) -> None:
        """Kill this process; `told` is the phase that was seen. with_it: who has to end as well."""
        assert pid is not None, f"there is no {self.case.process}"
        self.victims = processes.family(pid)
        if with_it is not None:
            self.victims += processes.family(with_it)
        assert self.victims, f"{self.case.process} has ended already"
        self.hit, self.killed = told, pid
        processes.kill(pid)

    # After it.

    def gone(self) -> None:
        """Nothing of the killed family runs."""
        assert processes.left_of(self.victims, GONE_WITHIN_S) == []

    def dead(self) -> None:
        """The killed process itself has ended: the kernel takes a moment to put it away."""
        assert processes.until(lambda: not processes.lives(self.killed), GONE_WITHIN_S, 0.001)

    def next_answer(self) -> None:
        """The next request, plain and as a stream, is answered without an error in between."""
        began = time.monotonic()
        plane = self.stage.plane
        following = Asked(plane.http, plane.broker, self.service)
        kinds = ("call",) if self.case.kind == FUNCTION else ("plain", "stream")
        for kind in kinds:
            following.ask(kind, TOKENS, f"next-{self.event_id}")
        following.wait()
        took = time.monotonic() - began
        outcomes = {kind: following.answers[kind].words for kind in kinds}
        self.said.append(f"next {outcomes[kinds[0]]} after {took:.1f} s")
        assert set(outcomes.values()) == {"200"}, (outcomes, following.answers)
        assert took < NEXT_WITHIN_S

    def failure_is_told(self) -> None:
        """A service that failed says why; an event may have started it again already."""
        now = self.stage.plane.service(self.service)
        self.said.append(f"status {now['state']}" + (f": {now['reason']}" if now["reason"] else ""))
        assert now["state"] != "failed" or now["reason"], now

    def post_meanwhile(self) -> None:
        """An event is accepted, or refused with the time of the next try, and accepted then."""
        for _ in range(10):
            answer = self.asked.ask("event", TOKENS, self.event_id)
            self.asked.wait()
            self.said.append(f"an event now {answer.status}")
            if answer.accepted:
                return
            assert answer.status == 503 and int(answer.headers["retry-after"]) >= 1, answer
            time.sleep(int(answer.headers["retry-after"]))
        raise AssertionError("the Broker takes no event")

    def outcomes(self, *, cut_allowed: bool = False) -> None:
        """What was under way has ended as it may, and never as a good answer that is none."""
        self.asked.wait()
        for kind, answer in self.asked.answers.items():
            self.said.append(f"{kind} {answer.words}")
        for kind in ("plain", "stream", "beating", "call"):
            if (answer := self.asked.answers.get(kind)) is None or answer.whole:
                continue
            assert self.case.process not in HARMLESS, (kind, answer)
            if cut_allowed and answer.cut:
                continue
            begun = kind == "beating" or self.case.phase not in STARTING[:-1]
            good = answer.told_that_it_failed if begun else answer.told_to_come_back
            assert good, (kind, answer)

    def accepted_is_answered(self) -> None:
        """The event has one answer and one only, and the job is completed."""
        event, job = self.asked.answers.get("event"), self.asked.answers.get("job")
        sink, stage = self.stage.sink, self.stage
        if event is not None and event.accepted:
            key = event.accepted
            there = processes.until(lambda: key in sink.answers, ANSWERED_WITHIN_S)
            assert there, f"event {key} was not answered\n{stage.plane.log.read_text()[-3000:]}"
            assert self.once(key), sink.answers[key]
            self.said.append("event answered once")
        if job is not None and job.accepted:
            settled: list[dict[str, Any]] = []

            def over() -> bool:
                settled[:] = [found for found in [stage.answer_of_job(str(job.accepted))] if found]
                return bool(settled)

            assert processes.until(over, ANSWERED_WITHIN_S, 0.1), f"job {job.accepted}"
            assert settled[0]["status"] == "completed", settled
            self.said.append(f"job completed, {settled[0]['attempts']} attempts")

    def once(self, event_id: str) -> bool:
        """One answer, which is none about an error; it may have been delivered again."""
        answers = list(self.stage.sink.answers[event_id])
        return len(answers) == 1 and answers[0][0] in ("relume.inference.response", "done")

    def status_is_clear(self) -> None:
        """`relume status` shows the service ready, and everything around it at work."""
        plane = self.stage.plane

        def at_rest() -> bool:
            now = plane.service(self.service)
            at_work = now["state"] in ("ready", "zero")
            return at_work and (now["reason"], now["held"]) == (None, 0)

        assert processes.until(at_rest, 10), plane.service(self.service)
        # After many kills in a row nats-server waits up to five seconds before it starts again.
        nats = {"state": "running"}
        assert processes.until(
            lambda: nats.items() <= plane.status()["eventing"]["nats"].items(), 10
        )
        shown = CliRunner().invoke(status.command, ["--url", plane.http], standalone_mode=False)
        assert shown.exception is None, shown.output
        row = [line for line in shown.output.splitlines() if f"/{self.service} " in line]
        assert row and any(word in row[0] for word in ("ready", "zero")), shown.output

    def explained(self) -> None:
        """`relume explain` tells how the event and the job ended."""
        for kind, word in (("event", "answer"), ("job", "completed after")):
            answer = self.asked.answers.get(kind)
            if answer is None or not answer.accepted:
                continue
            words = [answer.accepted, "--url", self.stage.plane.http]
            told = CliRunner().invoke(explain.command, words, standalone_mode=False)
            assert told.exception is None, (told.output, told.exception)
            assert word in told.output, told.output

    def nothing_left(self) -> None:
        """The folders hold what a plane needs, and nothing that was left behind."""
        assert processes.until(lambda: not self.stage.strangers(), 10), self.stage.strangers()

    @property
    def row(self) -> str:
        """The line of the table."""
        case = self.case
        return f"{case.process:14} {case.phase:11} (seen: {self.hit}) {'; '.join(self.said)}"


STARTING = ("fork", "import", "config", "weights", "engine", "warmup", "process", "first_token")
