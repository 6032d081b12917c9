"""`relume gateway` in a world of its own, where the test says what names mean and what is public.

    python own_world_gateway.py NAMES PUBLIC [the arguments of `relume gateway`]

NAMES is a JSON object of addresses by name, which stands for DNS. PUBLIC is an address of loopback
that counts as a public one; all others are judged as always. References may be fetched by http.
"""

import json
import socket
import sys
from collections.abc import Mapping, Sequence
from functools import partial

from aiohttp.abc import AbstractResolver, ResolveResult

from relume.cli.main import main
from relume.eventing.jobs.dataref import DatarefRules, Datarefs
from relume.eventing.jobs.public_address import why_refused
from relume.plane import gateway


class Names(AbstractResolver):
    """DNS by a table."""

    def __init__(self, addresses: Mapping[str, Sequence[str]]) -> None:
        self._addresses = addresses

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        return [
            ResolveResult(
                hostname=host,
                host=each,
                port=port,
                family=socket.AF_INET6 if ":" in each else socket.AF_INET,
                proto=0,
                flags=socket.AI_NUMERICHOST,
            )
            for each in self._addresses[host]
        ]

    async def close(self) -> None:
        """There is nothing to close."""


if __name__ == "__main__":
    names, public = json.loads(sys.argv[1]), sys.argv[2]

    def check(address: str) -> str | None:
        return None if address == public else why_refused(address)

    vars(gateway).update(
        Datarefs=partial(Datarefs, resolver=Names(names), check=check),
        DatarefRules=partial(DatarefRules, schemes=frozenset({"http"})),
    )
    sys.argv[1:3] = []
    main()
