"""Every block of the pages that start a plane, in order, on the real model."""

from pathlib import Path

import pytest

from tests.docs.pages import ROOT, blocks_of, pages
from tests.docs.reader import Reader

pytestmark = [pytest.mark.model, pytest.mark.pages, pytest.mark.timeout(900)]
STARTING = [page for page in pages() if any(b.starts_a_plane for b in blocks_of(page))]


@pytest.mark.parametrize("page", STARTING, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_the_page_does_what_it_says(page: Path, tmp_path: Path) -> None:
    reader = Reader(tmp_path)
    try:
        for block in blocks_of(page):
            reader.read(block)
    finally:
        reader.close()
