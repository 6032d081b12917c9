"""`claims size`: weights, KV cache and devices, against what publishers say and by hand."""

import json
import struct
from pathlib import Path

import pytest

from relume.base.errors import InvalidInput, InvalidManifest
from relume.cluster.claims.documents import Document
from relume.cluster.claims.sizing import wording as size_wording
from relume.cluster.claims.sizing.account import Sizing, splits
from relume.cluster.claims.sizing.architecture import Architecture, architecture
from relume.cluster.claims.sizing.kv_cache import kv_cache
from relume.cluster.claims.sizing.request import SizeRequest, flags, whole
from relume.cluster.claims.sizing.weights import count
from tests.cluster.claims.building import Json
from tests.cluster.claims.published_models import MODELS, Published, shape

named = pytest.mark.parametrize("model", [pytest.param(m, id=m.name) for m in MODELS])


def read(config: Json) -> Architecture:
    return architecture(Document(Path("config.json"), 0, config))


def published(name: str) -> Published:
    return next(model for model in MODELS if model.name == name)


def sized(tmp_path: Path, model: str | Json, **given: str) -> Sizing:
    config = published(model).config if isinstance(model, str) else model
    (tmp_path / "config.json").write_text(json.dumps(config))
    vendor = given.pop("vendor", "NVIDIA")
    class_name = given.pop("class_name", None)
    return SizeRequest(tmp_path / "config.json", given, vendor, class_name).size()


def write_safetensors(file: Path, tensors: dict[str, tuple[str, list[int]]]) -> None:
    header = {
        name: {"dtype": dtype, "shape": shape, "data_offsets": [0, 0]}
        for name, (dtype, shape) in tensors.items()
    }
    text = json.dumps({"__metadata__": {"format": "pt"}, **header}).encode()
    file.write_bytes(struct.pack("<Q", len(text)) + text)


@named
def test_the_weights_are_within_5_percent_of_the_published_bytes(
    model: Published, tmp_path: Path
) -> None:
    sizing = sized(tmp_path, model.name, context="4096", concurrency="1", vendor="AMD")
    assert sizing.weights.bytes == pytest.approx(model.weight_bytes, rel=0.05)


@named
def test_the_parameters_are_within_1_percent_of_the_model_card(model: Published) -> None:
    assert count(read(model.config)).total == pytest.approx(model.parameters, rel=0.01)


@named
def test_the_kv_cache_of_a_token_is_what_heads_and_layers_make_it(model: Published) -> None:
    cache = kv_cache(read(model.config), context=4096, batched=2048, dtype="bfloat16")
    assert cache.token_bytes == model.token_bytes
    assert cache.block_bytes == 16 * model.token_bytes


