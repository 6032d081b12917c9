"""What a hostile client sends to a real gateway beside a real nats-server.

A flood of tiny jobs beside a few of somebody else, ids and keys of every kind of character, and
data that is only referred to: at private addresses, behind redirects, without an end.
"""

import asyncio
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

import psutil  # type: ignore[import-untyped]
import pytest

from relume.eventing.jetstream.job_filling import fill
from relume.eventing.jobs.job import ServiceName
from relume.eventing.jobs.settings import JobSettings
from tests.closing_lines import say_at_the_end
from tests.jobs_outside import own_world_gateway
from tests.jobs_outside.checker import text_of
from tests.jobs_outside.client import Client, request_of
from tests.jobs_outside.hostile_host import ENDLESS_BYTES, PUBLIC, Host, hostile_host
from tests.jobs_outside.programs import Program, gateway
from tests.jobs_outside.raw_http import Raw, raw
from tests.jobs_outside.scene import Scene, scene
from tests.jobs_outside.script import Script

pytestmark = [pytest.mark.crash, pytest.mark.timeout(900)]
SERVICE = ServiceName("default", "stub")
ROUTE = "/v1/chat/completions"
EVENTS = f"/events/{SERVICE}{ROUTE}".encode()
MIB = 1024**2
# `JobSettings.in_flight`, and a quarter more that a gateway holds.
HELD = 62
FEW = 10


def peak_mb(program: Program) -> float:
    """The most memory that a process has ever had resident."""
    status = Path(f"/proc/{program.pid}/status").read_text()
    [line] = [each for each in status.splitlines() if each.startswith("VmHWM")]
    return float(line.split()[1]) / 1024


def begun(made: Scene) -> list[str]:
    """The names of the jobs that the predictor was asked for, in order."""
    lines = (made.folder / "predictor.jsonl").read_text().splitlines()
    return [told["job"] for told in map(json.loads, lines) if told["what"] == "begin"]


async def flood(urls: Sequence[str], count: int) -> None:
    """So many jobs of one tenant into the queue, as a gateway stores what it accepts."""
    body = json.dumps(request_of(Script("flood", 1), chat=True, stream=True)).encode()
    await fill(urls, count, SERVICE, ROUTE, "/flood", body)


