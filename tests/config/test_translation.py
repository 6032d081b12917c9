"""The arguments of KServe's Hugging Face server become those of vLLM, or are listed, or refused."""

from pathlib import Path

import pytest

from relume.config import vllm_flags
from relume.config.arguments import Argument
from relume.config.loader import load_plan
from relume.config.resources import Origin
from relume.config.server_flags import (
    INSTEAD,
    OF_KSERVE,
    RETIRED,
    RETIRED_SWITCHES,
    SET_BY_RELUME,
    SWITCHES_OF_KSERVE,
    TASKS,
)

from .manifests import load_text, read_text, service


def with_args(*args: str) -> str:
    return service(model="args:\n" + "\n".join(f"- '{arg}'" for arg in args))


def line_of(text: str, arg: str) -> int:
    return next(n for n, line in enumerate(text.splitlines(), 1) if f"'{arg}'" in line)


def without_uri(*args: str) -> str:
    return with_args(*args).replace("      storageUri: hf://org/model\n", "")


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (["--model_name=qwen"], ["--served-model-name", "m", "qwen"]),
        (["--model_name", "qwen"], ["--served-model-name", "m", "qwen"]),
        (["--model-name=m"], []),
        (["--served-model-name", "a", "b"], ["--served-model-name", "m", "a", "b"]),
        (["--model_name=a", "--seed=1"], ["--served-model-name", "m", "a", "--seed=1"]),
        (["--model_dir=/mnt/models"], []),
        (["--max_length=128"], ["--max-model-len=128"]),
        (["--max_model_len", "128"], ["--max_model_len", "128"]),
        (["--trust_remote_code", "--dtype=half"], ["--trust_remote_code", "--dtype=half"]),
        (["--task=embed"], ["--runner=pooling", "--convert=embed"]),
        (["--task", "text_embedding"], ["--runner=pooling", "--convert=embed"]),
        (["--task=score"], ["--runner=pooling", "--convert=classify"]),
        (["--task=sequence_classification"], ["--runner=pooling", "--convert=classify"]),
        (["--task=token_classification"], ["--runner=pooling"]),
        (["--task=TEXT_GENERATION"], ["--runner=generate"]),
        (["--return_raw_logits"], ['--pooler-config={"use_activation": false}']),
        (["--backend=vllm"], []),
        (["--seed 7"], ["--seed", "7"]),
        (["--tokenizer=/mnt/models"], ["--tokenizer=/mnt/models"]),
    ],
)
def test_a_flag_is_put_into_vllm_s(tmp_path: Path, args: list[str], expected: list[str]) -> None:
    (found,) = load_text(tmp_path, with_args(*args)).services
    assert list(found.args) == expected


@pytest.mark.parametrize(
    ("arg", "why"),
    [
        ("--backend=huggingface", "--model-impl=transformers"),
        ("--http_port=8080", "Relume picks the address"),
        ("--grpc_port=9000", "only HTTP is served"),
        ("--enable_grpc=false", "only HTTP is served"),
        ("--workers=2", "maxReplicas makes more"),
        ("--max_threads=4", "maxReplicas makes more"),
        ("--enable_latency_logging=true", "VLLM_LOGGING_CONFIG_PATH"),
        ("--predictor_host=x", "it is for a transformer"),
        ("--enable_predictor_health_check", "it is for a transformer"),
        ("--return_probabilities", "/classify answers with probabilities"),
        ("--return_token_type_ids", "ask /tokenize"),
        ("--return_offsets_mapping", "ask /tokenize"),
        ("--disable_lower_case", "tokenizer settings decide"),
        ("--disable_special_tokens", '"add_special_tokens": false'),
        ("--tensor_input_names=input_ids", "feeds a model its inputs"),
        ("--disable_log_requests", "--enable-log-requests"),
        ("--speculative-model=a/b", "write --speculative-config"),
        ("--num-scheduler-steps=8", "vLLM has it no more"),
        ("--swap-space=4", "vLLM has it no more"),
        ("--hf-token=secret", "needs no token"),
    ],
)
def test_a_flag_that_changes_no_answer_is_listed_by_its_line(
    tmp_path: Path, arg: str, why: str
) -> None:
    text = with_args(arg, "--seed=1")
    plan = load_text(tmp_path, text)
    assert plan.services[0].args == ("--seed=1",)
    (note,) = plan.not_honoured
    assert (note.field, note.line) == ("spec.predictor.model.args[0]", line_of(text, arg))
    assert note.why.startswith(f"{arg.partition('=')[0]}: ")
    assert why in note.why
    assert "secret" not in note.why


