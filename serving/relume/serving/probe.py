"""What the plane asks a predictor: is it ready, and how far is it?"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import aiohttp
import orjson

from relume.base.vocabulary import PREDICTOR_PHASES
from relume.serving.hang import Work
from relume.serving.predictor import Predictor

# What is read of an answer; a container of the user's may say anything.
_ANSWER_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class Startup:
    """How far a start is."""

    phase: str = ""
    phases_ms: Mapping[str, float] = field(default_factory=dict)
    work: Work | None = None


class Probe:
    """The two questions to one predictor. Neither raises: no answer means no."""

    def __init__(
        self, session: aiohttp.ClientSession, predictor: Predictor, timeout_s: float
    ) -> None:
        self._session = session
        self._predictor = predictor
        self._timeout = aiohttp.ClientTimeout(total=timeout_s)

    async def healthy(self) -> bool:
        """Return whether the process can answer requests."""
        status, _ = await self._get(self._predictor.probes.ready)
        return status == 200

    async def startup(self) -> Startup:
        """Return what the launcher and the process itself tell; empty parts are not known.

        A launcher may measure up to this moment, so it is first asked when the process is ready.
        """
        told = await self.told()
        return replace(told, phases_ms={**self._predictor.phases_ms, **told.phases_ms})

    async def told(self) -> Startup:
        """Return what the process itself tells of its start."""
        path = self._predictor.probes.startup
        if path is None:
            return Startup()
        _, body = await self._get(path)
        try:
            answer = orjson.loads(body)
        except orjson.JSONDecodeError:
            return Startup()
        if not isinstance(answer, dict):
            return Startup()
        phases = answer.get("phases_ms")
        numbers = phases.items() if isinstance(phases, dict) else ()
        return Startup(
            phase=str(answer.get("phase", ""))[:100],
            phases_ms={
                k: float(v)
                for k, v in numbers
                if k in PREDICTOR_PHASES and isinstance(v, int | float)
            },
            work=_work(answer),
        )

    async def _get(self, path: str) -> tuple[int, bytes]:
        """Status and body; 0 and nothing where there is no answer."""
        try:
            url = f"{self._predictor.base_url}{path}"
            async with self._session.get(url, timeout=self._timeout) as response:
                body = b""
                while len(body) < _ANSWER_BYTES and (chunk := await response.content.readany()):
                    body += chunk
                return response.status, body
        except (aiohttp.ClientError, OSError, TimeoutError):
            return 0, b""


def _work(answer: Mapping[str, object]) -> Work | None:
    match answer:
        case {"steps": int(steps), "running": int(running)}:
            return Work(steps, running)
    return None
