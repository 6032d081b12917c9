"""`relume demo`: the whole story on one machine, with nothing faked."""

import asyncio
import os
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import click

from relume.cli.address import output_option
from relume.cli.answer import attributes, is_answer, is_error, sentence
from relume.cli.client import PlaneClient
from relume.cli.errors import DemoFailed
from relume.cli.phases import find_cold_start, show_cold_start
from relume.cli.reports import ColdStart, ServiceStatus, Status
from relume.cli.screen import Screen
from relume.eventing.codec import Mode, encode
from relume.eventing.event import CloudEvent

MODEL = "smollm2"
EVENT_TYPE = "com.example.summarize.request"
QUESTION = "In one sentence: what is a GPU?"
TEMPLATE_WITHIN_S = 300.0
ANSWER_WITHIN_S = 300.0
ZERO_WITHIN_S = 120.0


@click.command("demo", short_help="The whole story on one machine.")
@output_option()
def command(*, output: str) -> int:
    """Run config/samples/summarize.yaml, wake it with an event, and see it go back to zero.

    A plane of its own: free ports, a temporary state folder, nothing left behind. The model is
    prepared first where it is missing.

    \b
    Examples:
      relume demo
      relume demo -o json | jq .phases_ms
    """
    import uvloop

    from relume.cli.launch import set_runtime_defaults

    set_runtime_defaults(os.environ)
    screen = Screen.stderr() if output == "json" else Screen.stdout()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        report = runner.run(_tell(screen))
    if output == "json":
        Screen.stdout().json(report)
    return 0


def sample() -> Path:
    """The sample manifest: beside the sources in a clone, in the package once installed."""
    import relume.config

    package = Path(relume.config.__file__).parent
    places = (package.parents[1] / "samples", package / "samples")
    for folder in places:
        if (file := folder / "summarize.yaml").exists():
            return file
    raise DemoFailed(f"summarize.yaml is not in {' or '.join(map(str, places))}")


async def _tell(screen: Screen) -> dict[str, object]:
    async with _plane(screen) as plane:
        status = await _until(plane, lambda s: s.template.state == "ready", TEMPLATE_WITHIN_S,
                              screen, "the warm template imports vLLM, once")  # fmt: skip
        service = _only(status)
        if service.state != "zero" or service.pids:
            raise DemoFailed(f"the service is {service.state}, not at zero, before any event")
        screen.title("1  The service is at zero: no process, no memory")
        _show_service(screen, service)

        event = _event()
        screen.title("2  An event is posted to the Broker")
        screen.pairs(attributes({**event.attributes}))
        answer = await _ask(plane, status, event, screen)
        cold_start = find_cold_start(await plane.cold_starts(), event.id, answer)
        if cold_start is None:
            raise DemoFailed("the answer came without a cold start in the ledger")

        screen.line()
        screen.title("3  It woke the model")
        show_cold_start(screen, cold_start)
        screen.line()
        screen.title("4  SmolLM2 wrote")
        screen.line(f"  {sentence(answer)}", "italic")
        screen.line()
        screen.title("5  The response event")
        screen.pairs(attributes(answer))
        service = _only(await _until(plane, lambda s: _only(s).state == "zero", ZERO_WITHIN_S,
                                     screen, "nobody asks any more"))  # fmt: skip
        screen.line()
        screen.title("6  The service is at zero again")
        _show_service(screen, service)
        return _report(cold_start, answer)


@asynccontextmanager
async def _plane(screen: Screen) -> AsyncIterator[PlaneClient]:
    """A plane that runs the sample, and its client."""
    from relume.cli.plane import LocalPlane, PlaneSettings
    from relume.cli.preflight import check
    from relume.cli.progress import watching
    from relume.config import load
    from relume.runtimes.store import ModelStore, default_root

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


async def _until(
    plane: PlaneClient,
    reached: Callable[[Status], bool],
    within_s: float,
    screen: Screen,
    meanwhile: str,
) -> Status:
    """Ask for the status until it is as wanted. Raises DemoFailed."""
    try:
        async with asyncio.timeout(within_s):
            with screen.spinner(meanwhile):
                while not reached(status := await plane.status()):  # noqa: ASYNC110
                    await asyncio.sleep(0.1)
        return status
    except TimeoutError:
        raise DemoFailed(f"still waiting after {within_s:g} s: {meanwhile}") from None


async def _ask(
    plane: PlaneClient, status: Status, event: CloudEvent, screen: Screen
) -> dict[str, object]:
    """Post the event and wait for the event that answers it."""
    broker = next(b for b in status.eventing.brokers if b.name == _only(status).name)
    async with plane.events() as records:
        response = await plane.post_event(broker.url, *encode(event, Mode.BINARY))
        if response.status_code != 202:
            raise DemoFailed(f"the Broker answered {response.status_code}: {response.text}")
        screen.line(f"  202: stored by Broker {broker.full_name}", "dim")
        try:
            async with asyncio.timeout(ANSWER_WITHIN_S):
                with screen.spinner("the model wakes up"):
                    async for record in records:
                        if record.causation == event.id and is_answer(record.event):
                            answer = dict(record.event)
                            break
                    else:
                        raise DemoFailed("the plane stopped before it answered")
        except TimeoutError:
            raise DemoFailed(f"no answer in {ANSWER_WITHIN_S:g} s") from None
    if is_error(answer):
        raise DemoFailed(f"the answer is an error: {sentence(answer)}")
    return answer


def _event() -> CloudEvent:
    import json

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


def _show_service(screen: Screen, service: ServiceStatus) -> None:
    facts = (("state", service.state), ("processes", str(len(service.pids))))
    screen.pairs([("service", f"{service.namespace}/{service.name}"), *facts])
    screen.line()


def _report(cold_start: ColdStart, answer: dict[str, object]) -> dict[str, object]:
    return {
        "started": cold_start.started,
        "total_ms": cold_start.total,
        "phases_ms": cold_start.phases,
        "text": sentence(answer),
        "answer": answer,
    }
