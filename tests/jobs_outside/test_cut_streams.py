"""A stream is cut at a random token: whoever is cut off, the text is that of an uncut stream.

The client goes away, the gateway that it reads from is killed, or the worker that runs the job is
killed, and each time the reader attaches again at the last position that it has seen.
"""

import asyncio
import random
from pathlib import Path
from typing import Literal

import pytest

from tests.closing_lines import say_at_the_end
from tests.jobs_outside.checker import faults_of_stream
from tests.jobs_outside.client import Client
from tests.jobs_outside.scene import Reader, Scene, scene
from tests.jobs_outside.script import Script

pytestmark = [pytest.mark.crash, pytest.mark.timeout(300)]
Who = Literal["client", "gateway", "worker"]
TOKENS = 60


@pytest.mark.parametrize("who", ["client", "gateway", "worker"])
async def test_the_text_of_a_cut_stream_is_that_of_an_uncut_one(
    who: Who, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    count = 34 if request.config.getoption("every_phase") else 4
    seed = random.randrange(10**6)
    chance = random.Random(seed)
    async with scene(tmp_path, nodes=1) as made, made.client() as client:
        # Only the first gateway is there when the jobs begin, so it is the worker.
        worker, other = made.gateways
        other.kill()
        client.gateways = [worker.url]
        # The first token comes when every reader is attached to the other gateway.
        scripts = [
            Script(f"{who}{n}", TOKENS, chance.uniform(20, 60), held=True, die=die)
            for n, die in enumerate(chance.choices((-1, 25), (2, 1), k=count))
        ]
        ids = await asyncio.gather(*(client.submit(each) for each in scripts))
        other.start()
        await other.ready()
        await made.keep_history()
        client.gateways = [other.url]
        readers = [Reader(client.http, job) for job in ids]
        cuts = [chance.randrange(1, TOKENS // 2) for _ in readers]
        await _cut(who, made, client, readers, cuts)
        wrong = [
            f"{reader.job}: {words}"
            for reader, script in zip(readers, scripts, strict=True)
            if (words := faults_of_stream(reader.told, script.text(), "completed"))
        ]
        books = await made.rest(client)
    again = sum(reader.attached > 1 for reader in readers)
    say_at_the_end(request.node, f"streams cut at the {who}: {again}, wrong: {len(wrong)}")
    assert not wrong, f"seed {seed}: {wrong}"
    assert again == count, f"seed {seed}"
    assert books.at_rest, books
    assert books.sound, books


async def _cut(
    who: Who, made: Scene, client: Client, readers: list[Reader], cuts: list[int]
) -> None:
    """Read every stream to its end, with one cut in each."""
    worker, other = made.gateways
    leave = cuts if who == "client" else [None] * len(cuts)
    reading = [
        asyncio.create_task(each.read(other.url, cut))
        for each, cut in zip(readers, leave, strict=True)
    ]
    while not all(each.is_attached for each in readers):
        await asyncio.sleep(0.01)
    (made.folder / "go").touch()
    if who == "client":
        await asyncio.gather(*reading)
    elif who == "gateway":
        await _some_is_read(readers, cuts)
        other.kill()
        await asyncio.gather(*reading)
        client.gateways = [worker.url]
    else:
        # The stream itself goes on; the reader leaves with it, to attach while nobody works.
        await _some_is_read(readers, cuts)
        worker.kill()
        await asyncio.sleep(0.1)
        for task in reading:
            task.cancel()
        await asyncio.gather(*reading, return_exceptions=True)
    await asyncio.gather(*(_to_the_end(client, each) for each in readers))


async def _some_is_read(readers: list[Reader], cuts: list[int]) -> None:
    """Wait until as much is read as was drawn, but let no stream come near its end."""
    while sum(len(each.told) for each in readers) < sum(cuts):
        if any(len(each.told) >= TOKENS // 2 for each in readers):
            return
        await asyncio.sleep(0.01)


async def _to_the_end(client: Client, reader: Reader) -> None:
    async with asyncio.timeout(120):
        while not reader.ended:
            await reader.read(client.next())
            await asyncio.sleep(0.05)
