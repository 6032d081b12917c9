"""Every link of the documentation leads somewhere: files, folders, and headings in them."""

import re
from collections import Counter
from pathlib import Path

import pytest

from docs import beside_code

ROOT = Path(__file__).parents[2]
_LINK = re.compile(r"\[(?:[^\[\]]|\[[^\[\]]*\])*\]\(([^)\s]+)\)")
_SOURCE = re.compile(r'\b(?:src|srcset)="([^"]+)"')


def documents() -> list[Path]:
    """The pages in docs/, and those that the site has beside them."""
    beside = (ROOT / path for path in beside_code.documents())
    return sorted([*beside, *(ROOT / "docs").rglob("*.md")])


def prose(path: Path) -> str:
    """The text without fenced blocks and code in a line."""
    text = re.sub(r"^ *```.*?^ *```$", "", path.read_text(encoding="utf-8"), flags=re.M | re.S)
    return re.sub(r"`[^`\n]*`", lambda code: re.sub(r"[\[\]()]", "", code[0]), text)


def anchors(path: Path) -> set[str]:
    """What GitHub, and the site in the same way, makes of the headings of a page."""
    found: Counter[str] = Counter()
    names: set[str] = set()
    for heading in re.findall(r"^#{1,6} +(.+?) *$", prose(path), flags=re.M):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        name = re.sub(r"[^\w\- ]", "", plain.lower()).replace(" ", "-")
        names.add(f"{name}-{found[name]}" if found[name] else name)
        found[name] += 1
    return names


def broken(path: Path, root: Path = ROOT) -> list[str]:
    """The links of a page that lead nowhere."""
    text = prose(path)
    wrong = []
    for target in (*_LINK.findall(text), *_SOURCE.findall(text)):
        if re.match(r"https://|mailto:", target):
            continue
        name, _, anchor = target.partition("#")
        to = (path.parent / name).resolve() if name else path
        if (
            not to.is_relative_to(root)
            or not to.exists()
            or (anchor and (to.suffix != ".md" or anchor not in anchors(to)))
        ):
            wrong.append(target)
    return wrong


@pytest.mark.parametrize("path", documents(), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_link_holds(path: Path) -> None:
    assert broken(path) == []


def test_the_documents_are_found() -> None:
    names = {path.relative_to(ROOT).as_posix() for path in documents()}
    assert {"README.md", "docs/events.md", "eventing/DELIVERY.md", "ARCHITECTURE.md"} <= names


def test_a_broken_link_is_found(tmp_path: Path) -> None:
    wrong = tmp_path / "page.md"
    wrong.write_text("[a](no-such-file.md) [b](#no-such-heading)\n\n# Here\n\n[c](#here)\n")
    assert broken(wrong, tmp_path) == ["no-such-file.md", "#no-such-heading"]
