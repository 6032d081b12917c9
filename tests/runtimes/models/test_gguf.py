"""A GGUF file becomes a folder that the Hugging Face and vLLM loaders read, or is refused."""

import json
from pathlib import Path

import numpy as np
import pytest

from relume.runtimes.models import Silent
from relume.runtimes.models.check import EXACT_SAMPLES, check_model
from relume.runtimes.models.errors import UnusableModel
from relume.runtimes.models.gguf import bfloat16, convert

from . import tiny_llama


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    tiny_llama.write_gguf(folder / "tiny.gguf")
    model = folder / "model"
    model.mkdir()
    convert(folder / "tiny.gguf", model, Silent())
    return model


def stored_weights(folder: Path) -> dict[str, np.ndarray]:
    """Read back with the safetensors package, so our writer is judged by another reader."""
    import torch
    from safetensors import safe_open

    with safe_open(folder / "model.safetensors", framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    assert {tensor.dtype for tensor in tensors.values()} == {torch.bfloat16}
    return {name: tensor.float().numpy() for name, tensor in tensors.items()}


def test_every_weight_comes_back_in_hugging_face_order(converted: Path) -> None:
    stored = stored_weights(converted)
    expected = tiny_llama.weights()
    assert stored.keys() == expected.keys()
    for name, values in expected.items():
        # Q8_0 keeps 1/127 of a block's largest value, bfloat16 8 bits of each.
        error = np.abs(stored[name] - values).max()
        assert error < np.abs(values).max() * (1 / 254 + 1 / 256), name


def test_rows_of_query_and_key_are_put_back_in_order_exactly(converted: Path) -> None:
    wrong = tiny_llama.interleave(
        tiny_llama.weights()["model.layers.0.self_attn.q_proj.weight"], tiny_llama.HEADS
    )
    stored = stored_weights(converted)["model.layers.0.self_attn.q_proj.weight"]
    assert np.abs(stored - wrong).max() > 0.5, "the test could not tell the two orders apart"


def test_bfloat16_is_rounded_to_nearest_even() -> None:
    import torch

    random = np.random.default_rng(1)
    bits = random.integers(0, 2**32, size=(64, 64), dtype=np.uint32)
    values = bits.view(np.float32)
    values = np.where(np.isfinite(values), values, np.float32(1.00390625))  # a tie
    bits = values.view(np.uint32)  # no finite value overflows 32 bits when rounded up
    nearest = ((bits + np.uint32(0x7FFF) + ((bits >> 16) & 1)) >> 16).astype(np.uint16)
    rounded = bfloat16("t", (64, 64), values)
    assert np.array_equal(rounded.view(torch.uint16).numpy(), nearest)


def test_a_value_that_is_not_finite_is_refused() -> None:
    with pytest.raises(ValueError, match="not finite"):
        bfloat16("t", (2,), np.array([1.0, np.inf], dtype=np.float32))


def test_a_tensor_of_another_shape_than_the_file_says_is_refused() -> None:
    with pytest.raises(ValueError, match=r"t has shape \(2,\), expected \(1, 2\)"):
        bfloat16("t", (1, 2), np.zeros(2, dtype=np.float32))


def test_the_config_says_what_the_metadata_says(converted: Path) -> None:
    config = json.loads((converted / "config.json").read_text())
    tokens, _ = tiny_llama.vocabulary()
    expected = {
        "model_type": "llama",
        "vocab_size": len(tokens),
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "max_position_embeddings": 128,
        "rms_norm_eps": 1e-05,
        "rope_theta": 100000.0,
        "tie_word_embeddings": True,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "torch_dtype": "bfloat16",
    }
    assert {key: config[key] for key in expected} == expected
    generation = json.loads((converted / "generation_config.json").read_text())
    assert generation["eos_token_id"] == 2


def test_the_tokenizer_splits_digits_keeps_special_tokens_and_merges(converted: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(converted)
    assert tokenizer.tokenize("1776") == ["1", "7", "7", "6"]
    assert tokenizer.tokenize("x the") == ["x", "Ġthe"]
    assert tokenizer.encode("<|im_start|>the<|im_end|>")[0] == 1
    assert tokenizer.decode([1, 2], skip_special_tokens=True) == ""
    assert (tokenizer.bos_token, tokenizer.eos_token) == ("<|im_start|>", "<|im_end|>")
    for text in EXACT_SAMPLES:
        assert tokenizer.decode(tokenizer.encode(text)) == text


def test_a_converted_folder_passes_its_check(converted: Path) -> None:
    check_model(converted)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"hidden_size": 32}, "expected"),
        ({"num_hidden_layers": 3}, "lack model.layers.2"),
        ({"num_hidden_layers": 1}, "has no model.layers.1"),
        ({"vocab_size": 10}, "expected"),
        ({"architectures": ["NoSuchModel"]}, "NoSuchModel"),
    ],
)
def test_a_folder_whose_config_does_not_fit_its_tensors_is_unusable(
    converted: Path, tmp_path: Path, change: dict[str, object], complaint: str
) -> None:
    for file in converted.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | change))
    with pytest.raises(UnusableModel, match=complaint):
        check_model(tmp_path)


def test_a_chat_template_that_drops_the_message_is_unusable(
    converted: Path, tmp_path: Path
) -> None:
    for file in converted.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    config = json.loads((tmp_path / "tokenizer_config.json").read_text())
    config["chat_template"] = "{{ 'hello' }}"
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    with pytest.raises(UnusableModel, match="drops the message"):
        check_model(tmp_path)


@pytest.mark.parametrize(
    ("how", "complaint"),
    [
        ({"architecture": "gemma3"}, "gemma3 model; only llama"),
        ({"splitter": "qwen2"}, "tokenizer gpt2 with qwen2 is not known"),
        ({"stray": "blk.0.attn_q.bias"}, "no Llama has a tensor blk.0.attn_q.bias"),
    ],
)
def test_what_is_not_a_plain_llama_is_refused_by_name(
    tmp_path: Path, how: dict[str, str], complaint: str
) -> None:
    tiny_llama.write_gguf(tmp_path / "odd.gguf", **how)
    with pytest.raises(UnusableModel, match=complaint) as refused:
        convert(tmp_path / "odd.gguf", tmp_path, Silent())
    assert "odd.gguf" in str(refused.value)


@pytest.mark.parametrize("content", [b"", b"GGUF", b"not a model at all", b"GGUF" + b"\xff" * 64])
def test_a_file_that_is_no_gguf_is_unusable(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "bad.gguf").write_bytes(content)
    with pytest.raises(UnusableModel, match=r"bad\.gguf"):
        convert(tmp_path / "bad.gguf", tmp_path, Silent())


def test_weights_that_cannot_be_written_are_an_error_of_the_disk(tmp_path: Path) -> None:
    tiny_llama.write_gguf(tmp_path / "tiny.gguf")
    model = tmp_path / "model"
    (model / "model.safetensors").mkdir(parents=True)
    with pytest.raises(OSError, match=r"model\.safetensors could not be written"):
        convert(tmp_path / "tiny.gguf", model, Silent())
