"""Parts, vectors and questions."""

from pathlib import Path

import pytest
from function import new

JOB = "sj." + "0" * 24
PART = {"type": "com.example.document.part", "source": "/functions/split-join"}
RESPONSE = {"type": "relume.inference.response", "source": "/model"}
ASKED = {"type": "com.example.document.asked"}


def chat(text: str) -> dict:
    return {"messages": [{"role": "system", "content": "Sum"}, {"role": "user", "content": text}]}


def embedded(*numbers: float) -> dict:
    return {"data": [{"index": 0, "embedding": list(numbers)}]}


@pytest.fixture
def started(running, tmp_path: Path):
    return lambda **cfg: running(STORE_FILE=str(tmp_path / "deep" / "parts.db"), **cfg)


async def fill(function, vectors: dict[int, tuple[float, ...]]) -> None:
    for number, vector in vectors.items():
        name = f"{JOB}.0.{number}"
        part = {**PART, "id": name, "correlationid": name, "subject": "a.txt"}
        asked = await function.post(chat(f"text {number}"), **part)
        assert (asked.type, asked.data) == (
            "com.example.document.embed",
            {"input": [f"text {number}"]},
        )
        assert asked.headers["ce-correlationid"] == name
        done = await function.post(embedded(*vector), **RESPONSE, id=name, correlationid=name)
        assert (done.status, done.type) == (200, None)


async def test_a_question_finds_the_nearest_parts_also_after_a_restart(started) -> None:
    await fill(started(), {0: (1, 0), 1: (0.6, 0.8), 2: (0, 1), 3: (-1, 0)})
    question = {**ASKED, "id": "q", "correlationid": "own", "subject": "who"}
    asked = await started().post({"question": "Which?", "most": 2}, **question)
    assert asked.data == {"input": ["Which?"]}
    name = asked.headers["ce-correlationid"]
    found = await started().post(embedded(0.1, 0.9), **RESPONSE, correlationid=name)
    assert found.type == "com.example.document.found"
    assert [each["part"] for each in found.data["found"]] == [2, 1]
    assert found.data["found"][0] | {"distance": 0} == {
        "document": "0" * 24,
        "subject": "a.txt",
        "part": 2,
        "distance": 0,
        "text": "text 2",
    }
    assert found.data["question"] == "Which?"
    own = [found.headers[f"ce-{key}"] for key in ("correlationid", "subject", "causationid")]
    assert own == ["own", "who", "q"]


async def test_repeated_deliveries_change_nothing(started) -> None:
    function = started()
    await fill(function, {0: (1, 0)})
    await fill(function, {0: (1, 0)})
    name = (await function.post({"question": "x"}, **ASKED)).headers["ce-correlationid"]
    bodies = {
        (await function.post(embedded(1, 0), **RESPONSE, correlationid=name)).body for _ in range(2)
    }
    assert len(bodies) == 1


async def test_summaries_of_later_rounds_and_vectors_of_others_are_left_alone(started) -> None:
    function = started()
    reply = await function.post(chat("a summary"), **PART, correlationid=f"{JOB}.1.0")
    assert (reply.status, reply.type) == (200, None)
    reply = await function.post(embedded(1), **RESPONSE, correlationid="somebody")
    assert (reply.status, reply.type) == (200, None)


UNKNOWN = "vq." + "0" * 32


@pytest.mark.parametrize(
    ("data", "attributes", "reason"),
    [
        ({"question": ""}, ASKED, "invalid-data"),
        ({"question": "x", "most": 0}, ASKED, "invalid-data"),
        ({"question": "x", "most": True}, ASKED, "invalid-data"),
        ([], ASKED, "invalid-data"),
        ({"messages": []}, {**PART, "correlationid": f"{JOB}.0.0"}, "invalid-data"),
        (chat("x"), PART, "unknown-part"),
        (embedded(1), {**RESPONSE, "correlationid": UNKNOWN}, "unknown-question"),
        ({"data": []}, {**RESPONSE, "correlationid": UNKNOWN}, "no-vector"),
        (embedded(float("nan")), {**RESPONSE, "correlationid": UNKNOWN}, "no-vector"),
        (
            {"reason": "context-too-long"},
            {"type": "relume.inference.error", "correlationid": UNKNOWN},
            "model-refused",
        ),
    ],
)
async def test_what_cannot_be_done_is_an_error_event(started, data, attributes, reason) -> None:
    assert (await started().post(data, **attributes)).reason == reason


async def test_a_vector_of_another_model_is_refused(started) -> None:
    function = started()
    await fill(function, {0: (1, 0)})
    name = f"{JOB}.0.1"
    await function.post(chat("x"), **PART, correlationid=name)
    reply = await function.post(embedded(1, 0, 0), **RESPONSE, correlationid=name)
    assert reply.reason == "wrong-dimension"


def test_without_a_file_the_start_ends() -> None:
    with pytest.raises(ValueError, match="STORE_FILE"):
        new().start({})
