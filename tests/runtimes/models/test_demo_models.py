"""The prepared demo models: whole, and with a tokenizer that agrees with an independent one."""

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import regex

from relume.runtimes.models.check import EXACT_SAMPLES, check_model
from relume.runtimes.models.store import ModelStore, default_root

pytestmark = pytest.mark.model

SMOLLM2 = "hf://HuggingFaceTB/SmolLM2-135M-Instruct"
MINILM = "hf://sentence-transformers/all-MiniLM-L6-v2"
# The two patterns by which llama.cpp splits text for the pre-tokenizer that it calls "smollm".
DIGIT = regex.compile(r"\p{N}")
WORDS = regex.compile(r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+")
SPECIAL = regex.compile(r"(<\|im_start\|>|<\|im_end\|>|<\|endoftext\|>)")


class SlowBpe:
    """Byte-level BPE as its paper has it: merge the best-ranked pair until none is left."""

    def __init__(self, tokenizer_json: Path) -> None:
        model = json.loads(tokenizer_json.read_text(encoding="utf-8"))["model"]
        self.ids: dict[str, int] = model["vocab"]
        self.ranks = {tuple(pair): rank for rank, pair in enumerate(model["merges"])}
        plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
        rest = [byte for byte in range(256) if byte not in plain]
        self.letters = {byte: chr(byte) for byte in plain}
        self.letters |= {byte: chr(256 + i) for i, byte in enumerate(rest)}

    def encode(self, text: str) -> list[int]:
        ids: list[int] = []
        for part in SPECIAL.split(text):
            if SPECIAL.fullmatch(part):
                ids.append(self.ids[part])
            else:
                ids += [i for word in self.words(part) for i in self.merge(word)]
        return ids

    def words(self, text: str) -> list[str]:
        pieces: list[str] = []
        start = 0
        for digit in DIGIT.finditer(text):
            pieces += [text[start : digit.start()], digit[0]]
            start = digit.end()
        return [word for piece in [*pieces, text[start:]] for word in WORDS.findall(piece)]

    def merge(self, word: str) -> list[int]:
        parts = [self.letters[byte] for byte in word.encode()]
        while len(parts) > 1:
            pairs = list(pairwise(parts))
            best = min(pairs, key=lambda pair: self.ranks.get(pair, 1 << 30))
            if best not in self.ranks:
                break
            at = pairs.index(best)
            parts[at : at + 2] = ["".join(best)]
        return [self.ids[part] for part in parts]


@pytest.fixture(scope="module")
def smollm2() -> Path:
    return ModelStore(default_root()).resolve(SMOLLM2)


@pytest.fixture(scope="module")
def tokenizer(smollm2: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(smollm2)


@pytest.fixture(scope="module")
def slow_bpe(smollm2: Path) -> SlowBpe:
    return SlowBpe(smollm2 / "tokenizer.json")


@pytest.mark.parametrize(
    "text",
    [
        *EXACT_SAMPLES,
        "In 1969, 3 people flew 384400 km; ３ and ½ are numbers too.",
        "<|im_start|>user\nWhat is 12*13?<|im_end|>\n<|im_start|>assistant\n",
        "don't  we'll I'M THEY'RE 'tis",
        "x" * 200 + " " * 30 + "\n\n\n\t\t" + "!?" * 20,
    ],
)
def test_the_tokenizer_of_smollm2_agrees_with_an_independent_bpe(
    tokenizer: Any, slow_bpe: SlowBpe, text: str
) -> None:
    assert tokenizer.encode(text) == slow_bpe.encode(text)


def test_the_vocabulary_of_smollm2_fills_the_embedding_exactly(smollm2: Path) -> None:
    config = json.loads((smollm2 / "config.json").read_text())
    model = json.loads((smollm2 / "tokenizer.json").read_text(encoding="utf-8"))["model"]
    assert sorted(model["vocab"].values()) == list(range(config["vocab_size"]))
    assert config["vocab_size"] == 49152
    assert (config["rope_theta"], config["tie_word_embeddings"]) == (100000.0, True)


def test_a_chat_is_rendered_as_the_model_was_taught(tokenizer: Any) -> None:
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]
    assert tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True) == (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n"
        "<|im_start|>assistant\n"
    )


@pytest.mark.parametrize("uri", [SMOLLM2, MINILM])
def test_a_demo_model_in_the_store_passes_its_check(uri: str) -> None:
    check_model(ModelStore(default_root()).resolve(uri))
