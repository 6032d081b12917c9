"""`relume probe`: whether a running server keeps the contract of a pool."""

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from relume.cli.options import http_url, output_option

if TYPE_CHECKING:
    from relume.cluster.llm_d.clauses import Verdict

_MARKS = {"pass": "✓", "fail": "✗", "absent": "–"}


@click.group("probe", short_help="Check a running server against a contract.")
def command() -> None:
    """Check a running model server against the contract of what it is to be part of.

    \b
    Examples:
      relume probe llm-d http://127.0.0.1:8000
    """


@command.command("llm-d")
@click.argument("url")
@click.option("--model", metavar="NAME", help="Default: the first that /v1/models lists.")
@click.option(
    "--streams",
    type=click.IntRange(1, 512),
    default=16,
    show_default=True,
    help="How many answers are streamed at once, while /metrics is read.",
)
@click.option(
    "--tokens",
    type=click.IntRange(1, 4096),
    default=64,
    show_default=True,
    help="How long each of them is.",
)
@output_option
def llm_d(*, url: str, model: str | None, streams: int, tokens: int, output: str) -> int:
    """Say whether the server at URL can be an endpoint of an InferencePool of llm-d.

    URL is the server's own address, as the router of the pool sees it: of one replica, not of a
    gateway in front of several. Each clause is asked for real: metrics idle and under load,
    /health, models with their parents, the OpenAI and Anthropic routes, errors, the router's
    headers. An optional clause may be absent, but not wrong.

    Exit code: 0 every clause holds; 1 one does not, or nothing answers; 2 the call is wrong.

    \b
    Examples:
      relume probe llm-d http://127.0.0.1:8000
      relume probe llm-d http://127.0.0.1:8000 --streams 64 -o json
    """
    from relume.cli.screen import Screen
    from relume.cluster.llm_d.clauses import judge
    from relume.cluster.llm_d.probe import observe

    http_url("URL", url)
    with Screen.stderr().spinner(f"asking {url}"):
        observed = asyncio.run(observe(url, model=model, streams=streams, tokens=tokens))
    verdicts = judge(observed)
    if output == "json":
        Screen.stdout().json(
            {
                "url": url,
                "model": observed.model,
                "holds": all(each.holds for each in verdicts),
                "clauses": [_json(each) for each in verdicts],
            }
        )
    else:
        _show(verdicts, url, observed.model)
    return 0 if all(each.holds for each in verdicts) else 1


def _json(verdict: "Verdict") -> dict[str, object]:
    clause, seen = verdict.clause, verdict.judgement
    return {
        "clause": clause.name,
        "demands": clause.demands,
        "optional": clause.optional,
        "outcome": seen.outcome,
        "saw": seen.saw,
        "fix": seen.fix or None,
    }


def _show(verdicts: Sequence["Verdict"], url: str, model: str) -> None:
    from relume.cli.screen import Screen

    screen = Screen.stdout()
    rows = [
        (_MARKS[each.judgement.outcome], each.clause.demands, each.judgement.saw)
        for each in verdicts
    ]
    screen.table(("", "the pool asks for", "seen"), rows)
    broken = [each for each in verdicts if not each.holds]
    for each in broken:
        screen.line(f"{each.clause.name}: {each.judgement.saw}; {each.judgement.fix}", "red")
    held = len(verdicts) - len(broken)
    screen.line(f"{url} ({model}): {held} of {len(verdicts)} clauses hold")