async def test_a_flood_of_one_tenant_delays_another_by_its_share_only(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    option = request.config.getoption
    count = 1_000_000 if option("every_harm") else 30_000 if option("every_phase") else 3_000
    async with scene(tmp_path, nodes=1, gateways=1) as made, made.client() as client:
        [gate] = made.gateways
        memory = psutil.Process(gate.pid).memory_info
        await client.ask("POST", f"/v1/queues/{SERVICE}/pause")
        before_mb = memory().rss / MIB
        await flood(made.cluster.urls, count)
        await asyncio.sleep(3.0)  # the gateway counts its lanes once a second
        told = await _post_as(gate, b"/flood")
        assert told.status == (429 if count >= JobSettings().tenant_jobs else 202), told
        await client.ask("POST", f"/v1/queues/{SERVICE}/resume")
        async with asyncio.timeout(60):
            while len(begun(made)) < 200:
                await asyncio.sleep(0.05)
        ids = await asyncio.gather(*(client.submit(Script(f"few{n}", 3)) for n in range(FEW)))
        there = len(begun(made))
        started = asyncio.get_running_loop().time()
        ends = await asyncio.gather(*(client.settled(each) for each in ids))
        seconds = asyncio.get_running_loop().time() - started
        names = begun(made)
        last = max(names.index(f"few{n}") for n in range(FEW))
        between = names[there:last].count("flood")
        more_mb = memory().rss / MIB - before_mb
        texts = [text_of(await client.ask("GET", f"/v1/jobs/{each}/result")) for each in ids]
    say_at_the_end(
        request.node,
        f"a flood of {count:,} jobs: {FEW} of another tenant were served after {seconds:.2f} s, "
        f"with {between} of the flood in front of the last one; {more_mb:.0f} MB more memory",
    )
    # What the gateway held already, and then one of the flood for each of the few.
    assert between <= HELD + FEW
    assert more_mb < 50
    # The books would count the flood, too, which goes on for long.
    assert {each["status"] for each in ends} == {"completed"}
    assert texts == [Script(f"few{n}", 3).text() for n in range(FEW)]


async def _post_as(gate: Program, source: bytes, id_: bytes = b"1", job: str = "posted") -> Raw:
    """Post an event of a source; the tenant is its source."""
    body = json.dumps(request_of(Script(job, 1), chat=True, stream=False)).encode()
    head = [b"ce-specversion: 1.0", b"ce-type: ask", b"Content-Type: application/json"]
    head += [b"ce-source: " + source, b"ce-id: " + id_]
    return await raw(gate.port, b"POST", EVENTS, head, body)


KEYS = [
    *(b"k%cz" % each for each in range(1, 256) if each not in b"\r\n"),
    *(b"*", b">", b"a.b", b"..", b"../../etc", b"%00", b"%2e", b"a,b", b'"a"', b"a b", b"$JS.API"),
    *("🙂".encode(), "\u202e".encode(), "é".encode(), "e\u0301".encode(), b"\xff\xfe", b"-"),
    *(b"k" * 512, b"k" * 511 + b"j"),
]
REFUSED_KEYS = [b"", b"k" * 513, b"k" * 60_000, b"k\x00z"]
SOURCES = [
    *(b"/a.*.>", b"*", b">", b"..", b"urn:x:y", b"%F0%9F%99%82", b"a%20b", b"$SYS", b"'%22;--"),
    *(b"s" * 1000, b"%E2%80%AE", b"//x", b"a%2Fb", b"a/b"),
]
IDS = [
    *(b"..", b"*", b">", b"a.b", b"%2e%2e", b"%00", b"%0d%0aX:1", b"a%2Fb", b"%F0%9F%99%82"),
    *(b"a" * 5000, b"%", b"%zz", b"\xff", b"~", b"'", b"-" * 129, b"%252e", b"$JS", b"null"),
]


async def test_ids_and_keys_of_every_kind_of_character(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    async with scene(tmp_path, nodes=1, gateways=1) as made, made.client() as client:
        [gate] = made.gateways
        keys = KEYS if request.config.getoption("every_phase") else KEYS[::7]
        keyed = await _keys(gate, client, keys)
        sent = await _sources(gate, client, keys)
        asked = await _paths(gate)
        assert await _keys(gate, client, keys) == keyed  # the same key, the same job
        assert gate.alive
        books = await made.rest(client)
        words = gate.last_words()
    say_at_the_end(
        request.node,
        f"hostile names: {len(keyed)} keys, {sent} sources and ids of events, {asked} paths; "
        f"server errors 0; {books.accepted} jobs accepted, {books.settled} settled",
    )
    assert books.at_rest, f"{books}\n{words}"
    assert books.sound, f"{books}\n{words}"
    assert "Traceback" not in words, words


async def _keys(gate: Program, client: Client, keys: Sequence[bytes]) -> dict[bytes, str]:
    """The job of each key that was taken; each key has a job of its own, or is refused plainly."""
    found: dict[bytes, str] = {}
    path = f"/serving/{SERVICE}{ROUTE}".encode()
    for number, key in enumerate([*keys, *REFUSED_KEYS]):
        script = Script(f"k{number}", 1)
        body = json.dumps(request_of(script, chat=True, stream=True)).encode()
        head = [b"Prefer: respond-async", b"Content-Type: application/json"]
        told = await raw(gate.port, b"POST", path, [*head, b"Idempotency-Key: " + key], body)
        if told.status in (200, 202) and key not in REFUSED_KEYS:
            found[key] = told.json()["id"]
            client.note(id=found[key], prompt=script.prompt())
        else:
            assert told.status in (0, 400, 431), (key, told)
    assert len(set(found.values())) == len(found)
    assert len(found) > 0.8 * len(keys), sorted(set(keys) - set(found))
    return found


async def _sources(gate: Program, client: Client, keys: Sequence[bytes]) -> int:
    """Events whose source and id are no plain words: each is a job, or is refused plainly."""
    names = [(each, b"1") for each in SOURCES] + [(b"/s", each) for each in (*IDS, *keys)]
    for number, (source, id_) in enumerate(names):
        script = Script(f"e{number}", 1)
        told = await _post_as(gate, source, id_, script.job)
        assert told.status in (0, 202, 400, 409, 413, 431), (source, id_, told)
        if told.status == 202:
            client.note(id=told.job, prompt=script.prompt(), streamed=False)
    return len(names)


async def _paths(gate: Program) -> int:
    """Whatever stands where an id or a position belongs, nobody fails and nothing is found."""
    count = 0
    for name in IDS:
        for method, path in (
            (b"GET", b"/v1/jobs/%b"),
            (b"DELETE", b"/v1/jobs/%b"),
            (b"GET", b"/v1/jobs/%b/result"),
            (b"GET", b"/v1/jobs/%b/events"),
            (b"POST", b"/v1/jobs/%b/cancel"),
            (b"POST", b"/v1/jobs/%b/retry"),
            (b"POST", b"/v1/queues/default/%b/pause"),
            (b"POST", b"/v1/queues/%b/stub/purge"),
            (b"GET", b"/v1/jobs?after=%b"),
            (b"GET", b"/v1/jobs?status=%b"),
            (b"GET", b"/v1/jobs?limit=%b"),
        ):
            told = await raw(gate.port, method, path % name)
            assert told.status in (0, 400, 404, 405, 414, 431), (method, path % name, told)
            count += 1
    return count


async def _refer(gate: Program, client: Client, reference: str, id_: str) -> Raw:
    """Post an event that refers to its data."""
    head = [b"ce-specversion: 1.0", b"ce-type: ask", b"ce-source: /refers"]
    head += [b"ce-id: " + id_.encode(), b"ce-dataref: " + reference.encode()]
    told = await raw(gate.port, b"POST", EVENTS, head)
    if told.status == 202:
        client.note(id=told.job, prompt=Script(id_, 1).prompt(), streamed=False)
    return told


async def test_data_at_private_addresses_and_without_an_end(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    names = {
        "good.example": [PUBLIC],
        "loopback.example": ["127.0.0.1"],
        "metadata.example": ["169.254.169.254"],
        "inside.example": ["10.0.0.7", "192.168.1.1"],
        "six.example": ["::1", "fd00::1", "::ffff:127.0.0.1"],
        "both.example": ["127.0.0.1", PUBLIC],
    }
    async with hostile_host() as host, scene(tmp_path, nodes=1, gateways=1) as made:
        gate = made.gateways[0] = await _own_world(made, host, names)
        client = Client([gate.url], tmp_path / "accepted.jsonl")
        async with client:
            await _private(gate, client, host)
            before_mb = peak_mb(gate)
            told = await asyncio.gather(
                *(
                    _refer(gate, client, f"http://good.example:{host.port}/endless", f"endless{n}")
                    for n in range(8)
                )
            )
            more_mb = peak_mb(gate) - before_mb
            assert {each.status for each in told} == {400}, told
            declared = f"http://good.example:{host.port}/declared"
            assert (await _refer(gate, client, declared, "declared")).status == 400
            books = await made.rest(client)
        async with made.cluster.client() as asking:
            left = (await asking.jetstream().stream_info("OBJ_relume_payloads")).state.bytes
    most = max(host.sent)
    say_at_the_end(
        request.node,
        f"8 references to {ENDLESS_BYTES >> 30} GiB each at once: at most {most / MIB:.0f} MiB of "
        f"one were sent, {more_mb:.0f} MB more memory at the most; private addresses reached: "
        f"{len(host.intruders)}; {left} bytes of what was refused are stored",
    )
    assert not host.intruders
    assert left == 0  # else events that are refused would fill the disk
    assert most < 128 * MIB  # 64 MiB may be read; the rest lies in the buffers between
    assert more_mb < 64
    assert books.at_rest, books
    assert books.sound, books


async def _own_world(made: Scene, host: Host, names: dict[str, list[str]]) -> Program:
    """The gateway again, with names and a public address of the test's own."""
    made.gateways[0].kill()
    plain = gateway(
        made.folder, "g0", made.cluster.urls, made.predictor.url, made.sink.url, made.replicas
    )
    program = Path(own_world_gateway.__file__)
    extra = [part for name in names for part in ("--data-from", f"{name}:{host.port}")]
    argv = plain.argv[plain.argv.index("gateway") :] + extra
    argv = [sys.executable, str(program), json.dumps(names), PUBLIC, *argv]
    own = Program(argv, made.folder / "own.log", plain.port, "/v1/queues")
    own.start()
    await own.ready()
    return own


async def _private(gate: Program, client: Client, host: Host) -> None:
    """A private address is not reached by a name, by a redirect, or as one of several."""
    good = f"http://good.example:{host.port}"
    body = json.dumps(request_of(Script("good", 1), chat=True, stream=False))
    told = await _refer(gate, client, f"{good}/data?body={quote(body)}", "good")
    assert told.status == 202, told
    body = json.dumps(request_of(Script("both", 1), chat=True, stream=False))
    told = await _refer(
        gate, client, f"http://both.example:{host.port}/?body={quote(body)}", "both"
    )
    assert told.status == 202, told
    for name in ("loopback", "metadata", "inside", "six"):
        told = await _refer(gate, client, f"http://{name}.example:{host.port}/", f"private-{name}")
        assert told.status == 400, told
        assert b"dataref-refused" in told.body, told
    for number, place in enumerate(
        (f"http://127.0.0.1:{host.port}/", f"http://loopback.example:{host.port}/", "file:///etc")
    ):
        told = await _refer(gate, client, f"{good}/redirect?to={quote(place)}", f"redirect{number}")
        assert told.status == 400, told
        assert b"redirects are not followed" in told.body, told
    for number, text in enumerate(
        (
            f"http://127.0.0.1:{host.port}/",
            f"http://2130706433:{host.port}/",
            f"http://0x7f.1:{host.port}/",
            f"http://[::ffff:127.0.0.1]:{host.port}/",
            f"http://good.example@127.0.0.1:{host.port}/",
            f"http://localhost:{host.port}/",
        )
    ):
        told = await _refer(gate, client, text, f"plain{number}")
        assert told.status == 400, (text, told)
