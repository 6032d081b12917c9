"""How much of each request's body is read ahead, so that all of them together stay bounded."""

import contextlib
from collections.abc import Iterator

ALL_BYTES = 256 * 2**20
LEAST_BYTES = 64 * 2**10


class ReadAhead:
    """Shares out `ALL_BYTES`: up to `each` for one request, and less when many are under way.

    A request keeps the share that it got when it came. The n-th gets ALL_BYTES / n, so 1,000 of
    them read 1 GiB ahead at most, and 10,000 of them 1.7 GiB, where `each` is 4 MiB.
    """

    def __init__(self, each: int) -> None:
        self._each = each
        self._under_way = 0

    @contextlib.contextmanager
    def share(self) -> Iterator[int]:
        """The bytes that one request may read ahead; it is under way while the block runs."""
        self._under_way += 1
        try:
            yield min(self._each, max(LEAST_BYTES, ALL_BYTES // self._under_way))
        finally:
            self._under_way -= 1
