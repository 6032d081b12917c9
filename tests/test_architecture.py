"""The walk in ARCHITECTURE.md is true: its files, names, calls and numbers are those of the code.

An item of the walk is one line:

    1. [`FILE`](FILE): `Name`, `Class.method` → `Class.method`: what happens

The names before the arrow are defined in FILE. Each of them calls the next one, and the last of
them calls what stands after the arrow, which is defined in a file of the walk. Only the last item
may do without an arrow, or lead out of the walk. The section says how many files and lines it has,
as in "3 files, 640 lines".
"""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCUMENT = ROOT / "ARCHITECTURE.md"
HEADING = "## The way of an event"
MOST_FILES = 14
MOST_LINES = 2_200

_ITEM = re.compile(r"\d+\. \[`(?P<shown>[^`]+)`\]\((?P<file>[^)]+)\): (?P<rest>.+)")
_STEP = re.compile(r"(?P<names>`[^`]+`(?:, `[^`]+`)*)(?: → `(?P<target>[^`]+)`)?: .+")
_NUMBERS = re.compile(r"\b(\d+) files, ([\d,]+) lines\b")
Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


@dataclass(frozen=True)
class Step:
    """One item of the walk: the names in its file, and what the last of them calls."""

    file: str
    names: tuple[str, ...]
    target: str | None


@dataclass(frozen=True)
class Walk:
    """The section as it is written; `numbers` are its files and lines, as it counts them."""

    steps: tuple[Step, ...]
    numbers: tuple[int, int]


def read_walk(text: str) -> Walk:
    """The walk in a document. Raises ValueError for a line that is not written as it must be."""
    _, found, after = text.partition(f"{HEADING}\n")
    if not found:
        raise ValueError(f"the document has no section {HEADING!r}")
    section = after.split("\n## ")[0]
    numbers = _NUMBERS.search(section)
    if numbers is None:
        raise ValueError('the section does not say its size, as in "3 files, 640 lines"')
    steps = tuple(_read_step(line) for line in section.splitlines() if re.match(r"\d+\.", line))
    if not steps:
        raise ValueError("the section has no numbered line")
    return Walk(steps, (int(numbers[1]), int(numbers[2].replace(",", ""))))


def _read_step(line: str) -> Step:
    item = _ITEM.fullmatch(line)
    step = item and _STEP.fullmatch(item["rest"])
    if item is None or step is None:
        raise ValueError(f"not written as `1. [`FILE`](FILE): `Name` → `Name`: words`: {line}")
    if item["shown"] != item["file"]:
        raise ValueError(f"{item['shown']} links to another file: {item['file']}")
    return Step(item["file"], tuple(re.findall(r"`([^`]+)`", step["names"])), step["target"])


def problems(walk: Walk, root: Path) -> list[str]:
    """Everything in the walk that the files under `root` do not bear out."""
    files = [step.file for step in walk.steps]
    missing = [f"{file} does not exist" for file in files if not (root / file).is_file()]
    if missing:
        return missing
    trees = {file: ast.parse((root / file).read_text(encoding="utf-8")) for file in files}
    found = [f"{file} is in the walk twice" for file in sorted(set(files)) if files.count(file) > 1]
    for step in walk.steps:
        found += _wrong_in(step, trees, is_last=step is walk.steps[-1])
    lines = sum(len((root / file).read_text(encoding="utf-8").splitlines()) for file in trees)
    if len(trees) > MOST_FILES:
        found.append(f"the walk has {len(trees)} files, more than {MOST_FILES}")
    if lines > MOST_LINES:
        found.append(f"the files of the walk have {lines:,} lines, more than {MOST_LINES:,}")
    if walk.numbers != (len(trees), lines):
        wrong = "{} files, {:,} lines".format(*walk.numbers)
        found.append(f"the section says {wrong}: it is {len(trees)} files, {lines:,} lines")
    return found


def _wrong_in(step: Step, trees: dict[str, ast.Module], *, is_last: bool) -> Iterator[str]:
    definitions = [(name, definition(trees[step.file], name)) for name in step.names]
    for name, node in definitions:
        if node is None:
            yield f"{step.file} does not define {name}"
    names = [*step.names, step.target] if step.target is not None else [*step.names]
    for (name, node), (_, called) in zip(definitions, pairwise(names), strict=False):
        if node is not None and called.rpartition(".")[2] not in calls(node):
            yield f"{step.file}: {name} does not call {called}"
    if step.target is None:
        if not is_last:
            yield f"{step.file}: only the last item may do without an arrow"
    elif not is_last and not any(definition(tree, step.target) for tree in trees.values()):
        yield f"{step.file}: no file of the walk defines {step.target}"


def definition(tree: ast.Module, name: str) -> Definition | None:
    """The class or function `Name`, or the method `Class.method`, of a module."""
    body: list[ast.stmt] = tree.body
    node: Definition | None = None
    for part in name.split("."):
        kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
        node = next((n for n in body if isinstance(n, kinds) and n.name == part), None)
        if node is None:
            return None
        body = node.body
    return node


