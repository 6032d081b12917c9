"""A password in a subscriber's or sink's URL reaches that server, and nothing else."""

from aiohttp import web

from relume.config import Delivery, Destination
from tests.eventing.stage import BrokerStage, Call, Subscriber, event, trigger


async def test_a_password_is_sent_to_its_server_and_told_to_nobody() -> None:
    async def refuse(call: Call) -> web.StreamResponse:
        return web.Response(status=400)

    async with Subscriber(refuse) as asked, Subscriber() as sink:
        with_password = asked.url.replace("//", "//me:hunter2@")
        to = Destination(uri=sink.url.replace("//", "//me:hunter3@"))
        ask = trigger("ask", with_password, delivery=Delivery(dead_letter_sink=to))
        async with BrokerStage([ask]) as stage:
            await stage.post(event())
            await stage.until("dead-lettered")
            told = [record.to_json() for record in stage.seen]
            shown = str(stage.plane.status()) + str(told)
        assert asked.calls[0].header("Authorization") == "Basic bWU6aHVudGVyMg=="
        assert sink.calls[0].event.attributes["knativeerrordest"] == asked.url.replace(
            "//", "//***@"
        )
        assert "hunter" not in shown
