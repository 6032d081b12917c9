"""What a reader is shown of an answering event."""

from collections.abc import Mapping

import pytest

from relume.cli.machine.story import attributes, is_answer, sentence

SAID = {
    "chat": ({"choices": [{"message": {"content": " It sleeps.\n"}}]}, "It sleeps."),
    "completion": ({"choices": [{"text": "It sleeps."}]}, "It sleeps."),
    "error": ({"error": {"message": "no such model"}, "reason": "model-unknown"}, "no such model"),
    "text": ("plain words", "plain words"),
}


@pytest.mark.parametrize("data, said", SAID.values(), ids=SAID.keys())
def test_the_words_of_the_model_are_found(data: object, said: str) -> None:
    assert sentence({"data": data}) == said


def test_an_embedding_is_described_not_printed() -> None:
    data = {"data": [{"embedding": [0.25, -0.5, 0.125, 1.0, *([0.0] * 380)]}]}
    assert sentence({"data": data}) == (
        "an embedding of 384 numbers: 0.2500, -0.5000, 0.1250, 1.0000, …"
    )


@pytest.mark.parametrize("data", [{"choices": []}, {"choices": [{"message": {"content": ""}}]}, {}])
def test_data_of_another_shape_is_shown_as_json(data: Mapping[str, object]) -> None:
    assert sentence({"data": data}).startswith("{")


def test_attributes_come_with_the_most_telling_first_and_without_data() -> None:
    event = {
        "specversion": "1.0",
        "coldstartms": 2412,
        "causationid": "1",
        "id": "r",
        "source": "/s",
        "type": "relume.inference.response",
        "data": {"x": 1},
    }
    assert [name for name, _ in attributes(event)] == [
        "type",
        "id",
        "source",
        "causationid",
        "coldstartms",
    ]
    assert ("coldstartms", "2412") in attributes(event)


@pytest.mark.parametrize(
    "type_, answers",
    [
        ("relume.inference.response", True),
        ("relume.inference.error", True),
        ("relume.inference.chunk", False),
        ("com.example.article", False),
    ],
)
def test_only_responses_and_errors_are_answers(type_: str, answers: bool) -> None:
    assert is_answer({"type": type_}) is answers
