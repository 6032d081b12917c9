"""`claims size` against vLLM itself: bytes of the loaded weights, of a block, and of the cache.

vLLM runs in processes of its own, one model at a time. They are forks of one that has imported it.
"""

import json
import os
import subprocess
import sys

import pytest

from relume.cluster.claims.sizing.architecture import DTYPE_BYTES
from relume.cluster.claims.sizing.request import SizeRequest
from relume.runtimes.models.store import ModelStore, default_root

CACHE = 64 << 20  # bytes

MODELS = {
    "hf://HuggingFaceTB/SmolLM2-135M-Instruct": "generate",
    "hf://sentence-transformers/all-MiniLM-L6-v2": "pooling",
}

ASK = """
import json, os, sys, traceback
from vllm import LLM
from vllm.model_executor.model_loader import base_loader

# The CPU build packs the weights for its kernels and frees them: count them as they were loaded.
loaded = []
after_loading = base_loader.process_weights_after_loading

def count(model, *rest, **named):
    loaded.append(sum(p.numel() * p.element_size() for p in model.parameters()))
    return after_loading(model, *rest, **named)

def answer(path, runner):
    llm = LLM(
        model=path, runner=runner, enforce_eager=True, max_model_len=256, max_num_seqs=4,
        kv_cache_memory_bytes=cache,
    )
    engine = llm.llm_engine
    [specs] = llm.collective_rpc("get_kv_cache_spec")
    config = engine.vllm_config
    return {
        "weights": loaded[0],
        "dtype": str(config.model_config.dtype).removeprefix("torch."),
        "layers": len(specs),
        "pages": sum(spec.page_size_bytes for spec in specs.values()),
        "block": next((spec.block_size for spec in specs.values()), 0),
        "blocks": config.cache_config.num_gpu_blocks,
    }

base_loader.process_weights_after_loading = count
cache, *models = sys.argv[1:]
cache = int(cache)
for path, runner in zip(models[::2], models[1::2]):
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            print("ANSWER " + json.dumps(answer(path, runner)), flush=True)
            status = 0
        except BaseException:
            traceback.print_exc()
        os._exit(status)
    _, status = os.waitpid(pid, 0)
    if status:
        sys.exit(f"vLLM does not load {path}")
"""


@pytest.fixture(scope="module")
def answers() -> dict[str, dict[str, object]]:
    """What vLLM says of each of MODELS."""
    environment = {
        **os.environ,
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "VLLM_PLUGINS": "",
        "VLLM_NO_USAGE_STATS": "1",
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
    }
    store = ModelStore(default_root())
    asked = [word for uri, runner in MODELS.items() for word in (str(store.resolve(uri)), runner)]
    command = [sys.executable, "-c", ASK, str(CACHE), *asked]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=560)
    lines = [line for line in done.stdout.splitlines() if line.startswith("ANSWER ")]
    assert len(lines) == len(MODELS), done.stdout[-2000:] + done.stderr[-4000:]
    return dict(
        zip(MODELS, (json.loads(line.removeprefix("ANSWER ")) for line in lines), strict=True)
    )


@pytest.mark.model
@pytest.mark.timeout(600)
@pytest.mark.parametrize("uri", MODELS, ids=["smollm2", "minilm"])
def test_it_is_within_5_percent_of_what_vllm_reports(
    answers: dict[str, dict[str, object]], uri: str
) -> None:
    path = ModelStore(default_root()).resolve(uri)
    told = answers[uri]
    flags = {"dtype": str(told["dtype"]), "context": "256", "block": str(told["block"] or 16)}
    sizing = SizeRequest(path, flags).size()
    assert told["dtype"] in DTYPE_BYTES
    assert sizing.weights.bytes == pytest.approx(told["weights"], rel=0.05)
    cache = sizing.advised.need.cache
    assert cache.block_bytes == told["pages"]
    if told["layers"]:
        assert CACHE // cache.block_bytes == pytest.approx(told["blocks"], rel=0.05)
