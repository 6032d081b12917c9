"""Documents in, parts out, answers together; with every kind of fault in between."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cloudevents.core.v1.event import CloudEvent
from function import new
from function.settings import ConfigError
from function.sink import Sink, SinkError, overrides
from function.store import Store
from nats_process import nats_server
from world import PART, RESULT, Killed, World

RESPONSE = "relume.inference.response"
PAGES = "\f".join(f"page {n} " + "word " * 60 for n in range(12))


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with nats_server(tmp_path_factory.mktemp("nats")) as address:
        yield address


def config(folder: Path, **changes: object) -> str:
    values = {
        "documents": ["com.example.document.received"],
        "request_type": PART,
        "type": RESULT,
        "tick": "tick",
        "part_chars": 400,
        "timeout_s": 60,
        "reduce": "join",
    }
    (folder / "split-join.yaml").write_text(json.dumps(values | changes))
    return str(folder)


def document(id_: str, text: object = PAGES, **attributes: str) -> CloudEvent:
    told = {"id": id_, "source": "/files", "type": "com.example.document.received"}
    return CloudEvent(told | attributes, {"text": text})


def tick(number: int = 0) -> CloudEvent:
    return CloudEvent({"id": f"t{number}", "source": "/clock", "type": "tick"}, None)


def first_words(request: dict[str, Any]) -> Any:
    """A model that answers with the pages that it sees."""
    text = request["messages"][1]["content"]
    pages = [
        line.split()[1] for line in text.replace("page", "\npage").split("\n") if line[:4] == "page"
    ]
    return RESPONSE, {"choices": [{"message": {"content": " ".join(f"page {p}" for p in pages)}}]}


ALL_PAGES = [str(n) for n in range(12)]


def pages(result: CloudEvent) -> list[str]:
    return [word for word in json.loads(result.get_data())["text"].split() if word.isdigit()]


@pytest.mark.parametrize("reduce", ["join", "model"])
@pytest.mark.parametrize("seed", range(4))
async def test_answers_come_together_in_order(url, tmp_path, reduce: str, seed: int) -> None:
    world = World(url, config(tmp_path, reduce=reduce), first_words, seed)
    await world.take(document(f"order {reduce} {seed}", correlationid="own", subject="a.txt"))
    await world.run()
    (result,) = world.results
    told = json.loads(result.get_data())
    assert pages(result) == ALL_PAGES
    assert (told["parts"], told["missing"], told["complete"]) == (12, [], True)
    attributes = result.get_attributes()
    assert (attributes["correlationid"], attributes["subject"]) == ("own", "a.txt")
    assert (attributes["causationid"], result.get_type()) == (f"order {reduce} {seed}", RESULT)
    assert len(world.requests) == (12 if reduce == "join" else 13)


async def test_a_long_document_takes_several_rounds(url: str, tmp_path: Path) -> None:
    def long_answer(request: dict[str, Any]) -> Any:
        return RESPONSE, {"choices": [{"text": "x" * 150}]}

    world = World(url, config(tmp_path, reduce="model"), long_answer)
    await world.take(document("rounds"))
    await world.run()
    rounds = [request.get_attributes()["correlationid"].split(".")[2] for request in world.requests]
    assert [rounds.count(n) for n in ("0", "1", "2", "3")] == [12, 6, 3, 2]
    assert rounds.count("4") == 1
    assert json.loads(world.results[0].get_data())["text"] == "x" * 150


@pytest.mark.parametrize("reduce", ["join", "model"])
async def test_a_kill_at_any_await_loses_nothing_and_tells_nothing_twice(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reduce: str
) -> None:
    """The process is killed before and after each access to the store and each post."""
    real = {name: getattr(Store, name) for name in ("get", "create", "update", "keys")}
    count, victim = 0, (-1, False)

    def trapped(name: str, call: Any) -> Any:
        async def access(*args: Any) -> Any:
            nonlocal count
            count += 1
            here = count == victim[0]
            if here and not victim[1]:
                raise Killed
            done = await call(*args)
            if here:
                raise Killed
            return done

        return access

    text = "\f".join(f"page {n} " + "word " * 60 for n in range(3))
    wanted: set[bytes] = set()
    number, runs, reached = 1, 0, 0
    while True:
        for after in (False, True):
            count, victim = 0, (number, after)
            for name, call in real.items():
                monkeypatch.setattr(Store, name, trapped(name, call))
            world = World(url, config(tmp_path, reduce=reduce), first_words, seed=number)
            post = world.take

            async def counted(event: CloudEvent, post: Any = post, world: World = world) -> None:
                await trapped("post", post)(event)

            start = world.start

            def restarted(world: World = world, start: Any = start, counted: Any = counted) -> Any:
                function = start()
                function._sink.post = counted
                return function

            world.start = restarted  # type: ignore[method-assign]
            restarted()
            await world.take(document(f"kill {reduce} {number} {after}", text))
            await world.run()
            reached, victim = count, (-1, False)
            assert len(world.results) == 1, (number, after)
            wanted.add(world.results[0].get_data())
            for event in list(world.delivered):  # whatever is delivered once more tells no more
                await world.deliver(event)
            assert len(world.results) == 1
            await world.close()
            runs += 1
        if reached < number:
            break
        number += 1
    assert runs > 40
    assert len(wanted) == 1


async def test_an_answer_is_settled_once(url: str, tmp_path: Path) -> None:
    world = World(url, config(tmp_path), lambda request: None)
    await world.take(document("once"))
    await world.run()
    names = [request.get_attributes()["correlationid"] for request in world.requests]
    for word in ("first", "second"):
        for name in names:
            attributes = {"id": f"{word} {name}", "source": "/m", "type": RESPONSE}
            answer = CloudEvent(attributes | {"correlationid": name}, {"choices": [{"text": word}]})
            await world.deliver(answer)
    (result,) = world.results
    assert set(json.loads(result.get_data())["text"].split()) == {"first"}


async def test_an_error_of_a_part_makes_a_partial_result(url: str, tmp_path: Path) -> None:
    def fails_on_page_4(request: dict[str, Any]) -> Any:
        if "page 4 " in request["messages"][1]["content"]:
            return "relume.inference.error", {"reason": "context-too-long"}
        return first_words(request)

    world = World(url, config(tmp_path), fails_on_page_4)
    await world.take(document("partial"))
    await world.run()
    told = json.loads(world.results[0].get_data())
    assert (told["missing"], told["complete"]) == ([4], False)
    assert pages(world.results[0]) == [n for n in ALL_PAGES if n != "4"]

    strict = World(url, config(tmp_path, partial=False), fails_on_page_4)
    await strict.take(document("strict"))
    await strict.run()
    (result,) = strict.results
    assert result.get_type() == "relume.function.error"
    assert json.loads(result.get_data())["reason"] == "parts-missing"


async def test_a_job_whose_time_is_over_ends_with_what_is_there(url: str, tmp_path: Path) -> None:
    def silent_on_page_4(request: dict[str, Any]) -> Any:
        return None if "page 4 " in request["messages"][1]["content"] else first_words(request)

    world = World(url, config(tmp_path), silent_on_page_4)
    await world.take(document("late"))
    await world.run()
    await world.deliver(tick())
    assert world.results == []
    world.now += 61
    for number in (1, 2):
        await world.deliver(tick(number))
    mine = [each for each in world.results if each.get_attributes()["causationid"] == "late"]
    assert len(mine) == 1
    assert json.loads(mine[0].get_data())["missing"] == [4]
    # The answer comes after all, and changes nothing.
    (asked,) = [r for r in world.requests if "page 4 " in r.get_data().decode()]
    attributes = {"id": "late answer", "source": "/m", "type": RESPONSE}
    attributes |= {"correlationid": asked.get_attributes()["correlationid"]}
    world.known.clear()
    await world.deliver(CloudEvent(attributes, {"choices": [{"text": "page 4"}]}))
    assert [e for e in world.results if e.get_attributes()["causationid"] == "late"] == mine


async def test_vectors_come_together_in_order(url: str, tmp_path: Path) -> None:
    def embed(request: dict[str, Any]) -> Any:
        page = float(request["input"][0].split()[1])
        return RESPONSE, {"data": [{"embedding": [page, 1.0]}]}

    world = World(url, config(tmp_path, kind="embedding"), embed, seed=3)
    await world.take(document("vectors"))
    await world.run()
    vectors = json.loads(world.results[0].get_data())["vectors"]
    assert vectors == [{"part": n, "vector": [float(n), 1.0]} for n in range(12)]


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        (document("e1", ""), "empty-document"),
        (document("e2", 7), "invalid-data"),
        (document("e3", "word " * 400), "document-too-long"),
        (CloudEvent({"id": "o", "source": "/a", "type": "odd"}, {}), "unknown-event"),
        (
            CloudEvent(
                {
                    "id": "o",
                    "source": "/a",
                    "type": RESPONSE,
                    "correlationid": f"sj.{'0' * 24}.0.0",
                },
                {},
            ),
            "unknown-job",
        ),
    ],
)
async def test_what_cannot_be_done_is_an_error_event(url, tmp_path, event, reason: str) -> None:
    world = World(url, config(tmp_path, most_parts=3), first_words)
    await world.deliver(event)
    (result,) = world.results
    assert json.loads(result.get_data())["reason"] == reason


async def test_a_part_that_was_never_asked_for_is_refused(url: str, tmp_path: Path) -> None:
    world = World(url, config(tmp_path), lambda request: None)
    await world.take(document("forged"))
    await world.run()
    job = world.requests[0].get_attributes()["correlationid"].rsplit(".", 2)[0]
    for name in (f"{job}.1.0", f"{job}.0.12"):
        attributes = {"id": name, "source": "/m", "type": RESPONSE, "correlationid": name}
        await world.deliver(CloudEvent(attributes, {"choices": [{"text": "x"}]}))
    assert [json.loads(e.get_data())["reason"] for e in world.results] == ["unknown-part"] * 2


async def test_a_sink_that_is_away_lets_the_broker_try_again(running, url, tmp_path) -> None:
    cfg = {"NATS_URL": url, "K_SINK": "http://127.0.0.1:9/", "CONFIG_DIR": config(tmp_path)}
    attributes = {"type": "com.example.document.received", "id": "away"}
    reply = await running(**cfg).post({"text": PAGES}, **attributes)
    assert (reply.status, reply.data["reason"]) == (503, "sink-unavailable")


async def test_overrides_are_set_on_what_is_posted(monkeypatch: pytest.MonkeyPatch) -> None:
    assert overrides('{"extensions": {"tenant": "a"}}') == {"tenant": "a"}
    with pytest.raises(ValueError, match="K_CE_OVERRIDES"):
        overrides("[]")
    with pytest.raises(ValueError, match="K_SINK"):
        Sink({})
    with pytest.raises(SinkError):
        await Sink({"K_SINK": "http://127.0.0.1:9/"}).post(tick())


@pytest.mark.parametrize(
    ("changes", "told"),
    [({"part_chars": 99}, "part_chars"), ({"reduce": "sum"}, "reduce"), ({"kind": 1}, "kind")],
)
def test_a_wrong_configuration_ends_the_start(tmp_path: Path, changes: dict, told: str) -> None:
    cfg = {"NATS_URL": "nats://x", "K_SINK": "http://x/", "CONFIG_DIR": config(tmp_path, **changes)}
    with pytest.raises(ConfigError, match=told):
        new().start(cfg)
