"""What the benchmarks compute from their samples and read from a stream."""

import pytest
from client import completion_tokens, has_token
from figures import Figure, chart
from processes import MeasurementFailed
from servers import environment
from throughput import STREAMS, Pair, Sample, prompts, ratio_of


def chunk(content: str) -> bytes:
    return b'data: {"choices":[{"delta":{"content":"%s"}}]}\n\n' % content.encode()


def test_the_ratio_is_how_many_times_sooner_our_median_is() -> None:
    figure = Figure("event", "s", (2.0, 9.0, 1.0), baseline=(20.0, 24.0, 99.0), at_least=8)
    assert figure.ratio == 12
    assert figure.holds is True


@pytest.mark.parametrize(("median", "holds"), [(249.9, True), (250.0, False)])
def test_a_bound_from_above_holds_only_below_it(median: float, holds: bool) -> None:
    figure = Figure("at zero", "MB", (median,), below=250)
    assert figure.ratio is None
    assert figure.holds is holds


def test_a_figure_without_a_target_has_no_verdict() -> None:
    assert Figure("ready", "MB", (1.0,)).holds is None


def test_what_is_measured_keeps_its_bytecode_whatever_this_environment_says(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    monkeypatch.setenv("OF_THE_USER", "2")
    found = environment()
    assert "PYTHONDONTWRITEBYTECODE" not in found
    assert (found["OF_THE_USER"], found["HF_HUB_OFFLINE"]) == ("2", "1")


def test_bars_are_as_long_as_their_medians() -> None:
    slow, fast = chart([Figure("a", "s", (3.0,)), Figure("b", "s", (1.0,))], width=60)
    assert slow.plain.count("█") == 3 * fast.plain.count("█")


def test_the_first_chunk_of_a_stream_holds_only_the_role() -> None:
    role = b'data: {"choices":[{"delta":{"role":"assistant","content":""}}]}\n\n'
    assert not has_token(role)
    assert has_token(role + chunk("A"))
    assert has_token(chunk('\\"'))


def test_the_tokens_are_those_of_the_usage_before_the_end() -> None:
    usage = b'data: {"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":128}}\n\n'
    assert completion_tokens(chunk("A") + usage + b"data: [DONE]\n\n") == 128


def test_a_stream_without_usage_is_no_measurement() -> None:
    with pytest.raises(MeasurementFailed):
        completion_tokens(chunk("A") + b"data: [DONE]\n\n")


def test_the_ratio_of_throughput_is_taken_inside_each_repetition() -> None:
    # A machine that is twice as slow in one repetition does not change the ratio of that one.
    speeds = [(100.0, 100.0), (50.0, 50.0), (99.0, 100.0)]
    pairs = [Pair(ours=Sample(ours, 0), vllm=Sample(theirs, 0)) for ours, theirs in speeds]
    assert ratio_of(pairs) == 1.0


def test_no_two_prompts_of_a_run_begin_alike() -> None:
    bodies = [b for run in range(3) for n in STREAMS for b in prompts("m", run, n, 8)]
    texts = [str(body["messages"]).partition(":")[2].partition(": '")[2] for body in bodies]
    assert len({text.partition(":")[0] for text in texts}) == len(bodies)
