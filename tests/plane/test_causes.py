"""What is said of a predictor that ended, by the end of its log."""

from pathlib import Path

import pytest

from relume.plane.causes import cause_of

ENGINE = "(EngineCore pid=7) ERROR 11-29 08:29:09 [core.py:1510] "
WAITED = "RuntimeError: Engine core initialization failed. See root cause above.\n"
REFUSED = (
    "pydantic_core._pydantic_core.ValidationError: 1 validation error for ModelConfig\n"
    "  Value error, {} [type=value_error, input_value=ArgsKwargs(()), input_type=ArgsKwargs]\n"
    "    For further information visit https://errors.pydantic.dev/2.14/v/value_error\n"
)
DAMAGED = "a file in its folder is damaged or not complete"


@pytest.mark.parametrize(
    ("log", "parts"),
    [
        (
            f"{ENGINE}safetensors._rust.SafetensorError: incomplete metadata\n{WAITED}",
            (DAMAGED, "SafetensorError: incomplete metadata"),
        ),
        (
            '  File "utils.py", line 113, in parse_safetensors_file_metadata\n'
            "OverflowError: cannot fit 'int' into an index-sized integer\n",
            (DAMAGED, "OverflowError: cannot fit"),
        ),
        (
            "ValueError: Couldn't instantiate the backend tokenizer from one of:\n(1) a file\n"
            "(EngineCore pid=7) INFO 11-29 08:29:10 [parallel_state.py:1906] world_size=1\n",
            ("no tokenizer in its folder", "ValueError: Couldn't instantiate"),
        ),
        (
            REFUSED.format("Invalid repository ID or local directory specified: '/m'."),
            ("the folder of the model has no config.json", "specified: '/m'."),
        ),
        (
            REFUSED.format("Cannot find the config file for awq"),
            ("vLLM refuses what its arguments ask for: Value error: Cannot find the config file",),
        ),
        (
            "vllm.v1.engine.exceptions.EngineDeadError: EngineCore encountered an issue.\n",
            ("the process of its engine ended in the middle of its work",),
        ),
        (
            WAITED.replace(".\n", ". Failed core proc(s): {'EngineCore': -9}\n"),
            ("the process of its engine ended in the middle of its work",),
        ),
        (
            "RuntimeError: EngineCore died while it loaded the model\n",
            ("the process of its engine ended in the middle of its work", "while it loaded"),
        ),
        ("KeyError: 'x'\nOSError: no such device\n", ("OSError: no such device",)),
    ],
)
def test_the_cause_is_said_in_plain_words_with_the_error(
    tmp_path: Path, log: str, parts: tuple[str, ...]
) -> None:
    file = tmp_path / "it.log"
    file.write_text(log)
    said = cause_of(1, file)
    assert said is not None
    assert all(part in said for part in parts), said
    assert "input_value" not in said
    assert "initialization failed" not in said


def test_a_log_without_an_error_says_nothing(tmp_path: Path) -> None:
    file = tmp_path / "it.log"
    file.write_text("INFO all is well\n")
    assert cause_of(1, file) is None
    assert cause_of(1, tmp_path / "none.log") is None


def test_vllm_exits_with_0_when_its_engine_is_gone(tmp_path: Path) -> None:
    file = tmp_path / "it.log"
    file.write_text("ValueError: one request was wrong\n")
    assert cause_of(0, file) is None
    file.write_text("vllm.v1.engine.exceptions.EngineDeadError: EngineCore encountered an issue.\n")
    assert cause_of(0, file) == "the process of its engine ended in the middle of its work"
