"""The tokenizer of a GGUF file as Hugging Face's tokenizer.json and tokenizer_config.json.

GGUF keeps the vocabulary, the merges and the name of the pre-tokenizer; the pre-tokenizer itself
lives in whoever reads the file. Known here: "smollm", byte-level BPE after each digit is split off.
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING

from relume.runtimes.models.errors import UnusableModel
from relume.runtimes.models.gguf_metadata import GgufFile

if TYPE_CHECKING:
    from tokenizers import Tokenizer

# gguf.TokenType: what a vocabulary entry is.
_CONTROL = 3
_USER_DEFINED = 4


def write_tokenizer(source: GgufFile, folder: Path, *, context: int) -> None:
    """Write both files; `context` is the longest input in tokens.

    Raises UnusableModel for a tokenizer other than byte-level BPE with the "smollm" splitter, a
    vocabulary that holds a token twice, or a merge whose parts or result are not in it.
    """
    tokens = source.texts("tokenizer.ggml.tokens")
    _tokenizer(source, tokens).save(str(folder / "tokenizer.json"))
    config: dict[str, object] = {
        # The class that loads tokenizer.json as it is, in transformers 4 and 5. A model's own class
        # (GPT2Tokenizer) may build the splitter itself, and without splitting digits.
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": context,
        "add_prefix_space": False,
        "clean_up_tokenization_spaces": False,
        "bos_token": tokens[source.integer("tokenizer.ggml.bos_token_id")],
        "eos_token": tokens[source.integer("tokenizer.ggml.eos_token_id")],
        "unk_token": tokens[source.integer("tokenizer.ggml.unknown_token_id")],
        "pad_token": tokens[source.integer("tokenizer.ggml.padding_token_id")],
    }
    if source.has("tokenizer.chat_template"):
        config["chat_template"] = source.text("tokenizer.chat_template")
    text = json.dumps(config, indent=2, ensure_ascii=False)
    (folder / "tokenizer_config.json").write_text(text + "\n", encoding="utf-8")


def _tokenizer(source: GgufFile, tokens: list[str]) -> "Tokenizer":
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    kind = (source.text("tokenizer.ggml.model"), source.text("tokenizer.ggml.pre"))
    if kind != ("gpt2", "smollm"):
        raise UnusableModel(f"{source.path.name}: tokenizer {kind[0]} with {kind[1]} is not known")
    vocabulary = {token: number for number, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=_merges(source, vocabulary)))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    # In the order of their ids: a token that is in the vocabulary keeps its id.
    for token, kind_of in zip(tokens, source.integers("tokenizer.ggml.token_type"), strict=True):
        if kind_of == _CONTROL:
            tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False)])
        elif kind_of == _USER_DEFINED:
            tokenizer.add_tokens([AddedToken(token, special=False, normalized=False)])
    return tokenizer


def _merges(source: GgufFile, vocabulary: dict[str, int]) -> list[tuple[str, str]]:
    if len(vocabulary) != len(source.texts("tokenizer.ggml.tokens")):
        raise UnusableModel(f"{source.path.name}: the vocabulary holds a token twice")
    merges: list[tuple[str, str]] = []
    for merge in source.texts("tokenizer.ggml.merges"):
        left, space, right = merge.partition(" ")
        if not space or not {left, right, left + right} <= vocabulary.keys():
            raise UnusableModel(f"{source.path.name}: merge {merge!r} is not of the vocabulary")
        merges.append((left, right))
    return merges