class TestKvCache:
    def test_a_sequence_takes_whole_blocks(self) -> None:
        model = read(published("Llama-3.1-8B").config)
        cache = kv_cache(model, context=4097, batched=2048, dtype="bfloat16")
        assert cache.sequence_bytes == 257 * 16 * 131072

    def test_eight_bits_take_half(self) -> None:
        model = read(published("Llama-3.1-8B").config)
        assert kv_cache(model, context=16, batched=16, dtype="fp8").token_bytes == 65536

    def test_devices_share_the_heads_and_copy_what_they_cannot_share(self) -> None:
        model = read(published("Qwen2.5-7B").config)
        per_device = [
            kv_cache(model, context=16, batched=16, dtype="bfloat16", tensor_parallel=n).token_bytes
            for n in (1, 2, 4, 7)
        ]
        assert per_device == [57344, 28672, 14336, 14336]

    def test_each_device_holds_the_whole_latent(self) -> None:
        model = read(published("DeepSeek-V3").config)
        per_device = {
            kv_cache(model, context=16, batched=16, dtype="bfloat16", tensor_parallel=n).token_bytes
            for n in (1, 8)
        }
        assert per_device == {70272}

    def test_a_window_bounds_what_a_sequence_keeps(self) -> None:
        """SlidingWindowSpec: window - 1 + batched tokens, in blocks, and one block more."""
        model = read(published("Mistral-7B-v0.1").config)
        cache = kv_cache(model, context=32768, batched=2048, dtype="bfloat16")
        assert cache.sliding_blocks == -(-(4095 + 2048) // 16) + 1
        assert cache.sequence_bytes == cache.sliding_blocks * 16 * 131072

    def test_every_second_layer_of_gemma_2_has_a_window(self) -> None:
        model = read(published("gemma-2-9b").config)
        assert (model.kinds.count("full"), model.kinds.count("sliding")) == (21, 21)

    def test_layer_types_say_it_layer_by_layer(self) -> None:
        kinds = ["sliding_attention"] * 5 + ["full_attention"]
        config = shape("gemma3_text", 64, 64, 6, (4, 2), 100, 4096, layer_types=kinds)
        model = read({**config, "sliding_window": 1024})
        assert model.kinds == ("sliding",) * 5 + ("full",)

    def test_linear_layers_keep_a_state_of_fixed_size(self) -> None:
        config = shape(
            *("qwen3_next", 64, 64, 4, (4, 2), 100, 4096),
            layer_types=["linear_attention"] * 3 + ["full_attention"],
            linear_num_key_heads=2,
            linear_num_value_heads=4,
            linear_key_head_dim=8,
            linear_value_head_dim=8,
            linear_conv_kernel_dim=4,
        )
        cache = kv_cache(read(config), context=4096, batched=2048, dtype="bfloat16")
        state = (3 * (2 * 16 + 32) + 4 * 8 * 8) * 2
        assert cache.state_bytes == 3 * state
        assert cache.full_layers == 1

    def test_an_encoder_keeps_none(self) -> None:
        config = shape("bert", 384, 1536, 6, (12, 12), 30522, 512, type_vocab_size=2)
        assert kv_cache(read(config), context=512, batched=512, dtype="float16").token_bytes == 0


class TestWeights:
    def test_the_headers_are_counted_where_there_are_files(self, tmp_path: Path) -> None:
        (tmp_path / "config.json").write_text(json.dumps(published("Llama-3.1-8B").config))
        write_safetensors(tmp_path / "model-1.safetensors", {"a": ("F32", [10, 10])})
        write_safetensors(
            tmp_path / "model-2.safetensors",
            {
                "b": ("BF16", [5]),
                "q": ("I32", [7]),
                "s": ("F8_E4M3", [3]),
                "model.layers.32.mtp": ("BF16", [1000]),
            },
        )
        assert SizeRequest(tmp_path).size().weights.bytes == 100 * 2 + 5 * 2 + 7 * 4 + 3

    def test_a_second_copy_of_tied_embeddings_is_not_loaded(self, tmp_path: Path) -> None:
        config = {**published("gemma-2-9b").config, "tie_word_embeddings": True}
        (tmp_path / "config.json").write_text(json.dumps(config))
        tensors = {name: ("BF16", [8]) for name in ("embed.weight", "lm_head.weight")}
        write_safetensors(tmp_path / "model.safetensors", tensors)
        assert SizeRequest(tmp_path).size().weights.bytes == 16

    def test_a_file_that_is_none_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "config.json").write_text(json.dumps(published("Llama-3.1-8B").config))
        (tmp_path / "model.safetensors").write_bytes(b"nonsense")
        with pytest.raises(InvalidInput, match=r"model\.safetensors: not a safetensors file"):
            SizeRequest(tmp_path).size()

    @pytest.mark.parametrize(
        ("section", "gigabytes"),
        [
            ({"quant_method": "awq", "bits": 4, "group_size": 128}, 5.7),
            ({"quant_method": "fp8"}, 9.1),
            (
                {
                    "quant_method": "compressed-tensors",
                    "config_groups": {"g": {"weights": {"num_bits": 8}}},
                },
                9.1,
            ),
        ],
    )
    def test_quantised_weights_of_llama_8b(
        self, section: Json, gigabytes: float, tmp_path: Path
    ) -> None:
        """The published AWQ files of Llama-3.1-8B hold 5.7 GB, the FP8 ones 9.1 GB."""
        config = {**published("Llama-3.1-8B").config, "quantization_config": section}
        found = sized(tmp_path, config, context="4096").weights.bytes
        assert found == pytest.approx(gigabytes * 1e9, rel=0.05)

    def test_quantising_while_loading_counts_the_same(self, tmp_path: Path) -> None:
        found = sized(tmp_path, "Llama-3.1-8B", context="4096", quantization="fp8")
        assert found.weights.bytes == pytest.approx(9.1e9, rel=0.05)


