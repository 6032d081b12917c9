"""`relume demo`: the whole story on one machine, with the real parts."""

import asyncio
import json
import os
import signal
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import click

from relume.base.vocabulary import Json
from relume.cli.errors import TERMINATED_EXIT, DemoFailed
from relume.cli.machine.client import PlaneClient
from relume.cli.machine.reports import ColdStartReport, EventRecord, ServiceStatus, Status
from relume.cli.machine.story import (
    attributes,
    cold_start_of,
    is_answer,
    is_error,
    sentence,
    show_cold_start,
)
from relume.cli.options import output_option
from relume.cli.screen import Screen
from relume.cloudevents.event import CloudEvent
from relume.cloudevents.http import Mode, encode

MODEL = "smollm2"
EVENT_TYPE = "com.example.summarize.request"
QUESTION = "In one sentence: what is a GPU?"
TEMPLATE_WITHIN_S = 300.0
ANSWER_WITHIN_S = 300.0
ZERO_WITHIN_S = 120.0
POLL_S = 0.1


@click.command("demo", short_help="The whole story on one machine.")
@output_option
def command(*, output: str) -> int:
    """Run config/samples/summarize.yaml, wake it with an event, and see it go back to zero.

    The demo runs a plane of its own, with free ports and a temporary state folder, and leaves
    nothing behind. It prepares the model first where that is missing.

    \b
    Examples:
      relume demo
      relume demo -o json | jq .phases_ms
    """
    import uvloop

    from relume.plane.launch import set_runtime_defaults

    set_runtime_defaults(os.environ)
    screen = Screen.stderr() if output == "json" else Screen.stdout()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        try:
            report = runner.run(_until_told(screen))
        except asyncio.CancelledError:
            return TERMINATED_EXIT
    if output == "json":
        Screen.stdout().json(report)
    return 0


def sample() -> Path:
    """The sample manifest, from the sources in a clone, else from the installed package."""
    import relume.config

    package = Path(relume.config.__file__).parent
    places = (package.parents[1] / "samples", package / "samples")
    for folder in places:
        if (file := folder / "summarize.yaml").exists():
            return file
    raise DemoFailed(f"summarize.yaml is not in {' or '.join(map(str, places))}")


async def _until_told(screen: Screen) -> dict[str, object]:
    """Run the demo; SIGTERM ends it like Ctrl-C does, and everything that it started."""
    main = asyncio.current_task()
    assert main is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, main.cancel)
    return await _tell(screen)


async def _tell(screen: Screen) -> dict[str, object]:
    """Run the steps of the demo. Raises DemoFailed at the first that does not happen."""
    async with _plane(screen) as plane:
        story = _Story(plane, screen)
        status = await story.reaches(
            "the warm template imports vLLM, once", TEMPLATE_WITHIN_S, _warm
        )
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
        status = await story.reaches("nobody asks any more", ZERO_WITHIN_S, _asleep)
        story.shows_zero("6  The service is at zero again", status)
        return _report(cold_start, answer)


@asynccontextmanager
async def _plane(screen: Screen) -> AsyncIterator[PlaneClient]:
    """A plane that runs the sample, and its client."""
    from relume.cli.machine.progress import watching
    from relume.config import load
    from relume.plane.launch import check
    from relume.plane.local import LocalPlane, PlaneSettings
    from relume.runtimes.models.store import ModelStore, default_root

    store = ModelStore(default_root())
    with watching(screen, MODEL) as progress:
        await asyncio.to_thread(store.prepare, MODEL, progress)
    plan = load([sample()])
    check(plan, store)
    with tempfile.TemporaryDirectory(prefix="relume-demo-") as state:
        settings = PlaneSettings(Path(state), port=0, broker_port=0)
        async with (
            LocalPlane(plan, settings, store).running() as plane,
            PlaneClient(plane.http) as client,
        ):
            yield client


class _Story:
    """The steps of the demo, each observed through the plane's ports."""

    def __init__(self, plane: PlaneClient, screen: Screen) -> None:
        self._plane = plane
        self._screen = screen

    async def reaches(
        self, meanwhile: str, within_s: float, reached: Callable[[Status], bool]
    ) -> Status:
        """Wait until `reached` accepts the status, and return it."""
        try:
            async with asyncio.timeout(within_s):
                with self._screen.spinner(meanwhile):
                    while not reached(status := await self._plane.status()):  # noqa: ASYNC110
                        await asyncio.sleep(POLL_S)
            return status
        except TimeoutError:
            raise DemoFailed(f"still waiting after {within_s:g} s: {meanwhile}") from None

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


def _warm(status: Status) -> bool:
    if status.template.state == "failed":
        raise DemoFailed("the warm template does not start; vLLM cannot be imported here")
    return status.template.state == "ready"


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


def _report(cold_start: ColdStartReport, answer: Json) -> dict[str, object]:
    return {
        "started": cold_start.started,
        "total_ms": cold_start.total,
        "phases_ms": cold_start.phases,
        "text": sentence(answer),
        "answer": dict(answer),
    }
