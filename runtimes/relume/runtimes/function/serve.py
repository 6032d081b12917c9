"""func-python's server around one function; runs in the function's own environment.

    python -P serve.py PARENT_PY PARENT_PID http|cloudevent

It imports nothing of Relume, which is not installed there. PARENT_PY is the path of
`relume.base.parent`, which stands alone. The package `function` is found through PYTHONPATH. It
exports `new`, which makes an instance, or `handle` (func's docs/function-templates/python.md).
"""

import importlib
import logging
import runpy
import sys


def main(parent_py: str, parent_pid: str, invoke: str) -> None:
    """Serve until SIGTERM. Raises ImportError for a package that exports neither name."""
    runpy.run_path(parent_py)["die_with_parent"](int(parent_pid))
    logging.basicConfig(level=logging.INFO)
    # Both take a line for every request, or for every default that a function does not override.
    logging.getLogger("hypercorn.access").setLevel(logging.WARNING)
    function = importlib.import_module("function")
    handler = getattr(function, "new", None) or getattr(function, "handle", None)
    if handler is None:
        raise ImportError(f"{function.__file__} exports neither new nor handle")
    importlib.import_module(f"func_python.{invoke}").serve(handler)


if __name__ == "__main__":
    main(*sys.argv[1:])
