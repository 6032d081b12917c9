"""cluster/LLM_D.md says what is so: its commands, its example and its tables."""

import re
import shlex
from pathlib import Path

import click
import pytest
import yaml

from relume.base.vocabulary import LLM_D_HEADERS
from relume.cli.main import group, run
from relume.config.llm_d import Endpoint, endpoints_file
from relume.eventing.delivery.llm_d import DROPS, MOST_FREE

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "cluster" / "LLM_D.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(\w*)\n(.*?)```", PAGE, re.DOTALL)
COMMANDS = [
    shlex.split(line)[1:]
    for language, block in BLOCKS
    if not language
    for line in block.splitlines()
    if line.startswith("relume ")
]


def table(first: str) -> list[list[str]]:
    """The rows of the table whose first heading is `first`."""
    after = PAGE.partition(f"\n| {first} |")[2].splitlines()[2:]
    rows = []
    for line in after:
        if not line.startswith("|"):
            break
        rows.append([cell.strip().strip("`") for cell in line.strip("|").split("|")])
    return rows


def resolved(context: click.Context, words: list[str]) -> click.Context:
    """The context of the command that `words` name, with its options read and nothing run."""
    command = context.command
    while isinstance(command, click.Group):
        name, found, words = command.resolve_command(context, words)
        assert found is not None
        within = isinstance(found, click.Group)
        arguments = [] if within else words
        context = found.make_context(name, arguments, context, resilient_parsing=within)
        command = found
    return context


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_every_command_is_one_that_relume_has(words: list[str]) -> None:
    context = resolved(click.Context(group, info_name="relume"), list(words))
    assert not context.args


def test_what_the_page_renders_is_rendered_and_passes_the_doctor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config").symlink_to(ROOT / "config")
    rendering = [words for words in COMMANDS if words[0] == "render" and "config" in words[1]]
    assert len(rendering) == 2
    for words in rendering:
        assert run(words) == 0
        assert run(["doctor", "out"]) == 0
        pools = list((tmp_path / "out" / "llm-d").rglob("*.yaml"))
        assert pools


def test_the_example_is_a_file_as_it_is_written() -> None:
    (example,) = (block for language, block in BLOCKS if block.startswith("endpoints:"))
    (entry,) = yaml.safe_load(example)["endpoints"]
    made = Endpoint(
        entry["namespace"], entry["name"], entry["address"], int(entry["port"]), entry["labels"]
    )
    assert yaml.safe_dump(endpoints_file([made]), sort_keys=False) == example


def test_the_extensions_are_those_that_are_told() -> None:
    assert dict(table("extension")) == dict(LLM_D_HEADERS)


def test_the_reasons_are_those_that_are_judged() -> None:
    told = {reason: follows for reason, _, follows in table("reason")}
    for reason, drop in DROPS.items():
        if drop.free_after_s is None:
            words = "comes again by its own policy of retries, and an attempt is spent"
        else:
            words = f"comes again after {drop.free_after_s:g} s, and no attempt is spent"
        assert told.pop(reason) == words
    assert told == {}
    assert f"After {MOST_FREE:,} attempts that were not spent" in PAGE
