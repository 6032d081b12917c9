"""`relume demo tickets`: a pipeline of a model and four functions does its job, from zero."""

import asyncio
import contextlib
import json
import logging
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from relume.base.vocabulary import COLD_START_PHASES, LAUNCH_PHASES
from relume.cli.errors import DemoFailed
from relume.cli.machine.client import PlaneClient
from relume.cli.machine.demo_plane import POLL_S, demo_plane, is_warm, reaches, samples
from relume.cli.machine.reports import BrokerStatus, ColdStartReport, ServiceStatus, Status
from relume.cli.machine.story import show_cold_start
from relume.cli.machine.webhook import TicketOutcome, Webhook
from relume.cli.screen import Screen
from relume.config import Plan

TICKETS, MOST_TICKETS = 20, 100
FUNCTIONS = ("redact", "prompt", "extract", "webhook-out")
MODEL_SERVICE, BROKER, LAST_TRIGGER = "sort", "tickets", "webhook-out"
_URL = "WEBHOOK_URL"
# A first run makes four environments with pip in this time.
_OUTCOME_WITHIN_S = 300.0
_ZERO_WITHIN_S = 120.0
_QUEUE = COLD_START_PHASES[0]


async def tell_tickets(screen: Screen, count: int) -> dict[str, object]:
    """Run the steps with `count` tickets. Raises DemoFailed at the first that does not happen."""
    from relume.plane.launch import free_port

    folder = samples() / "tickets"
    lines = (folder / "tickets.jsonl").read_text(encoding="utf-8").splitlines()[:count]
    late = max(1, count // 5)  # so many come while the webhook is away
    with tempfile.TemporaryDirectory(prefix="relume-demo-") as place, _told(screen):
        received = Path(place) / "outcomes.jsonl"
        async with contextlib.AsyncExitStack() as stack:
            webhook = Webhook(folder / "tickets.py", received, free_port())
            await stack.enter_async_context(webhook)
            plan = pipeline(folder, webhook.url)
            plane = await stack.enter_async_context(demo_plane(screen, plan))
            meter = await stack.enter_async_context(_metering(plane))
            story = _Story(plane, screen, webhook, meter)
            await story.begins()
            await story.posts(lines[:-late])
            letters = await story.misses(lines[-late:])
            await story.redrives(letters, count)
            story.shows_outcomes(count, len(letters))
            ledger = await story.shows_cost()
            await story.ends()
            return story.report(ledger, len(letters))


def pipeline(folder: Path, webhook_url: str) -> Plan:
    """The sample with its functions, whose webhook is at `webhook_url`. Raises DemoFailed."""
    from relume.config import load

    functions = [folder.parents[2] / "functions" / name for name in FUNCTIONS]
    for function in functions:
        if not (function / "func.yaml").is_file():
            raise DemoFailed(
                f"{function} is not there: the functions are not in the installed package; run "
                "relume demo tickets in a clone of Relume (make demo-tickets)"
            )
    plan = load([folder, *functions])
    objects = tuple(
        replace(each, data={**each.data, _URL: webhook_url.encode()}) if _URL in each.data else each
        for each in plan.objects
    )
    return replace(plan, objects=objects)


class _Story:
    """The steps of the demo, each observed through the plane's ports and at the webhook."""

    def __init__(
        self, plane: PlaneClient, screen: Screen, webhook: Webhook, meter: "_Meter"
    ) -> None:
        self._plane = plane
        self._screen = screen
        self._webhook = webhook
        self._meter = meter
        self._shown: set[str] = set()
        self._began = 0.0
        self._took_s = 0.0

    async def begins(self) -> None:
        """Show that nothing runs."""
        status = await is_warm(self._plane, self._screen)
        services = status.serving.services
        if awake := [s.name for s in services if s.state != "zero"]:
            raise DemoFailed(f"{', '.join(awake)} should be at zero")
        self._screen.title("1  Nothing runs: a model and four functions are at zero")
        rows = [(s.full_name, s.state, str(len(s.pids))) for s in services]
        self._screen.table(("service", "state", "processes"), rows)
        self._screen.line()

    async def posts(self, lines: Sequence[str]) -> None:
        """Post tickets, and wait until the webhook has an outcome of each."""
        self._screen.title(f"2  Tickets are posted, and a webhook gets the outcomes: {len(lines)}")
        self._began = time.monotonic()
        await self._post(lines)
        await self._wait("the pipeline works", lambda _: len(self._webhook.outcomes()), len(lines))
        self._screen.line()

    async def misses(self, lines: Sequence[str]) -> list[int]:
        """Post tickets while the webhook is away; the numbers of the dead letters."""
        await self._webhook.closes()
        self._screen.title(f"3  The webhook goes away, and more tickets come: {len(lines)}")
        await self._post(lines)
        meanwhile = "webhook-out is tried again"
        await self._wait(meanwhile, lambda status: _broker(status).dead_letters, len(lines))
        full_name = _broker(await self._plane.status()).full_name
        letters = [letter async for letter in self._plane.dead_letters(full_name)]
        if wrong := {letter.trigger for letter in letters} - {LAST_TRIGGER}:
            raise DemoFailed(f"dead letters of another Trigger: {', '.join(sorted(wrong))}")
        why = Counter(
            f"{letter.trigger}, status {letter.code}, {letter.reason}" for letter in letters
        )
        for words, number in why.items():
            self._screen.line(f"  dead letters: {number} ({words})")
        self._screen.line()
        return [letter.sequence for letter in letters]

    async def redrives(self, letters: Sequence[int], count: int) -> None:
        """Open the webhook again, and send the dead letters on their way."""
        await self._webhook.opens()
        self._screen.title("4  The webhook is back; the dead letters are redriven")
        full_name = _broker(await self._plane.status()).full_name
        for number in letters:
            await self._plane.redrive(full_name, number)
        await self._wait("they are delivered", lambda _: len(self._webhook.outcomes()), count)
        self._took_s = time.monotonic() - self._began
        self._screen.line()

    def shows_outcomes(self, count: int, redriven: int) -> None:
        """A line for each type of outcome. Raises DemoFailed unless each ticket has one."""
        outcomes = self._webhook.outcomes()
        if len(outcomes) != count or len({each.subject for each in outcomes}) != count:
            raise DemoFailed(f"{count} tickets have {len(outcomes)} outcomes")
        self._screen.title(f"5  {count} tickets, {count} outcomes")
        first: dict[str, TicketOutcome] = {}
        for each in outcomes:
            first.setdefault(each.type, each)
        rows = [
            (type_, str(number), f"{first[type_].subject}: {first[type_].words}")
            for type_, number in sorted(_types(outcomes).items())
        ]
        self._screen.table(("outcome", "tickets", "the first"), rows)
        self._screen.line(f"  of these, dead letters that were redriven: {redriven}")
        self._screen.line()

    async def shows_cost(self) -> Sequence[ColdStartReport]:
        """Cold starts, seconds of processes, and the time of the whole."""
        ledger = await self._plane.cold_starts()
        model = [entry for entry in ledger if entry.service == MODEL_SERVICE]
        if not model:
            raise DemoFailed("the ledger has no cold start of the model")
        self._screen.title("6  What it cost")
        show_cold_start(self._screen, model[0])
        rows = [_start_row(entry) for entry in ledger if entry.service != MODEL_SERVICE]
        self._screen.table(("cold start of", "total", _QUEUE, *LAUNCH_PHASES), rows)
        seconds = self._meter.seconds
        functions = sum(seconds[name] for name in FUNCTIONS)
        self._screen.pairs(
            [
                ("model", f"{seconds[MODEL_SERVICE]:.1f} s with a process"),
                ("functions", f"{functions:.1f} s, all their processes together"),
                ("wall time", f"{self._took_s:.1f} s from the first ticket to the last outcome"),
            ]
        )
        self._screen.line()
        return ledger

    async def ends(self) -> None:
        """Wait until the model is at zero again."""
        await reaches(
            self._plane, self._screen, "no ticket comes any more", _ZERO_WITHIN_S, _model_asleep
        )
        self._screen.title("7  The model is at zero again; the functions follow within a minute")

    def report(self, ledger: Sequence[ColdStartReport], letters: int) -> dict[str, object]:
        """The facts of the demo as JSON types."""
        outcomes = self._webhook.outcomes()
        return {
            "tickets": len(outcomes),
            "outcomes": dict(sorted(_types(outcomes).items())),
            "redriven": letters,
            "cold_starts": [
                {"service": e.service, "total_ms": e.total, "phases_ms": e.phases} for e in ledger
            ],
            "process_seconds": {name: round(s, 1) for name, s in self._meter.seconds.items()},
            "wall_seconds": round(self._took_s, 1),
        }

    async def _post(self, lines: Sequence[str]) -> None:
        url = _broker(await self._plane.status()).url
        headers = [("content-type", "application/cloudevents+json")]
        for line in lines:
            answer = await self._plane.post_event(url, headers, line.encode())
            if answer.status_code != 202:
                subject = json.loads(line)["subject"]
                raise DemoFailed(f"{subject}: the Broker answered {answer.status_code}")

    async def _wait(self, meanwhile: str, done: Callable[[Status], int], wanted: int) -> None:
        """Wait until `done` is `wanted`, and show each outcome when it comes. Raises DemoFailed."""
        before, progress_at = -1, time.monotonic()
        with self._screen.spinner(meanwhile):
            while True:
                status = await self._plane.status()
                _check_services(status.serving.services)
                self._show_new()
                if (now := done(status)) >= wanted:
                    return
                if now != before:
                    before, progress_at = now, time.monotonic()
                elif time.monotonic() - progress_at > _OUTCOME_WITHIN_S:
                    raise DemoFailed(
                        f"{meanwhile}: {now} of {wanted} after {_OUTCOME_WITHIN_S:g} s without one"
                    )
                await asyncio.sleep(POLL_S)

    def _show_new(self) -> None:
        for each in self._webhook.outcomes():
            if each.id not in self._shown:
                self._shown.add(each.id)
                at = time.monotonic() - self._began
                self._screen.line(f"  {at:6.1f} s  {each.subject}  {each.words}")


@dataclass
class _Meter:
    """The seconds that each service had a process; two processes count twice."""

    seconds: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))

    async def watch(self, plane: PlaneClient) -> None:
        before = time.monotonic()
        while True:
            services = (await plane.status()).serving.services
            now = time.monotonic()
            for service in services:
                self.seconds[service.name] += len(service.pids) * (now - before)
            before = now
            await asyncio.sleep(POLL_S)


