"""What the pages of the documentation hold: fenced blocks, and how a comment marks them.

A comment directly above a block says what is to be done with it:

<!-- stays -->              the block runs until its page ends: `relume up`
<!-- stays: port 9000 -->   the same, for a server that is ready when it listens there
<!-- exits: 1 -->           the exit code of the last command of the block; without it 0
<!-- file: NAME -->         the block is saved under this name, and not run
<!-- fragment: KIND PATH -->  the YAML is the part of such a manifest at this path of fields
<!-- not run: WHY -->       the block cannot run here; its `relume` options are still checked
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
#: What a fence may say. `text` is for what is neither typed nor saved.
LANGUAGES = ("sh", "console", "python", "yaml", "json", "text")
_FENCE = re.compile(r"^(?P<indent> *)```(?P<language>\w*)[^`]*$")
_MARK = re.compile(r"^ *<!-- (?P<name>stays|exits|file|fragment|not run)(?:: (?P<value>.+?))? -->$")


class UnknownMark(Exception):
    """A block is marked in a way that no test knows."""


@dataclass(frozen=True)
class Block:
    """One fenced block; `line` is that of its fence, counted from 1."""

    page: str
    line: int
    language: str
    text: str
    mark: str = ""
    value: str = ""

    @property
    def place(self) -> str:
        return f"{self.page}:{self.line}"

    @property
    def is_run(self) -> bool:
        """Whether the block is typed into a shell or given to Python."""
        return self.language in ("sh", "console", "python") and self.mark not in ("file", "not run")

    @property
    def starts_a_plane(self) -> bool:
        return self.mark == "stays" and not self.value


def pages() -> list[Path]:
    """The README and the pages of docs/, which the tests run."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks_of(page: Path) -> list[Block]:
    name = page.relative_to(ROOT).as_posix() if page.is_relative_to(ROOT) else page.name
    return list(read_blocks(name, page.read_text(encoding="utf-8")))


def read_blocks(page: str, text: str) -> Iterator[Block]:
    """The fenced blocks of a page in order. Raises UnknownMark for a comment that is misspelled."""
    lines = text.splitlines()
    number = 0
    while number < len(lines):
        if not (fence := _FENCE.match(lines[number])):
            number += 1
            continue
        end = next(i for i in range(number + 1, len(lines)) if lines[i].strip() == "```")
        indent = len(fence["indent"])
        body = "\n".join(line[indent:] for line in lines[number + 1 : end])
        mark, value = _mark_above(page, lines, number)
        yield Block(page, number + 1, fence["language"], body, mark, value)
        number = end + 1


def _mark_above(page: str, lines: list[str], number: int) -> tuple[str, str]:
    above = lines[number - 1] if number else ""
    if not above.strip().startswith("<!--"):
        return "", ""
    if not (mark := _MARK.match(above)):
        raise UnknownMark(f"{page}:{number}: {above.strip()}")
    return mark["name"], mark["value"] or ""


def typed(block: Block) -> list[str]:
    """The commands of a block, each with the lines that continue it; comments are left out."""
    lines = block.text.splitlines()
    if block.language == "console":
        lines = [command for command, _ in steps(block.text)]
    whole = "\n".join(lines).replace("\\\n", " ")
    return [line for line in whole.splitlines() if line.strip() and not line.startswith("#")]


def steps(text: str) -> list[tuple[str, str]]:
    """The commands of a console block, behind `$ `, each with the output that the page shows."""
    found: list[tuple[str, list[str]]] = []
    for line in text.splitlines():
        if line.startswith("$ "):
            found.append((line[2:], []))
        elif not found:
            raise UnknownMark(f"a console block begins with a command behind `$ `: {line}")
        elif line.startswith("> ") or (found[-1][0].endswith("\\") and not found[-1][1]):
            command, output = found.pop()
            found.append((command + "\n" + line.removeprefix("> "), output))
        else:
            found[-1][1].append(line)
    return [(command, "\n".join(output)) for command, output in found]
