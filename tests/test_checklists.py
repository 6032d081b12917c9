"""The checklists name clauses that code and tests cite, and tests that are there."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# The letter of the clauses, and how many there are: where they are listed, and who cites them.
CHECKLISTS = {"A": ("serving", 17), "B": ("eventing", 17)}


def rows(letter: str) -> dict[str, str]:
    """The rows of a checklist by their clause."""
    text = (ROOT / CHECKLISTS[letter][0] / "CHECKLIST.md").read_text(encoding="utf-8")
    found = re.findall(rf"^\| ({letter}\d+) \|(.*)\|$", text, re.MULTILINE)
    assert len(found) == len(dict(found)), "a clause is there twice"
    return dict(found)


def named_tests(row: str) -> list[str]:
    return re.findall(r"`(test_\w+)`", row.split(" | ")[-1])


def defined() -> set[str]:
    """The name of every test function."""
    files = (ROOT / "tests").rglob("test_*.py")
    texts = [file.read_text(encoding="utf-8") for file in files]
    return {name for text in texts for name in re.findall(r"def (test_\w+)\(", text)}


def cited(letter: str) -> set[str]:
    """Every clause that is named in the code, or in a test or its name."""
    area, _ = CHECKLISTS[letter]
    folders = (ROOT / area / "relume", ROOT / "tests" / area)
    texts = [file.read_text(encoding="utf-8") for each in folders for file in each.rglob("*.py")]
    named = rf"\b{letter}(\d+)\b|\bdef test_{letter.lower()}(\d+)_"
    numbers = (one or other for text in texts for one, other in re.findall(named, text))
    return {f"{letter}{number}" for number in numbers}


@pytest.mark.parametrize("letter", CHECKLISTS)
def test_every_clause_is_listed_once_and_in_order(letter: str) -> None:
    _, count = CHECKLISTS[letter]
    assert list(rows(letter)) == [f"{letter}{number}" for number in range(1, count + 1)]


@pytest.mark.parametrize("letter", CHECKLISTS)
def test_every_clause_that_is_cited_is_in_the_checklist(letter: str) -> None:
    assert len(cited(letter)) > 8
    assert cited(letter) <= rows(letter).keys()


@pytest.mark.parametrize("letter", CHECKLISTS)
def test_every_clause_has_tests_and_each_of_them_is_there(letter: str) -> None:
    there = defined()
    for clause, row in rows(letter).items():
        assert named_tests(row), f"{clause} names no test"
        assert not set(named_tests(row)) - there, f"{clause} names a test that is not there"


def carrying_numbers() -> dict[str, str]:
    """The tests of files that cite a clause of serving, and their docstrings."""
    texts = (file.read_text(encoding="utf-8") for file in (ROOT / "tests").rglob("test_*.py"))
    trees = (ast.parse(text) for text in texts if re.search(r"\bA1?\d\b|def test_a1?\d_", text))
    return {
        node.name: ast.get_docstring(node) or ""
        for tree in trees
        for node in tree.body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }


def test_every_clause_of_serving_has_a_test_that_carries_its_number() -> None:
    told = carrying_numbers()
    for clause, row in rows("A").items():
        carrying = [
            name
            for name in named_tests(row)
            if name.startswith(f"test_{clause.lower()}_")
            or re.search(rf"\b{clause}\b", told.get(name, ""))
        ]
        assert carrying, f"no test of {clause} has its number in its name or docstring"


@pytest.mark.parametrize("letter", CHECKLISTS)
def test_a_test_that_has_a_clause_in_its_name_is_listed_under_it_or_not_at_all(letter: str) -> None:
    for clause, row in rows(letter).items():
        for name in named_tests(row):
            if named := re.match(rf"test_({letter.lower()}\d+)_", name):
                assert clause == "A17" or named[1].upper() == clause, name
