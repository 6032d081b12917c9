"""`relume send`: post one event to a Broker, and wait for the event that answers it."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import click

from relume.base.vocabulary import Json
from relume.cli.errors import BadUsage, EventUnanswered, Refused
from relume.cli.machine.client import RING, PlaneClient, choose_broker, find_plane
from relume.cli.machine.envelope import assignments, from_file, from_options
from relume.cli.machine.reports import BrokerStatus, EventRecord
from relume.cli.machine.story import (
    attributes,
    cold_start_of,
    is_answer,
    is_error,
    sentence,
    show_cold_start,
)
from relume.cli.options import output_option, plane_option
from relume.cli.screen import Screen
from relume.cloudevents.event import CloudEvent
from relume.cloudevents.http import Mode, encode

DEFAULT_TIMEOUT_S = 300.0


@click.command("send", short_help="Send an event; --wait prints the event that answers it.")
@click.argument("file", required=False, type=click.Path(path_type=Path), metavar="[FILE]")
@click.option("--type", "type_", metavar="TYPE", help="Type of a new event, instead of FILE.")
@click.option(
    "--data",
    metavar="DATA",
    type=click.UNPROCESSED,
    help="Its data: text, @FILE, or - for standard input.",
)
@click.option("--content-type", metavar="TYPE", help="Media type of the data. Default: guessed.")
@click.option("--id", "id_", metavar="ID", help="Event id. Default: a new one.")
@click.option("--source", metavar="URI", help="Event source. Default: /relume/send.")
@click.option("--subject", metavar="TEXT", help="Event subject.")
@click.option("--ext", "extensions", multiple=True, metavar="K=V", help="An extension; repeatable.")
@click.option("--broker", metavar="NS/NAME", help="The Broker. Default: the only one of the plane.")
@click.option(
    "--mode",
    type=click.Choice(["binary", "structured"]),
    default="binary",
    show_default=True,
    help="CloudEvents content mode.",
)
@click.option("--wait", is_flag=True, help="Wait for the answering event and print it.")
@click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(min=0, min_open=True),
    default=DEFAULT_TIMEOUT_S,
    show_default=True,
    metavar="SECONDS",
    help="How long --wait waits.",
)
@output_option
@plane_option
def command(
    *,
    file: Path | None,
    type_: str | None,
    data: str | None,
    content_type: str | None,
    broker: str | None,
    mode: str,
    wait: bool,
    timeout_s: float,
    output: str,
    url: str | None,
    extensions: tuple[str, ...],
    id_: str | None,
    source: str | None,
    subject: str | None,
) -> int:
    """Send one CloudEvent to a Broker of the running plane.

    The event is FILE (JSON, the structured format; - is standard input), or a new one made of
    --type and --data. With --wait the answer goes to stdout, the phases of a cold start to stderr,
    and the exit code is 1 when the answer is an error or the event became a dead letter.

    \b
    Examples:
      relume send event.json --wait
      relume send --type com.example.article --data 'Knative scales to zero.' --wait
      relume send --type com.example.chat --data @chat.json --ext partitionkey=a -o json
    """
    changes = _changes(extensions, id=id_, source=source, subject=subject)
    event = _event(file, type_, data, content_type, changes)
    sending = Sending(event, Mode(mode), broker, find_plane(url), output)
    return asyncio.run(sending.and_wait(timeout_s) if wait else sending.only())


class Sending:
    """One event on its way, and what is printed about it."""

    def __init__(
        self, event: CloudEvent, mode: Mode, broker: str | None, url: str, output: str
    ) -> None:
        self.event = event
        self._mode = mode
        self._broker = broker
        self._url = url
        self._json = output == "json"
        self._out = Screen.stdout()
        self._err = Screen.stderr()

    async def only(self) -> int:
        """Post the event, and print that the Broker has stored it."""
        async with PlaneClient(self._url) as plane:
            broker = choose_broker(await plane.status(), self._broker)
            await self._post(plane, broker)
        if self._json:
            self._out.json({"id": self.event.id, "broker": broker.full_name, "accepted": True})
        else:
            self._out.line(f"accepted by {broker.full_name}: {self.event.id}")
        return 0

    async def and_wait(self, timeout_s: float) -> int:
        """Subscribe, post, and print the answer. Return 1 when it is an error, else 0."""
        async with PlaneClient(self._url) as plane:
            broker = choose_broker(await plane.status(), self._broker)
            # Subscribed before the event is posted: an answer cannot slip in between.
            async with plane.events() as records:
                await self._post(plane, broker)
                self._err.line(f"accepted by {broker.full_name}: {self.event.id}", "dim")
                answer = await self._answer(plane, records, timeout_s)
            cold_start = await cold_start_of(plane.cold_starts, self.event.id, answer)
        self._print(answer)
        if cold_start is not None:
            self._err.line()
            show_cold_start(self._err, cold_start)
        return 1 if is_error(answer) else 0

    async def _post(self, plane: PlaneClient, broker: BrokerStatus) -> None:
        headers, body = encode(self.event, self._mode)
        response = await plane.post_event(broker.url, headers, body)
        if response.status_code == 202:
            return
        words = f"{broker.full_name} answers {response.status_code}: {response.text.strip()}"
        raise (BadUsage if response.status_code in (400, 413, 415) else Refused)(words)

    async def _answer(
        self, plane: PlaneClient, records: AsyncIterator[EventRecord], timeout_s: float
    ) -> Json:
        try:
            async with asyncio.timeout(timeout_s):
                with self._err.spinner("waiting for the answer"):
                    async for record in records:
                        if answer := await self._answer_in(plane, record):
                            return answer
        except TimeoutError:
            raise EventUnanswered(
                f"no answer to {self.event.id} in {timeout_s:g} s; it may still come: "
                f"relume explain {self.event.id}"
            ) from None
        raise EventUnanswered(f"the plane stopped before it answered {self.event.id}; it is stored")

    async def _answer_in(self, plane: PlaneClient, record: EventRecord) -> Json | None:
        """The answer, when this record brings it or tells that it was given before."""
        if record.causation == self.event.id and is_answer(record.event):
            return await plane.whole(record)
        if record.id != self.event.id:
            return None
        if record.stage in ("dead-lettered", "dropped"):
            raise Refused(_how_it_ended(record))
        if record.stage == "duplicate":
            self._err.line("the Broker had this event already; it is not answered again", "dim")
            async with plane.events(replay=RING, follow=False) as past:
                async for earlier in past:
                    if earlier.causation == self.event.id and is_answer(earlier.event):
                        return await plane.whole(earlier)
        return None

    def _print(self, answer: Json) -> None:
        if self._json:
            self._out.json(dict(answer))
            return
        self._out.line(sentence(answer), "bold red" if is_error(answer) else "bold")
        self._out.line()
        self._out.pairs(attributes(answer))


def _event(
    file: Path | None,
    type_: str | None,
    data: str | None,
    content_type: str | None,
    changes: Mapping[str, str],
) -> CloudEvent:
    if file is not None and type_ is None:
        if data is not None or content_type is not None:
            raise BadUsage("--data and --content-type make a new event: give --type, not FILE")
        return from_file(file, changes)
    if file is None and type_ is not None:
        return from_options(type_, data, content_type, changes)
    raise BadUsage("name an event FILE, or make a new event with --type (and not both)")


def _changes(extensions: tuple[str, ...], **attributes: str | None) -> dict[str, str]:
    given = {name: value for name, value in attributes.items() if value is not None}
    return given | assignments("--ext", extensions)


def _how_it_ended(record: EventRecord) -> str:
    by = f" for {record.trigger}" if record.trigger else ""
    status = f", last status {record.status}" if record.status else ""
    detail = f": {record.detail}" if record.detail else ""
    end = "is gone" if record.stage == "dropped" else "is a dead letter"
    return f"{record.id} {end}{by}{status}{detail}"
