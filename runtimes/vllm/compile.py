"""Compile Python files, for a file system that is read-only later.

    python compile.py [FOLDER…]

Without a folder: all that this interpreter imports from, its standard library too. Images of Python
come without its compiled files, to be smaller.

By hash and unchecked: copying between image layers may change the files' times. What does not
compile is left (packages ship templates and tests of other Pythons), as pip does it.
"""

import compileall
import sys
from collections.abc import Iterable
from pathlib import Path
from py_compile import PycInvalidationMode


def import_folders(path: Iterable[str]) -> list[Path]:
    """The folders of an import path, none inside another, without that of this script."""
    own = Path(__file__).resolve().parent
    found = {folder for folder in (Path(one).resolve() for one in path if one) if folder.is_dir()}
    found.discard(own)
    return sorted(one for one in found if found.isdisjoint(one.parents))


if __name__ == "__main__":
    for folder in sys.argv[1:] or import_folders(sys.path):
        compileall.compile_dir(
            folder,
            quiet=2,
            workers=0,
            invalidation_mode=PycInvalidationMode.UNCHECKED_HASH,
        )
