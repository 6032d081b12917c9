"""Renderings equal the golden files, byte for byte, twice; the runtimes equal their manifests.

The golden files are written again by `python -m tests.cluster.render.cases`.
"""

from pathlib import Path

import pytest

from relume.cluster.render import render
from relume.cluster.render.published import files as published
from tests.cluster.render.cases import CASES, GOLDEN, ROOT, Case, rendered

NAMES = [case.name for case in CASES]


def tree(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): path.read_text()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.mark.parametrize("name", NAMES)
def test_a_rendering_equals_its_golden_files(name: str) -> None:
    assert rendered(name).files == tree(GOLDEN / name)


@pytest.mark.parametrize("case", CASES, ids=NAMES)
def test_rendering_again_makes_the_same_bytes(case: Case) -> None:
    assert render(case.paths, case.options).files == rendered(case.name).files


def test_there_are_no_golden_files_of_cases_that_are_gone() -> None:
    assert {path.name for path in GOLDEN.iterdir()} == set(NAMES)


def test_the_runtimes_equal_the_manifests_in_runtimes() -> None:
    assert published() == tree(ROOT / "runtimes" / "manifests")
