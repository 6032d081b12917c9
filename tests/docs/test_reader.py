"""The reader of the pages finds what is wrong: a check that cannot fail shows nothing."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.pages import ROOT, UnknownMark, blocks_of, read_blocks, steps, typed
from tests.docs.reader import Differs, Reader, matches

PAGE = """\
<!-- file: a.txt -->
```yaml
ports: [8080, 8081]
```

```console
$ cat a.txt
ports: [8080, 8081]
$ relume --version
relume ...
```

<!-- exits: 3 -->
```sh
exit 3
```

<!-- not run: needs a cluster -->
```sh
false
```

```python
from cloudevents.core.v1.event import CloudEvent
```
"""


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    reading = Reader(tmp_path)
    yield reading
    reading.close()


def read(reader: Reader, text: str) -> None:
    for block in read_blocks("page.md", text):
        reader.read(block)


def test_a_page_that_is_right_is_read_to_its_end(reader: Reader) -> None:
    read(reader, PAGE)
    assert "8080" not in (reader.folder / "a.txt").read_text(), "other ports than the default ones"


@pytest.mark.parametrize(
    ("right", "wrong", "says"),
    [
        ("$ cat a.txt\nports", "$ cat a.txt\nport", "the page shows"),
        ("8081]\n$", "8082]\n$", "the page shows"),
        ("relume ...", "relume", "the page shows"),
        ("relume --version", "relume --no-such-option", "exit"),
        ("exits: 3", "exits: 0", "exits with 3, not 0"),
        ("exit 3", "exit 4", "exits with 4, not 3"),
        ("not run: needs a cluster", "exits: 0", "exits with 1, not 0"),
        ("import CloudEvent", "import CloudEvents", "exits with 1, not 0"),
    ],
)
def test_a_page_that_is_wrong_is_told(reader: Reader, right: str, wrong: str, says: str) -> None:
    assert right in PAGE
    with pytest.raises(Differs, match=says):
        read(reader, PAGE.replace(right, wrong))


def test_a_page_of_the_documentation_that_is_changed_is_told(reader: Reader) -> None:
    text = (ROOT / "docs" / "gpu.md").read_text(encoding="utf-8")
    with pytest.raises(Differs, match="the page shows"):
        read(reader, text.replace("1 device of llm-gpu-16g", "1 device of llm-gpu-24g", 1))


@pytest.mark.parametrize("mark", ["stay", "runs not", "file = a"])
def test_a_mark_that_is_misspelled_is_told(mark: str) -> None:
    with pytest.raises(UnknownMark):
        list(read_blocks("page.md", f"<!-- {mark} -->\n```sh\ntrue\n```\n"))


def test_a_server_that_does_not_start_is_told(reader: Reader) -> None:
    with pytest.raises(Differs, match="does not start"):
        read(reader, "<!-- stays: port 9000 -->\n```sh\nexit 1\n```\n")


def test_what_a_page_starts_ends_with_it(reader: Reader) -> None:
    server = "python3 -m http.server --bind 127.0.0.1 9000"
    read(reader, f"<!-- stays: port 9000 -->\n```sh\n{server}\n```\n")
    read(reader, "```console\n$ curl -o a.html http://127.0.0.1:9000/\n```\n")
    reader.close()
    with pytest.raises(Differs):
        read(reader, "```console\n$ curl http://127.0.0.1:9000/\n```\n")


def test_dots_stand_for_anything_and_nothing_else_does() -> None:
    assert matches("a\n...\nz", "a\nb\nc\nz\n")
    assert matches("a\n...\nz", "a\nz\n")
    assert matches("took ... ms", "took 1,234 ms")
    assert not matches("a\n...\nz", "a\nb\n")
    assert not matches("took ... ms", "took 1,234 s")
    assert not matches("a", "a\nb")


def test_a_command_goes_on_in_the_next_line_and_its_output_follows() -> None:
    assert steps("$ a \\\n  b\nout\n$ c 'd\n> e'\n") == [("a \\\n  b", "out"), ("c 'd\ne'", "")]
    (block,) = read_blocks("page.md", "```sh\n# no command\na \\\n  b\n```\n")
    assert typed(block) == ["a    b"]


def test_blocks_know_where_they_are() -> None:
    assert [block.line for block in read_blocks("page.md", PAGE)] == [2, 6, 14, 19, 23]
    assert blocks_of(ROOT / "README.md")
