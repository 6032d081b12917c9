"""A short-lived folder for the Unix sockets of one plane: the template's, and vLLM's own.

vLLM leaves three socket files behind for each engine that ends. Here they go with the plane.
"""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

# A socket's path has room for 103 bytes on macOS and 107 on Linux; a name in the folder takes up
# to 37 (a slash and a UUID), the folder's own 17.
PARENT_BYTES = 45
VLLM_SOCKETS = "VLLM_RPC_BASE_PATH"


@contextlib.contextmanager
def socket_folder() -> Iterator[Path]:
    """The folder, which processes started from here find in `VLLM_RPC_BASE_PATH`.

    It is in the temporary folder, or in /tmp where that has a long name. A folder that the user
    chose for vLLM's sockets stays chosen.
    """
    short = len(os.fsencode(tempfile.gettempdir())) <= PARENT_BYTES
    with tempfile.TemporaryDirectory(
        prefix="relume-", dir=None if short else "/tmp", ignore_cleanup_errors=True
    ) as folder:
        chosen = os.environ.setdefault(VLLM_SOCKETS, folder)
        try:
            yield Path(folder)
        finally:
            if chosen == folder:
                del os.environ[VLLM_SOCKETS]
