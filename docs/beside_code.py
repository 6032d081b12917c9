"""What the site has beside docs/: the documents that stand with the code, under their own paths.

mkdocs calls `on_files` and `on_page_markdown`. Links are written for the repository, where a reader
follows them from file to file. On the site a link to another page leads to that page, and one to
anything else of the repository becomes its text, because the site has no source files.
"""

import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mkdocs.structure.files import Files

ROOT = Path(__file__).parents[1]
#: Folders whose Markdown files are about the code beside them.
BESIDE_CODE = (
    "cli",
    "eventing",
    "serving",
    "runtimes",
    "cluster",
    "functions",
    "config",
    "loadtests",
)
_LINK = re.compile(r"(?P<image>!?)\[(?P<text>(?:[^\[\]]|\[[^\[\]]*\])*)\]\((?P<target>[^)\s]+)\)")
_SOURCE = re.compile(r'(?P<name>\b(?:src|srcset))="(?P<target>[^"]+)"')
_PICTURE = re.compile(r"<picture>.*?</picture>\n", re.DOTALL)
_FENCE = re.compile(r"^ *```")
_README = "index.md"


def documents() -> Iterator[str]:
    """The paths in the repository of all pages that are not in docs/."""
    yield from sorted(path.name for path in ROOT.glob("*.md"))
    for folder in BESIDE_CODE:
        found = sorted((ROOT / folder).rglob("*.md"))
        paths = (path.relative_to(ROOT).as_posix() for path in found)
        # An environment that stands in a folder has documents of others.
        yield from (path for path in paths if "/." not in path)


def place(path: str) -> str:
    """Where a file of the repository is on the site."""
    return _README if path == "README.md" else path.removeprefix("docs/")


def on_files(files: "Files", config: Any) -> "Files":
    """Add the documents that are not in docs/."""
    from mkdocs.structure.files import File  # documents() is also read where mkdocs is not

    for path in documents():
        text = (ROOT / path).read_text(encoding="utf-8")
        files.append(File.generated(config, place(path), content=text))
    return files


def on_page_markdown(markdown: str, page: Any, files: "Files", **_: Any) -> str:
    """The text of a page with the links that it has on the site."""
    here = page.file.src_uri
    within = next((path for path in documents() if place(path) == here), f"docs/{here}")

    def link(found: re.Match[str]) -> str:
        target, _, anchor = found["target"].partition("#")
        if not target or "://" in target or target.startswith("mailto:"):
            return found[0]
        path = posixpath.normpath(posixpath.join(posixpath.dirname(within), target))
        if files.get_file_from_path(place(path)) is None:
            return found["text"]
        new = posixpath.relpath(place(path), posixpath.dirname(here) or ".")
        return f"{found['image']}[{found['text']}]({new}{'#' if anchor else ''}{anchor})"

    def source(found: re.Match[str]) -> str:
        return f'{found["name"]}="{place(found["target"])}"'

    def picture(found: re.Match[str]) -> str:
        """A picture whose files are not there yet is left out."""
        targets = [each["target"] for each in _SOURCE.finditer(found[0])]
        there = all((ROOT / posixpath.dirname(within) / each).exists() for each in targets)
        return _SOURCE.sub(source, found[0]) if there else ""

    markdown = _PICTURE.sub(picture, markdown)
    return "\n".join(_LINK.sub(link, text) if prose else text for prose, text in _lines(markdown))


def _lines(markdown: str) -> Iterator[tuple[bool, str]]:
    """Each line, and whether it is prose and not in a fenced block."""
    fenced = False
    for line in markdown.split("\n"):
        is_fence = bool(_FENCE.match(line))
        yield not (fenced or is_fence), line
        fenced ^= is_fence
