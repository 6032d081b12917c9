"""Cutting and grouping, without events."""

import random

import pytest
from function.texts import group, split


@pytest.mark.parametrize("seed", range(20))
def test_parts_are_the_text_in_order(seed: int) -> None:
    chance = random.Random(seed)
    words = ["".join(chance.choices("abc.", k=chance.randrange(1, 30))) for _ in range(300)]
    text = "".join(word + chance.choice([" ", "\n", "\n\n", "\f"]) for word in words)
    parts = split(text, 100)
    assert all(0 < len(part) <= 100 for part in parts)
    assert "".join("".join(parts).split()) == "".join(text.split())


def test_the_best_break_is_taken() -> None:
    assert split("a" * 60 + "\f" + "b" * 30 + " " + "c" * 60, 100)[0] == "a" * 60
    assert split("a" * 250, 100) == ["a" * 100, "a" * 100, "a" * 50]
    assert split(" \n\f ", 100) == []


@pytest.mark.parametrize("length", [0, 1, 49, 98, 5000])
def test_every_round_is_shorter_and_in_order(length: int) -> None:
    answers = [f"{n}:{'x' * length}" for n in range(41)]
    groups = group(answers, 100)
    assert all(len(each) <= 100 for each in groups)
    assert len(groups) <= 21
    starts = [int(line.split(":")[0]) for each in groups for line in each.split("\n\n")]
    assert starts == list(range(41))
