"""What the pages do not run: how much, why, and that it could at least be typed."""

import re
from collections import Counter
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from relume.cli.machine.up import command as up
from relume.cluster.doctor import examine
from tests.docs.command_line import commands, refused, whole
from tests.docs.pages import LANGUAGES, ROOT, Block, blocks_of, pages, typed
from tests.docs.test_links import documents

BLOCKS = [block for page in pages() for block in blocks_of(page)]
#: How many blocks of a page cannot run here. A further one needs a reason that holds.
NOT_RUN = {
    "README.md": 1,
    "docs/cluster.md": 2,
    "docs/gpu.md": 1,
    "docs/jobs.md": 1,
    "docs/operations.md": 1,
}
#: Why a block cannot run here.
REASONS = ("needs a ", "needs the ", "tests/e2e/")
#: What a fragment of YAML is put into, by the kind that its mark names.
AROUND = {"Trigger spec": "config/samples/summarize.yaml"}
#: Files of a page that `relume up` refuses, as the page says.
REFUSED = {"wrong.yaml"}


def place(block: Block) -> str:
    return block.place


def test_few_blocks_are_not_run_and_each_says_why() -> None:
    left = [block for block in BLOCKS if block.mark == "not run"]
    assert Counter(block.page for block in left) == NOT_RUN
    for block in left:
        assert block.value.startswith(REASONS), block.place


def test_most_blocks_are_run() -> None:
    assert sum(block.is_run for block in BLOCKS) > 6 * sum(NOT_RUN.values())


@pytest.mark.parametrize("block", BLOCKS, ids=place)
def test_the_block_says_what_it_is(block: Block) -> None:
    assert block.language in LANGUAGES, "a block names its language"
    if block.language in ("text", "json"):
        assert not re.search(r"^\$? ?(relume|curl|make|kubectl|pip) ", block.text, re.M)
    if block.language == "yaml":
        assert block.mark in ("file", "fragment"), "YAML has a file name, or says what it is of"
    if block.starts_a_plane:
        assert re.fullmatch(r"(\.venv/bin/)?relume up [^\n]+", block.text), "one command, alone"


@pytest.mark.parametrize("block", [b for b in BLOCKS if b.language in ("sh", "console")], ids=place)
def test_every_command_of_relume_could_be_typed(block: Block) -> None:
    for line in whole([each.partition("    #")[0] for each in typed(block)]):
        for words in commands(line):
            assert refused(words) is None, line


@pytest.mark.parametrize("page", documents(), ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_command_in_a_line_could_be_typed(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for code in re.findall(r"(?<!`)`(relume [a-z][^`\n]*)`(?!`)", text):
        for words in commands(code):
            # A sentence may name an option without its value.
            assert refused(words) is None or refused([*words, "VALUE"]) is None, code


def test_every_target_of_make_is_there() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.M))
    for page in pages():
        text = page.read_text(encoding="utf-8")
        assert set(re.findall(r"(?:^|`)make ([a-z-]+)", text, re.M)) <= {*targets, "stops"}, page


@pytest.mark.parametrize("block", [b for b in BLOCKS if b.language == "yaml"], ids=place)
def test_every_manifest_is_one(block: Block, tmp_path: Path) -> None:
    if block.mark == "fragment":
        text = (ROOT / AROUND[block.value]).read_text(encoding="utf-8")
        documents = list(yaml.safe_load_all(text))
        kind, field = block.value.split()
        (whole,) = [document for document in documents if document["kind"] == kind]
        whole[field] |= yaml.safe_load(block.text)
        block_text = yaml.safe_dump_all(documents)
    else:
        block_text = block.text
    file = tmp_path / "block.yaml"
    file.write_text(block_text, encoding="utf-8")
    done = CliRunner().invoke(up, ["--check", str(file)], standalone_mode=False)
    if block.value in REFUSED:
        assert done.exception is not None
        return
    assert done.exception is None, done.output
    assert {found.verdict for found in examine([file])} == {"accepted"}


def test_the_example_of_a_hook_is_python() -> None:
    for example in (ROOT / "docs" / "examples").glob("*.py"):
        compile(example.read_text(encoding="utf-8"), str(example), "exec")


def test_a_command_that_cannot_be_typed_is_found() -> None:
    assert refused(["up", "a.yaml", "--no-such-option"]) is not None
    assert refused(["no-such-command"]) is not None
    assert refused(["dlq", "no-such-command"]) is not None
    assert refused(["up", "a.yaml", "--fsync", "sometimes"]) is not None
    assert refused(["up", "a.yaml", "--fsync", "always"]) is None
    assert [*commands("A=1 relume up x | relume status; echo relume > relume")] == [
        ["up", "x"],
        ["status"],
    ]
