"""The site is built without a warning, needs nothing from elsewhere, and its links hold."""

import os
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MKDOCS = ROOT / "build" / "docs-venv" / "bin" / "mkdocs"
_ATTRIBUTE = re.compile(
    r'<(?:script|link|img|source|iframe)\b[^>]*?\b(?:src|srcset|href)="([^"]+)"'
)
_LINK = re.compile(r'<a\b[^>]*?\bhref="([^"#?]+)')


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    assert MKDOCS.exists(), "run: make docs"
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [MKDOCS, "build", "--strict", "--site-dir", folder],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    return folder


def test_every_document_is_a_page(site: Path) -> None:
    pages = {page.parent.relative_to(site).as_posix() for page in site.rglob("index.html")}
    assert {".", "events", "eventing/DELIVERY", "ARCHITECTURE", "functions"} <= pages


def test_nothing_is_loaded_from_elsewhere(site: Path) -> None:
    for page in site.rglob("*.html"):
        loaded = _ATTRIBUTE.findall(page.read_text(encoding="utf-8"))
        assert loaded
        assert not [each for each in loaded if re.match(r"(https?:)?//", each)], page


def test_every_link_of_the_site_holds(site: Path) -> None:
    for page in site.rglob("index.html"):
        for target in _LINK.findall(page.read_text(encoding="utf-8")):
            if not re.match(r"https?:|mailto:", target):
                assert (page.parent / target).resolve().exists(), (page, target)