def calls(node: ast.AST) -> set[str]:
    """The names of everything that is called in a body, without what stands before the dot."""
    functions = [each.func for each in ast.walk(node) if isinstance(each, ast.Call)]
    return {f.attr for f in functions if isinstance(f, ast.Attribute)} | {
        f.id for f in functions if isinstance(f, ast.Name)
    }


def test_the_walk_is_true() -> None:
    assert problems(read_walk(DOCUMENT.read_text(encoding="utf-8")), ROOT) == []


# ---- the checks themselves, on a small document

DOOR = """\
class Door:
    async def opens(self, log):
        return await self._store(log)

    async def _store(self, log):
        return await log.append(1)
"""
LOG = """\
class Log:
    async def append(self, event):
        return event
"""
TRUE = f"""\
# A document

{HEADING}

2 files, 9 lines, in the order of an event:

1. [`door.py`](door.py): `Door.opens`, `Door._store` → `Log.append`: an event comes in.
2. [`log.py`](log.py): `Log.append`: it is stored.

## Something else

1. This line is not of the walk.
"""


@pytest.fixture
def code(tmp_path: Path) -> Path:
    (tmp_path / "door.py").write_text(DOOR)
    (tmp_path / "log.py").write_text(LOG)
    return tmp_path


def test_a_true_document_has_no_problem(code: Path) -> None:
    assert problems(read_walk(TRUE), code) == []


@pytest.mark.parametrize(
    "right, wrong, problem",
    [
        pytest.param(
            "[`log.py`](log.py)",
            "[`lag.py`](lag.py)",
            "lag.py does not exist",
            id="a file that is not there",
        ),
        pytest.param(
            "`Door._store` →",
            "`Door._keep` →",
            "door.py does not define Door._keep",
            id="a name that its file does not define",
        ),
        pytest.param(
            "`Door.opens`, `Door._store` →",
            "`Door.opens` →",
            "door.py: Door.opens does not call Log.append",
            id="a call that the body does not make",
        ),
        pytest.param(
            "`Door.opens`, `Door._store`",
            "`Door._store`, `Door.opens`",
            "door.py: Door._store does not call Door.opens",
            id="names in a row that do not call each other",
        ),
        pytest.param(
            "→ `Log.append`",
            "→ `Journal.append`",
            "door.py: no file of the walk defines Journal.append",
            id="a target that no file of the walk defines",
        ),
        pytest.param(
            " → `Log.append`",
            "",
            "door.py: only the last item may do without an arrow",
            id="a missing arrow",
        ),
        pytest.param(
            "[`log.py`](log.py): `Log.append`",
            "[`door.py`](door.py): `Door`",
            "door.py is in the walk twice",
            id="a file that comes twice",
        ),
        pytest.param(
            "2 files, 9 lines",
            "3 files, 9 lines",
            "the section says 3 files, 9 lines: it is 2 files, 9 lines",
            id="a wrong count of files",
        ),
        pytest.param(
            "2 files, 9 lines",
            "2 files, 1,009 lines",
            "the section says 2 files, 1,009 lines: it is 2 files, 9 lines",
            id="a wrong count of lines",
        ),
    ],
)
def test_what_is_not_true_is_noticed(code: Path, right: str, wrong: str, problem: str) -> None:
    assert TRUE.count(right) == 1
    assert problem in problems(read_walk(TRUE.replace(right, wrong)), code)


def test_a_walk_through_too_many_lines_is_noticed(code: Path) -> None:
    with (code / "log.py").open("a") as file:
        file.write("#\n" * MOST_LINES)
    text = TRUE.replace("9 lines", f"{MOST_LINES + 9:,} lines")
    assert problems(read_walk(text), code) == [
        "the files of the walk have 2,209 lines, more than 2,200"
    ]


def test_a_walk_through_too_many_files_is_noticed(code: Path) -> None:
    items = []
    for number in range(2, MOST_FILES + 1):
        (code / f"log{number}.py").write_text(LOG)
        target = " → `Log.append`" if number < MOST_FILES else ""
        file = f"log{number}.py"
        items.append(f"{number + 1}. [`{file}`]({file}): `Log.append`{target}: it goes on.")
    text = TRUE.replace(": it is stored.", f" → `Log.append`: it is stored.\n{chr(10).join(items)}")
    assert "the walk has 15 files, more than 14" in problems(read_walk(text), code)


@pytest.mark.parametrize(
    "right, wrong, message",
    [
        pytest.param(HEADING, "## A way", "no section", id="without the section"),
        pytest.param("2 files, 9 lines", "Files", "does not say its size", id="without numbers"),
        pytest.param("1. [`door", "1. see [`door", "not written as", id="a line of another form"),
        pytest.param("](log.py)", "](door.py)", "links to another file", id="a link elsewhere"),
    ],
)
def test_a_section_of_another_form_is_refused(right: str, wrong: str, message: str) -> None:
    assert TRUE.count(right) == 1
    with pytest.raises(ValueError, match=message):
        read_walk(TRUE.replace(right, wrong))
