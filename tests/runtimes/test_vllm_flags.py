"""The table of vLLM's flags is that of the installed vLLM, and is read as its parser reads them."""

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from relume.config import vllm_flags
from relume.config.arguments import Argument
from relume.config.resources import Origin

ROOT = Path(__file__).parents[2]

TAKEN = (
    ["--max-model-len=2048", "--enforce-eager"],
    ["--max_model_len", "32k"],
    ["--max-model-len", "-1"],
    ["--max-model-l=1024"],
    ["--dtype", "half"],
    ["--hf-overrides", '{"a": 1}'],
    ["--hf-overrides.a", "1"],
    ["--no-enable-prefix-caching"],
    ["--lora-modules", "a=/x", "b=/y"],
    ["--kv-transfer-config", '{"kv_connector": "LMCacheConnectorV1", "kv_role": "kv_both"}'],
    ["-tp", "2"],
    ["-tp=2"],
    ["-O3"],
    ["-O=2"],
    ["-O", "1"],
    ["-cc.mode=3"],
    ["-qawq"],
    ["-q", "awq"],
    ["--gpu-memory-utilization", ".5"],
    ["--seed", "-7"],
    ["--disable-log-stats"],
    ["--default-chat-template-kwargs", "{}"],
    ["--runner=pooling", "--convert=embed"],
    ["--allowed-origins", '["*"]'],
    ['--pooler-config={"use_activation": false}'],
)
REFUSED = (
    ["--max-modl-len=2048"],
    ["--max-model-len"],
    ["--max-model-len=lots"],
    ["--max-model-len", "2048", "4096", "8192"],
    ["--enforce-eager=true"],
    ["--dtype=float8"],
    ["--seed", "x"],
    ["--gpu-memory-utilization", "half"],
    ["--runner", "embedding"],
    ["--task=embed"],
    ["--swap-space", "4"],
    ["--model_id=org/m"],
    ["--max=1"],
    ["-tp", "two"],
    ["-tp2"],
    ["-x"],
    ["--default-chat-template-kwargs", "{"],
    ["--seed", "--enforce-eager"],
)
SCRIPT = """
import contextlib, io, json, sys
sys.path.insert(0, sys.argv[1])
import flags
from relume.runtimes import internals
verdicts = []
for words in json.load(sys.stdin):
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            internals.flag_parser().parse_args(words)
        verdicts.append(True)
    except SystemExit:
        verdicts.append(False)
print(json.dumps({"text": flags.text(flags.table()), "verdicts": verdicts}))
"""


@dataclass
class Parser:
    """What vLLM's own parser says."""

    text: str
    verdicts: list[bool]


@pytest.fixture(scope="module")
def parser() -> Parser:
    """One process for all: importing vLLM takes half a minute."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(ROOT / "runtimes" / "vllm")],
        input=json.dumps([*TAKEN, *REFUSED]),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return Parser(**json.loads(done.stdout.splitlines()[-1]))


def said_of(words: list[str]) -> list[str]:
    origin = Origin(Path("m.yaml"), 1, "args")
    return [why for _, why in vllm_flags.refusals([Argument(w, w, origin) for w in words])]


def test_the_table_is_that_of_the_installed_release(parser: Parser) -> None:
    assert vllm_flags.installed_release() == vllm_flags.RELEASE
    file = Path(vllm_flags.__file__).parent / "data" / f"vllm-{vllm_flags.RELEASE}.json"
    assert file.read_text(encoding="utf-8") == parser.text, "run make flags"


def test_what_the_table_takes_and_refuses_the_parser_does(parser: Parser) -> None:
    for words, taken in zip((*TAKEN, *REFUSED), parser.verdicts, strict=True):
        assert taken == (words in TAKEN), words
        assert (said_of(words) == []) == taken, (words, said_of(words))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["--max-modl-len=1"],
            "vLLM 0.32.0 has no flag --max-modl-len; did you mean --max-model-len?",
        ),
        (["--max-model-len"], "--max-model-len needs a value: write --max-model-len=VALUE"),
        (["--enforce-eager=true"], "takes no value: write --enforce-eager, or --no-enforce-eager"),
        (["--dtype=flaot16"], "must be one of auto, bfloat16, float, float16, float32, half; "),
        (["--seed=x"], "--seed must be a whole number"),
        (["stray"], "stray belongs to no flag"),
        (["--enforce-eager", "true"], "true belongs to no flag: --enforce-eager takes no value"),
    ],
)
def test_a_refusal_says_what_to_write(words: list[str], message: str) -> None:
    (why,) = said_of(words)
    assert message in why


def test_another_release_that_is_installed_checks_its_own_flags(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for installed, judged in (("0.33.0", False), (vllm_flags.RELEASE, True), (None, True)):
        monkeypatch.setattr(vllm_flags, "installed_release", lambda found=installed: found)
        assert vllm_flags.judged() is judged
