"""As much of Gherkin as the published feature files use: steps with texts and tables, outlines."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from textwrap import dedent

Row = tuple[str, ...]

_KEYWORDS = r"(?:Given|When|Then|And|But)"


@dataclass(frozen=True, slots=True)
class Step:
    """One sentence, with the text in triple quotes and the table that stand below it."""

    sentence: str
    text: str = ""
    table: tuple[Row, ...] = ()

    def filled(self, example: dict[str, str]) -> "Step":
        """The step with `<name>` replaced by the example's values."""

        def fill(text: str) -> str:
            return re.sub(r"<(\w+)>", lambda name: example.get(name[1], name[0]), text)

        table = tuple(tuple(fill(cell) for cell in row) for row in self.table)
        return Step(fill(self.sentence), fill(self.text), table)


@dataclass(frozen=True, slots=True)
class Scenario:
    """The steps of one scenario, or of one example of an outline; the background comes first."""

    name: str
    steps: tuple[Step, ...]


def scenarios(feature: str) -> Iterator[Scenario]:
    """Every scenario of a feature file, in order; outlines once per row of their examples."""
    blocks = re.split(r"^[ \t]*(Background|Scenario(?: Outline)?):", feature, flags=re.MULTILINE)
    background: tuple[Step, ...] = ()
    for kind, block in zip(blocks[1::2], blocks[2::2], strict=True):
        name, _, rest = block.partition("\n")
        body, _, examples = rest.partition("Examples:")
        steps = tuple(_steps(body))
        if kind == "Background":
            background = steps
            continue
        for example in _examples(examples) if kind == "Scenario Outline" else [{}]:
            title = Step(name.strip()).filled(example).sentence
            yield Scenario(title, tuple(step.filled(example) for step in (*background, *steps)))


def _steps(body: str) -> Iterator[Step]:
    for part in re.split(rf"^[ \t]*(?={_KEYWORDS} )", body, flags=re.MULTILINE)[1:]:
        sentence, _, below = part.partition("\n")
        step = Step(sentence.partition(" ")[2].strip())
        if text := re.search(r'^[ \t]*"""\n(.*?)^[ \t]*"""', below, re.MULTILINE | re.DOTALL):
            step = replace(step, text=dedent(text[1]))
        else:
            step = replace(step, table=_table(below))
        yield step


def _table(text: str) -> tuple[Row, ...]:
    lines = (line.strip() for line in text.splitlines())
    return tuple(
        tuple(cell.strip() for cell in line.strip("|").split("|"))
        for line in lines
        if line.startswith("|")
    )


def _examples(text: str) -> Iterator[dict[str, str]]:
    names, *rows = _table(text)
    for row in rows:
        yield dict(zip(names, row, strict=True))
