"""Check a model folder as a predictor will read it, before a request waits for it."""

from pathlib import Path
from typing import TYPE_CHECKING

from relume.runtimes.models.errors import UnusableModel

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedTokenizerBase

# Text that a byte-level tokenizer gives back unchanged: digits, runs of spaces, line ends, scripts,
# a character outside the basic plane, a combining mark, a control character.
EXACT_SAMPLES = (
    "The capital of France is Paris.",
    "  two  spaces,\ttab\n\nand lines\r\n",
    "2026-11-23 costs 1,234.50 € (½)",
    "def f(x):\n    return x ** 2  # it's fine, we'll see",
    "naïve café — 日本語 한국어 العربية עברית हिन्दी",
    "🦙🧑‍🚀 e\u0301 \x00\x7f \ufeff",
    "<|not a token|>",
)
# Uncased models read everything in lower case, so only such text comes back unchanged.
PLAIN_SAMPLE = "the cat sat on the mat near 42 trees"


def check_model(folder: Path) -> None:
    """Load config and tokenizer with transformers and compare every tensor with the architecture.

    Raises UnusableModel with what does not fit. Loads no weights into memory.
    """
    from transformers import AutoConfig, AutoTokenizer

    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True)
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, KeyError) as error:
        raise UnusableModel(f"{folder.name}: {error}") from error
    _check_tensors(folder, config)
    _check_tokenizer(folder, tokenizer, config)
    if tokenizer.chat_template:
        _check_chat_template(folder, tokenizer)


def _check_tensors(folder: Path, config: "PretrainedConfig") -> None:
    """Names and shapes in model.safetensors are those of the architecture in config.json."""
    from safetensors import safe_open

    with safe_open(folder / "model.safetensors", framework="numpy") as weights:
        held = {name: tuple(weights.get_slice(name).get_shape()) for name in weights.keys()}  # noqa: SIM118 - not a dict
    expected = _architecture(folder, config)
    for name, shape in expected.items():
        if name not in held:
            raise UnusableModel(f"{folder.name}: the weights lack {name}")
        if held[name] != shape:
            raise UnusableModel(f"{folder.name}: {name} is {held[name]}, expected {shape}")
    # Old checkpoints also keep position ids, which are a constant and no weight.
    strange = {name for name in held if not name.endswith("position_ids")} - expected.keys()
    if strange:
        raise UnusableModel(f"{folder.name}: the architecture has no {min(strange)}")


def _architecture(folder: Path, config: "PretrainedConfig") -> dict[str, tuple[int, ...]]:
    """The tensors of the architecture by name, tied ones once, built without memory for them."""
    import torch
    import transformers

    names = config.architectures or ["?"]
    model_class = getattr(transformers, names[0], None)
    if model_class is None:
        raise UnusableModel(f"{folder.name}: config.json names the architecture {names[0]}")
    with torch.device("meta"):
        model = model_class(config)
    tied = {"lm_head.weight"} if config.tie_word_embeddings else set()
    return {n: tuple(t.shape) for n, t in model.state_dict().items() if n not in tied}


def _check_tokenizer(
    folder: Path, tokenizer: "PreTrainedTokenizerBase", config: "PretrainedConfig"
) -> None:
    if len(tokenizer) > config.vocab_size:
        raise UnusableModel(
            f"{folder.name}: {len(tokenizer)} tokens for {config.vocab_size} embeddings"
        )
    generates = any("CausalLM" in name for name in config.architectures or ())
    for text in EXACT_SAMPLES if generates else (PLAIN_SAMPLE,):
        ids = tokenizer.encode(text, add_special_tokens=False)
        back = tokenizer.decode(ids, clean_up_tokenization_spaces=False)
        if back != text:
            raise UnusableModel(f"{folder.name}: the tokenizer turns {text!r} into {back!r}")


def _check_chat_template(folder: Path, tokenizer: "PreTrainedTokenizerBase") -> None:
    """A rendered chat holds what was said, and each special token in it is one token."""
    said = "What is 2 + 2?"
    messages = [{"role": "user", "content": said}]
    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    if not isinstance(text, str) or said not in text:
        raise UnusableModel(f"{folder.name}: the chat template drops the message")
    ids = tokenizer.encode(text, add_special_tokens=False)
    for token in tokenizer.all_special_tokens:
        if text.count(token) != ids.count(tokenizer.convert_tokens_to_ids(token)):
            raise UnusableModel(f"{folder.name}: {token} in a chat is not read as one token")
