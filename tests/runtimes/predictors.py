"""Real predictors of the demo model, for the tests that need vLLM."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from relume.runtimes.models.store import ModelStore, default_root
from relume.runtimes.spawn import Launcher, Process
from tests.ports import own_port

SMOLLM2 = "hf://HuggingFaceTB/SmolLM2-135M-Instruct"
NAME = "smollm2"
LIMITS = ["--max-model-len", "1024", "--kv-cache-memory-bytes", "67108864", "--max-num-seqs", "4"]


@dataclass
class Predictor:
    """A process that loads or serves the demo model, and a client for its port."""

    process: Process
    client: httpx.AsyncClient
    log: Path

    async def until_ready(self, within_s: float = 200) -> None:
        """Poll readiness; a predictor that dies meanwhile fails with its log."""
        async with asyncio.timeout(within_s):
            while True:
                try:
                    if (await self.client.get("/health")).status_code == 200:
                        return
                except httpx.TransportError:
                    pass
                await asyncio.sleep(0.05)

    async def chat(self, text: str, **more: object) -> httpx.Response:
        """One deterministic chat completion."""
        body = {"messages": [{"role": "user", "content": text}], "temperature": 0, **more}
        return await self.client.post("/v1/chat/completions", json=body)


@asynccontextmanager
async def predictor(
    launcher: Launcher, log: Path, *, env: dict[str, str] | None = None
) -> AsyncIterator[Predictor]:
    """Start a predictor; it is gone when the block ends."""
    port = own_port()
    model = ModelStore(default_root()).resolve(SMOLLM2)
    argv = ["--model", str(model), "--served-model-name", NAME, "--port", str(port), *LIMITS]
    process = await launcher.start(argv=argv, env=env or {}, log_path=log)
    url = f"http://127.0.0.1:{port}"
    try:
        async with httpx.AsyncClient(base_url=url, timeout=120) as client:
            yield Predictor(process, client, log)
    finally:
        process.kill()
        await process.wait()
