"""Asking a predictor how far it is."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import aiohttp
import orjson


@dataclass(frozen=True, slots=True)
class Startup:
    """What GET /startup said."""

    phase: str = ""
    phases_ms: Mapping[str, float] = field(default_factory=dict)


class Probe:
    """The two questions to one predictor; neither raises, a silence is a no."""

    def __init__(self, session: aiohttp.ClientSession, base_url: str, timeout_s: float) -> None:
        self._session = session
        self._base_url = base_url
        self._timeout = aiohttp.ClientTimeout(total=timeout_s)

    async def healthy(self) -> bool:
        """Return whether GET /health answers 200."""
        try:
            async with self._session.get(
                f"{self._base_url}/health", timeout=self._timeout
            ) as response:
                await response.read()
                return response.status == 200
        except (aiohttp.ClientError, OSError, TimeoutError):
            return False

    async def startup(self) -> Startup:
        """Return the answer of GET /startup, empty if there is none that can be read."""
        try:
            async with self._session.get(
                f"{self._base_url}/startup", timeout=self._timeout
            ) as response:
                answer = orjson.loads(await response.read())
        except (aiohttp.ClientError, OSError, TimeoutError, orjson.JSONDecodeError):
            return Startup()
        if not isinstance(answer, dict):
            return Startup()
        phases = answer.get("phases_ms")
        numbers = phases.items() if isinstance(phases, dict) else ()
        return Startup(
            phase=str(answer.get("phase", "")),
            phases_ms={k: float(v) for k, v in numbers if isinstance(v, int | float)},
        )