class TestDevices:
    def test_one_card_is_enough_for_a_small_model(self, tmp_path: Path) -> None:
        advised = sized(tmp_path, "Qwen2.5-7B", context="8192", concurrency="4").advised
        assert (advised.need.devices, advised.preset.name) == (1, "llm-gpu-24g")

    def test_a_large_one_is_split_over_usual_cards(self, tmp_path: Path) -> None:
        sizing = sized(tmp_path, "Llama-3.1-70B", context="8192", concurrency="8")
        advised = sizing.advised
        assert (advised.need.devices, advised.preset.name) == (4, "llm-gpu-48g")
        assert (1, "llm-gpu-180g") in [
            (option.need.devices, option.preset.name) for option in sizing.options
        ]

    def test_the_advised_devices_hold_what_is_needed(self, tmp_path: Path) -> None:
        for model in MODELS:
            if model.name == "DeepSeek-V3":
                continue
            for option in sized(tmp_path, model.name, context="4096").options:
                assert option.preset.floor is not None
                assert option.need.memory <= option.preset.floor << 20
                assert option.need.memory * option.need.utilization >= option.need.used

    def test_the_largest_cards_are_advised_where_usual_ones_are_not_enough(
        self, tmp_path: Path
    ) -> None:
        sizing = sized(tmp_path, "DeepSeek-V3", context="8192", concurrency="4")
        enough = {option.need.devices: option.preset.name for option in sizing.options}
        assert enough == {4: "llm-gpu-180g", 8: "llm-gpu-96g"}
        assert sizing.advised.need.devices == 4

    def test_other_vendors_have_classes_of_their_own(self, tmp_path: Path) -> None:
        advised = sized(tmp_path, "Llama-3.1-70B", context="4096", vendor="AMD").advised
        assert (advised.need.devices, advised.preset.name) == (1, "llm-amd-192g")

    def test_the_heads_must_divide(self, tmp_path: Path) -> None:
        model = read(published("Qwen2.5-7B").config)
        assert [n for n in range(1, 9) if splits(model, n)] == [1, 2, 4]
        with pytest.raises(InvalidInput, match="does not divide 28 attention heads"):
            sized(tmp_path, "Qwen2.5-7B", tensor_parallel="8")

    def test_what_no_class_can_hold_is_said(self, tmp_path: Path) -> None:
        with pytest.raises(InvalidInput, match="lower --context or --concurrency"):
            sized(tmp_path, "DeepSeek-V3", class_name="llm-gpu-24g")

    def test_more_context_than_the_model_has_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(InvalidInput, match="made for at most 8192 tokens"):
            sized(tmp_path, "gemma-2-9b", context="16384")

    def test_lora_adapters_are_counted(self, tmp_path: Path) -> None:
        sizing = sized(tmp_path, "Llama-3.1-8B", context="4096", loras="4", lora_rank="16")
        part = next(part for part in sizing.advised.need.parts if part.name == "LoRA")
        # q, k, v, o, gate, up, down of 32 layers: rank × (in + out), 2 bytes.
        each = 8192 + 2 * (4096 + 1024) + 8192 + 3 * (4096 + 14336)
        assert part.bytes == 4 * 16 * each * 32 * 2

    def test_the_claim_and_the_limits_ask_for_the_same(self, tmp_path: Path) -> None:
        advised = sized(tmp_path, "Llama-3.1-70B", context="8192").advised
        name, amount = size_wording.limits(advised)
        assert name == f"deviceclass.resource.kubernetes.io/{advised.preset.name}"
        template = json.dumps(size_wording.claim_template(advised))
        assert f'"count": {amount}' in template
        assert f'"deviceClassName": "{advised.preset.name}"' in template


class TestFlags:
    def test_vllms_arguments_are_read_in_both_forms(self) -> None:
        arguments = ["--max-model-len=4096", "--max_num_seqs", "32", "-tp", "2", "--seed", "1"]
        assert flags(arguments) == {
            "context": "4096",
            "concurrency": "32",
            "tensor_parallel": "2",
        }

    def test_enable_lora_means_one_adapter_of_rank_16(self) -> None:
        assert flags(["--enable-lora"]) == {"loras": "1", "lora_rank": "16"}

    @pytest.mark.parametrize(("text", "value"), [("8192", 8192), ("8k", 8000), ("8K", 8192)])
    def test_a_number_is_read_as_vllm_reads_it(self, text: str, value: int) -> None:
        assert whole(text, "context") == value

    @pytest.mark.parametrize("text", ["", "-1", "0", "1.5", "many"])
    def test_what_is_no_number_is_refused(self, text: str) -> None:
        with pytest.raises(InvalidInput, match="context"):
            whole(text, "context")


def test_a_config_without_a_size_is_refused_with_its_place(tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    file.write_text('{\n "model_type": "llama",\n "num_attention_heads": "many"\n}')
    with pytest.raises(InvalidManifest) as caught:
        SizeRequest(file).size()
    assert caught.value.field == "hidden_size"
    file.write_text('{\n "hidden_size": 64,\n "num_attention_heads": "many"\n}')
    with pytest.raises(InvalidManifest) as caught:
        SizeRequest(file).size()
    assert (caught.value.field, caught.value.line) == ("num_attention_heads", 3)


class TestShares:
    """A part of a device: what the model uses, and the share of vLLM that belongs to it."""

    def test_a_small_model_takes_a_part_of_a_device(self, tmp_path: Path) -> None:
        given = {"context": "4096", "concurrency": "4"}
        sizing = sized(tmp_path, "Qwen2.5-7B", **given)
        one = next(option for option in sizing.options if option.need.devices == 1)
        share = next(s for s in sizing.shares if s.preset.name == "llm-gpu-80g")
        assert share.mebibytes == -(-one.need.used // 2**20)
        floor = share.preset.floor or 0
        assert share.mebibytes <= share.utilization * floor < share.mebibytes + floor / 1000
        assert share.fit * share.utilization <= 0.98 < (share.fit + 1) * share.utilization

    def test_the_annotation_and_the_json_say_the_same(self, tmp_path: Path) -> None:
        sizing = sized(tmp_path, "Qwen2.5-7B", context="4096", concurrency="4")
        annotation = size_wording.share_annotation(sizing)
        said = size_wording.as_json(sizing)["shares"]
        assert isinstance(said, list)
        assert {one["memory"] for one in said} == {annotation.rpartition("=")[2]}
        assert len(size_wording.share_rows(sizing)) == len(said) > 0

    def test_a_model_that_fills_every_device_has_no_part_of_one(self, tmp_path: Path) -> None:
        sizing = sized(tmp_path, "Qwen2.5-7B", context="4096", class_name="llm-gpu-24g")
        assert sizing.shares == ()