@contextlib.asynccontextmanager
async def _metering(plane: PlaneClient) -> AsyncIterator[_Meter]:
    meter = _Meter()
    async with asyncio.TaskGroup() as group:
        watching = group.create_task(meter.watch(plane))
        yield meter
        watching.cancel()


@contextlib.contextmanager
def _told(screen: Screen) -> Iterator[None]:
    """Print what the plane logs, such as that an environment is made."""
    handler = _ScreenLog(screen)
    logging.getLogger("relume").addHandler(handler)
    try:
        yield
    finally:
        logging.getLogger("relume").removeHandler(handler)


class _ScreenLog(logging.Handler):
    def __init__(self, screen: Screen) -> None:
        super().__init__(logging.WARNING)
        self._screen = screen

    def emit(self, record: logging.LogRecord) -> None:
        self._screen.line(f"  {record.getMessage()}", "dim")


def _check_services(services: Sequence[ServiceStatus]) -> None:
    for service in services:
        if service.state == "failed":
            raise DemoFailed(f"{service.full_name} does not start: {service.reason}")


def _broker(status: Status) -> BrokerStatus:
    return next(broker for broker in status.eventing.brokers if broker.name == BROKER)


def _model_asleep(status: Status) -> bool:
    service = next(s for s in status.serving.services if s.name == MODEL_SERVICE)
    return service.state == "zero" and not service.pids


def _types(outcomes: Sequence[TicketOutcome]) -> Counter[str]:
    return Counter(each.type for each in outcomes)


def _start_row(entry: ColdStartReport) -> tuple[str, ...]:
    total = entry.total if entry.total is not None else sum(entry.phases.values())
    parts = (entry.phases.get(name, 0.0) for name in (_QUEUE, *LAUNCH_PHASES))
    return (entry.service, *(f"{ms:,.0f} ms" for ms in (total, *parts)))
