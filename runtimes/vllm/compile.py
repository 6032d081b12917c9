"""Compile every Python file below a folder, for a file system that is read-only later.

    python compile.py FOLDER

By hash and unchecked: copying between image layers may change the files' times. What does not
compile is left (packages ship templates and tests of other Pythons), as pip does it.
"""

import compileall
import sys
from py_compile import PycInvalidationMode

if __name__ == "__main__":
    compileall.compile_dir(
        sys.argv[1],
        quiet=2,
        workers=0,
        invalidation_mode=PycInvalidationMode.UNCHECKED_HASH,
    )