@pytest.mark.parametrize(
    ("arg", "message"),
    [
        ("--task=fill_mask", "vLLM has no task fill_mask: known are auto, generate"),
        ("--task=embd", "did you mean embed?"),
        ("--backend=tensorrt", "--backend must be one of auto, vllm, huggingface"),
        ("--model_name", "--model_name needs a value"),
        ("--rope-theta=1", "vLLM has no flag --rope-theta: write --hf-overrides"),
        ("--max-modl-len=1", "did you mean --max-model-len?"),
        ("--max_model_len=long", "--max_model_len must be a whole number"),
        ("--model_dir=/elsewhere", "no model is at /elsewhere"),
        ("--grpc", "--grpc is set by Relume: only HTTP is served"),
        ("stray", "stray belongs to no flag"),
    ],
)
def test_a_flag_that_cannot_be_honoured_is_refused_by_its_line(
    tmp_path: Path, arg: str, message: str
) -> None:
    text = with_args("--seed=1", arg)
    (wrong,) = read_text(tmp_path, text).cannot_run
    assert wrong.origin.field == "spec.predictor.model.args[1]"
    assert wrong.origin.line == line_of(text, arg)
    assert message in wrong.why


@pytest.mark.parametrize(
    ("args", "uri", "folder"),
    [
        (["--model_id=a/b"], "hf://a/b", ""),
        (["--model_id", "a/b", "--model_revision=v2"], "hf://a/b:v2", ""),
        (["--model_id=a/b", "--revision=main"], "hf://a/b", ""),
        (["--model_dir=s3://bucket/x"], "s3://bucket/x", ""),
    ],
)
def test_arguments_alone_may_name_the_model(
    tmp_path: Path, args: list[str], uri: str, folder: str
) -> None:
    plan = load_text(tmp_path, without_uri(*args))
    (found,) = plan.services
    assert (found.storage_uri, found.folder, found.args) == (uri, folder, ())
    assert found.storage_uri_origin is not None
    assert found.storage_uri_origin.field.startswith("spec.predictor.model.args[")


def test_model_id_is_served_before_the_storage_uri_and_the_other_is_listed(tmp_path: Path) -> None:
    plan = load_text(tmp_path, with_args("--model_id=a/b"))
    assert plan.services[0].storage_uri == "hf://a/b"
    (note,) = plan.not_honoured
    assert (note.field, note.why) == (
        "spec.predictor.model.storageUri",
        "--model_id=a/b is served instead",
    )
    assert load_text(tmp_path, with_args("--model_id=org/model")).not_honoured == ()


def test_a_revision_belongs_to_a_hub_s_repository(tmp_path: Path) -> None:
    text = with_args("--model_revision=v2")
    assert load_text(tmp_path, text).services[0].storage_uri == "hf://org/model:v2"
    plan = load_text(tmp_path, text.replace("hf://org/model", "s3://b/m"))
    assert plan.services[0].storage_uri == "s3://b/m"
    assert "a revision chooses nothing" in plan.not_honoured[0].why


def test_a_folder_inside_the_model_s_files_may_be_served(tmp_path: Path) -> None:
    (found,) = load_text(tmp_path, with_args("--model_dir=/mnt/models/a/b")).services
    assert (found.storage_uri, found.folder) == ("hf://org/model", "a/b")


def test_a_predictor_of_kserve_s_older_form_is_read_as_a_model(tmp_path: Path) -> None:
    text = with_args("--model_name=x").replace("    model:", "    huggingface:")
    text = text.replace("      modelFormat: {name: vLLM}\n", "")
    (found,) = load_text(tmp_path, text).services
    assert (found.model_format, found.storage_uri) == ("huggingface", "hf://org/model")
    assert found.args == ("--served-model-name", "m", "x")


def test_a_container_is_refused_with_what_to_write_for_it(tmp_path: Path) -> None:
    start = service()[: service().index("    model:")]
    text = start + (
        "    containers:\n"
        "    - image: vllm/vllm-openai:latest\n"
        "      args: [--model, org/m, --max-model-len=10]\n"
    )
    file = tmp_path / "m.yaml"
    file.write_text(text, encoding="utf-8")
    (wrong,) = load_plan([file]).cannot_run
    assert "modelFormat: {name: vLLM}, storageUri: hf://org/m" in wrong.why
    assert "other flags in args" in wrong.why


def test_no_flag_of_today_s_vllm_is_taken_for_one_of_another_server() -> None:
    for flags in (OF_KSERVE, SWITCHES_OF_KSERVE, RETIRED, RETIRED_SWITCHES, INSTEAD):
        assert set(flags) & set(vllm_flags.flags()) <= {"--grpc-port"}, "of vLLM's gRPC server"
    for flag in (*SET_BY_RELUME, "--runner", "--convert", "--pooler-config", "--hf-overrides"):
        assert flag in vllm_flags.flags() or flag == "--model-tag"


def test_what_stands_for_a_task_is_what_vllm_takes() -> None:
    origin = Origin(Path("m.yaml"), 1, "args")
    for flags in TASKS.values():
        words = [Argument(flag, flag, origin) for flag in flags]
        assert list(vllm_flags.refusals(words)) == []


def test_a_word_that_holds_a_flag_and_its_value_is_read_and_listed(tmp_path: Path) -> None:
    plan = load_text(tmp_path, with_args("--seed 7"))
    assert plan.services[0].args == ("--seed", "7")
    assert "read as 2 words" in plan.not_honoured[0].why
