"""`relume demo`: the whole story on one machine, with the real parts."""

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator, Coroutine
from pathlib import Path

import click

from relume.base.vocabulary import Json
from relume.cli.errors import TERMINATED_EXIT, BadUsage, DemoFailed
from relume.cli.machine.client import PlaneClient
from relume.cli.machine.demo_plane import demo_plane, is_warm, reaches, samples
from relume.cli.machine.reports import ColdStartReport, EventRecord, ServiceStatus, Status
from relume.cli.machine.story import (
    attributes,
    cold_start_of,
    is_answer,
    is_error,
    sentence,
    show_cold_start,
)
from relume.cli.machine.tickets import MOST_TICKETS, TICKETS, tell_tickets
from relume.cli.options import output_option
from relume.cli.screen import Screen
from relume.cloudevents.event import CloudEvent
from relume.cloudevents.http import Mode, encode

DemoReport = dict[str, object]

EVENT_TYPE = "com.example.summarize.request"
QUESTION = "In one sentence: what is a GPU?"
ANSWER_WITHIN_S = 300.0
ZERO_WITHIN_S = 120.0


@click.command("demo", short_help="The whole story on one machine.")
@click.argument("story", required=False, type=click.Choice(["tickets"]), metavar="[tickets]")
@click.option(
    "--tickets",
    "count",
    type=click.IntRange(2, MOST_TICKETS),
    metavar="N",
    help=f"How many tickets come, with `relume demo tickets`. [default: {TICKETS}; "
    f"2<=N<={MOST_TICKETS}]",
)
@output_option
def command(*, story: str | None, count: int | None, output: str) -> int:
    """Run config/samples/summarize.yaml, wake it with an event, and see it go back to zero.

    The demo runs a plane of its own, with free ports and a temporary state folder, and leaves
    nothing behind. It prepares the model first where that is missing.

    `relume demo tickets` runs config/samples/tickets with its four functions instead: support
    tickets come in, the model sorts them, and a webhook gets the results. The functions are in a
    clone of Relume only. Their environments are made at the first time, and kept.

    \b
    Examples:
      relume demo
      relume demo -o json | jq .phases_ms
      relume demo tickets --tickets 100
    """
    if story is None and count is not None:
        raise BadUsage("--tickets belongs to another demo: write relume demo tickets")
    import uvloop

    from relume.plane.launch import set_runtime_defaults

    set_runtime_defaults(os.environ)
    screen = Screen.stderr() if output == "json" else Screen.stdout()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        try:
            telling = _tell(screen) if story is None else tell_tickets(screen, count or TICKETS)
            report = runner.run(_until_told(telling))
        except asyncio.CancelledError:
            return TERMINATED_EXIT
    if output == "json":
        Screen.stdout().json(report)
    return 0


def sample() -> Path:
    """The sample manifest that the demo runs."""
    return samples() / "summarize.yaml"


async def _until_told(telling: Coroutine[None, None, DemoReport]) -> DemoReport:
    """Run the demo; SIGTERM ends it like Ctrl-C does, and everything that it started."""
    main = asyncio.current_task()
    assert main is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, main.cancel)
    return await telling


async def _tell(screen: Screen) -> DemoReport:
    """Run the steps of the demo. Raises DemoFailed at the first that does not happen."""
    from relume.config import load

    async with demo_plane(screen, load([sample()])) as plane:
        story = _Story(plane, screen)
        status = await is_warm(plane, screen)
        story.shows_zero("1  The service is at zero: no predictor, no model in memory", status)
        event = _event()
        answer = await story.is_answered(event, status)
        cold_start = await story.explains(event, answer)
        screen.line()
        screen.title("4  SmolLM2 wrote")
        screen.quote(sentence(answer))
        screen.line()
        screen.title("5  The response event")
        screen.pairs(attributes(answer))
        screen.line()
        status = await reaches(plane, screen, "nobody asks any more", ZERO_WITHIN_S, _asleep)
        story.shows_zero("6  The service is at zero again", status)
        return _report(cold_start, answer)


class _Story:
    """The steps of the demo, each observed through the plane's ports."""

    def __init__(self, plane: PlaneClient, screen: Screen) -> None:
        self._plane = plane
        self._screen = screen

    def shows_zero(self, title: str, status: Status) -> None:
        service = _only(status)
        if not _asleep(status):
            raise DemoFailed(f"{service.name} should be at zero, and is {service.state}")
        self._screen.title(title)
        facts = (("state", service.state), ("predictors", str(len(service.pids))))
        self._screen.pairs([("service", service.full_name), *facts])
        self._screen.line()

    async def is_answered(self, event: CloudEvent, status: Status) -> Json:
        """Post the event and wait for the event that answers it."""
        self._screen.title("2  An event is posted to the Broker")
        self._screen.pairs(attributes(event.attributes))
        broker = next(b for b in status.eventing.brokers if b.name == _only(status).name)
        async with self._plane.events() as records:
            response = await self._plane.post_event(broker.url, *encode(event, Mode.BINARY))
            if response.status_code != 202:
                raise DemoFailed(f"the Broker answered {response.status_code}: {response.text}")
            self._screen.line(f"  202: stored by Broker {broker.full_name}", "dim")
            with self._screen.spinner("the model wakes up"):
                answer = await _answer(records, event.id)
        if is_error(answer):
            raise DemoFailed(f"the answer is an error: {sentence(answer)}")
        return answer

    async def explains(self, event: CloudEvent, answer: Json) -> ColdStartReport:
        cold_start = await cold_start_of(self._plane.cold_starts, event.id, answer)
        if cold_start is None:
            raise DemoFailed("the answer came without a cold start in the ledger")
        self._screen.line()
        self._screen.title("3  It woke the model")
        show_cold_start(self._screen, cold_start)
        return cold_start


async def _answer(records: AsyncIterator[EventRecord], event_id: str) -> Json:
    try:
        async with asyncio.timeout(ANSWER_WITHIN_S):
            async for record in records:
                if record.causation == event_id and is_answer(record.event):
                    return record.event
                if record.id == event_id and record.stage == "dead-lettered":
                    raise DemoFailed(f"the event became a dead letter: {record.detail}")
    except TimeoutError:
        raise DemoFailed(f"no answer in {ANSWER_WITHIN_S:g} s") from None
    raise DemoFailed("the plane stopped before it answered")


def _asleep(status: Status) -> bool:
    service = _only(status)
    return service.state == "zero" and not service.pids


def _event() -> CloudEvent:
    messages = [{"role": "user", "content": QUESTION}]
    data = {"messages": messages, "max_tokens": 40, "temperature": 0}
    attributes = {
        "specversion": "1.0",
        "type": EVENT_TYPE,
        "source": "/relume/demo",
        "id": "demo-1",
        "datacontenttype": "application/json",
    }
    return CloudEvent.create(attributes, json.dumps(data).encode())


def _only(status: Status) -> ServiceStatus:
    return status.serving.services[0]


def _report(cold_start: ColdStartReport, answer: Json) -> DemoReport:
    return {
        "started": cold_start.started,
        "total_ms": cold_start.total,
        "phases_ms": cold_start.phases,
        "text": sentence(answer),
        "answer": dict(answer),
    }
