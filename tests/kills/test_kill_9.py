"""`kill -9` of each process of a plane in each phase of its life, with the real model.

A case brings a plane to the phase, holds it there, kills the process, and looks: what the requests
get that were under way, that the next one is answered, that every accepted event has one answer and
every job is completed, that nothing of the killed family runs, and that no file is left behind.
A phase that was not hit is tried again; a case that never hit its phase fails.
"""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from click.testing import CliRunner

from relume.cli.machine import status
from tests.closing_lines import say_at_the_end
from tests.kills import processes
from tests.kills.case import MANY_TOKENS, STARTING, Case, Run
from tests.kills.manifests import FUNCTION
from tests.kills.moments import NotHit, Start, drain, ready_start
from tests.kills.stage import Stage

pytestmark = [pytest.mark.model, pytest.mark.every_phase, pytest.mark.timeout(600)]

TRIES = 3
_BEFORE, _MIDDLE = ("fork", "import", "config"), ("weights", "engine", "warmup", "first_token")
_AFTER = ("serving", "ready", "draining")


def cases(process: str, *phases: str, kind: str = "template", group: str = "all") -> list[Case]:
    return [Case(process, phase, kind, group) for phase in phases]


# A start from the template has a short import; these three have the one of a fresh process.
FRESH = ("gatekeeper", "API server", "engine core")
CASES = [
    *cases("plane", "zero", *_BEFORE, *_MIDDLE, *_AFTER),
    *cases("function", "process", *_AFTER, kind=FUNCTION),
    *cases("nats-server", "zero", *_BEFORE, *_MIDDLE, *_AFTER),
    *[case for process in FRESH for case in cases(process, "import", kind="process")],
    *cases("gatekeeper", "config", *_MIDDLE[:-1]),
    *cases("API server", "fork", "config", *_MIDDLE, *_AFTER),
    *cases("engine core", "config", *_MIDDLE, *_AFTER),
    *cases("template", "zero", "load", *_BEFORE, *_MIDDLE, *_AFTER),
    *cases("model template", "zero", "load", "first_token", *_AFTER, kind="engine", group="engine"),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_kill_9(case: Case, stage: Stage, request: pytest.FixtureRequest) -> None:
    missed = []
    for _ in range(TRIES):
        try:
            run = attempt(case, stage)
        except NotHit as seen:
            missed.append(str(seen))
            continue
        say_at_the_end(request.node, run.row)
        return
    pytest.fail(f"the phase was not hit in {TRIES} tries: {missed}")


def attempt(case: Case, stage: Stage) -> Run:
    """One try of a case. Raises NotHit before anything was killed."""
    stage.up(case.group)
    stage.gate.unlink(missing_ok=True)
    templates_are_ready(stage, case)
    run = Run(case, stage, service_for(case, stage))
    try:
        with moment(run) as told:
            run.kill(victim(run), told=told, with_it=ends_as_well(run))
    except NotHit:
        stage.gate.touch()
        run.asked.wait()
        raise
    stage.gate.touch()
    try:
        look(run)
    except BaseException:
        print(run.row)
        print(stage.plane.log.read_text()[-4000:])
        raise
    return run


def look(run: Run) -> None:
    """What is true after each kill."""
    if run.case.process == "plane":
        run.dead()
        run.outcomes(cut_allowed=True)
        no_plane_is_found(run.stage)
        plane = run.stage.up(run.case.group)
        run.asked.move(plane.http, plane.broker)
    else:
        run.outcomes()
        run.dead()
        if "template" in run.case.process:
            run.gone()  # what it has forked ends a moment later
        elif run.case.phase == "draining":
            run.gone()  # a request that comes just when a server closes its port is reset (A13)
        run.failure_is_told()
        if run.case.process == "nats-server" and not run.asked.answers:
            run.post_meanwhile()
    if run.case.phase == "draining" and run.stage.plane.process.poll() is not None:
        run.stage.up(run.case.group)
    run.next_answer()
    run.accepted_is_answered()
    run.gone()
    run.status_is_clear()
    run.explained()
    run.nothing_left()


def templates_are_ready(stage: Stage, case: Case) -> None:
    """The warm template and the model template are there, where the group has them."""

    def there() -> bool:
        template = stage.plane.status()["template"]
        engines = all(engine["state"] == "ready" for engine in template["engines"])
        return template["state"] == "ready" and (case.kind != "engine" or engines)

    assert processes.until(there, 120, 0.1), stage.plane.status()["template"]


def service_for(case: Case, stage: Stage) -> str:
    """A service at zero where the phase is one of a start, else one that is ready."""
    if case.phase in (*STARTING, "zero", "load"):
        return stage.at_zero(case.kind)
    if (ready := stage.is_ready(case.kind, of(case, stage))) is None:
        ready = stage.at_zero(case.kind)
        stage.gate.touch()
        Run(case, stage, ready).next_answer()
        stage.gate.unlink()
        assert stage.is_ready(case.kind, of(case, stage)), "it was not forked"
    return ready


def of(case: Case, stage: Stage) -> int | None:
    """The template that a predictor has to come from, where that one is killed."""
    return stage.pid_of(case.process, "") if "template" in case.process else None


def victim(run: Run) -> int | None:
    return run.stage.pid_of(run.case.process, run.service)


def ends_as_well(run: Run) -> int | None:
    """The server, which cannot live without its engine core."""
    return (
        run.stage.pid_of("API server", run.service) if run.case.process == "engine core" else None
    )


@contextmanager
def moment(run: Run) -> Iterator[str]:
    """Bring the plane to the phase, hold it there while the block runs, and give what was seen."""
    case, stage = run.case, run.stage
    match case.phase:
        case "zero":
            now = stage.plane.service(run.service)
            if (now["state"], now["pids"]) != ("zero", []):
                raise NotHit(str(now["state"]))
            yield "zero"
        case "ready":
            now = stage.plane.service(run.service)
            if (now["state"], now["in_flight"], now["held"]) != ("ready", 0, 0):
                raise NotHit(str(now["state"]))
            yield "ready, idle"
        case "load":
            yield from loading(run)
        case "process":
            yield from function_starts(run)
        case "serving" | "draining":
            in_the_middle(run)
            if case.phase == "draining":
                begin_to_drain(run)
            now = stage.plane.service(run.service) if case.process != "plane" else {}
            yield f"{case.phase}, {run.middle}" + (f", {now['in_flight']} running" if now else "")
        case _:
            start = Start(parent(run), in_steps=case.kind == "template")
            run.ask("plain", "stream", "beating", "event", "job")
            start.begins()
            with start.held_at(case.phase, with_core=case.process == "engine core"):
                run.all_have_come()
                yield case.phase


def parent(run: Run) -> int:
    """Whose child the next predictor is."""
    of = {"process": "plane", "template": "template", "engine": "model template"}
    pid = run.stage.pid_of(of[run.case.kind], run.service)
    assert pid is not None
    return pid


def loading(run: Run) -> Iterator[str]:
    """The template, or the model template, loads: it was killed once before."""
    stage, process = run.stage, run.case.process
    first = stage.pid_of(process, run.service)
    assert first is not None
    processes.kill(first)

    def loads() -> bool:
        pid = stage.pid_of(process, run.service)
        return pid not in (None, first)

    assert processes.until(loads, 60), f"the {process} does not come again"
    if process == "template":
        run.ask("plain", "stream", "beating", "event", "job")
        run.all_have_come()
    template = stage.plane.status()["template"]
    told = template if process == "template" else template["engines"][0]
    if told["state"] != "loading":
        raise NotHit(str(told["state"]))
    yield "loading"


def function_starts(run: Run) -> Iterator[str]:
    """A function's process is there and not ready."""
    start = Start(run.stage.plane.process.pid, "serve.py")
    run.ask("call", "event")
    pid = start.begins()
    with processes.stopped(pid):
        now = run.stage.plane.service(run.service)
        if now["state"] != "starting":
            raise NotHit(str(now["state"]))
        run.all_have_come()
        yield "starting, its port closed" if not processes.listening_ports(pid) else "starting"


def in_the_middle(run: Run) -> None:
    """Requests are with the process, and a stream has begun."""
    if run.case.kind == FUNCTION:
        run.ask("call", "event")
        service = run.stage.plane.service
        reached = processes.until(lambda: service(run.service)["in_flight"] == 2, 60)
        run.middle = "two events in the function"
    else:
        run.ask("stream", "plain", "event", "job", tokens=MANY_TOKENS)
        stream = run.asked.answers["stream"]

        def begun() -> bool:
            now = run.stage.plane.service(run.service)
            return stream.deltas >= 3 and now["in_flight"] >= 4

        reached = processes.until(begun, 60, 0.005)
        run.middle = f"the stream has {stream.deltas} parts"
    if not reached:
        raise NotHit("nothing was in the middle of an answer")


def begin_to_drain(run: Run) -> None:
    """SIGTERM to what answers, or to the plane, and see that it has begun to drain."""
    stage = run.stage
    if run.case.process == "plane":
        stage.plane.process.send_signal(signal.SIGTERM)
        stream = run.asked.answers["stream"]
        had = stream.deltas
        goes_on = processes.until(lambda: stream.deltas > had + 2 or stream.cut, 10, 0.005)
        if not goes_on or stream.cut or stage.plane.process.poll() is not None:
            raise NotHit("the plane did not drain")
        return
    pid = stage.pid_of("function" if run.case.kind == FUNCTION else "API server", run.service)
    assert pid is not None
    if run.case.kind == FUNCTION:
        os.kill(pid, signal.SIGTERM)
        time.sleep(0.2)  # it tells nobody that it drains; it is to be there still
        if not processes.lives(pid):
            raise NotHit("it ended at once")
    else:
        drain(pid, ready_start(pid))


def no_plane_is_found(stage: Stage) -> None:
    """`relume status` says that no plane runs, not the addresses of the one that was killed."""
    shown = CliRunner().invoke(
        status.command, [], standalone_mode=False, env={"RELUME_STATE": str(stage.state)}
    )
    assert shown.exception is not None and "no plane" in str(shown.exception), shown.exception


def test_the_books(stage: Stage, request: pytest.FixtureRequest) -> None:
    """In the end each event has one answer, and no event has become a dead letter."""
    twice = {k: list(v) for k, v in stage.sink.answers.items() if len(v) != 1}
    assert twice == {}
    brokers = stage.plane.status()["eventing"]["brokers"]
    assert {each["name"]: each["dead_letters"] for each in brokers}["asked"] == 0
    say_at_the_end(request.node, f"{len(stage.sink.answers)} events, one answer each")
    assert stage.plane.stop() == 0
    assert stage.strangers() == []
