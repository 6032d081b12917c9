"""What somebody sees while a cluster works: a line that moves, or plain lines in a pipe."""

import io
from typing import Any

from rich.console import Console

from relume.cli.cluster.progress import showing
from relume.cli.screen import Screen


def shown(**options: Any) -> str:
    file = io.StringIO()
    screen = Screen(Console(file=file, highlight=False, width=80, **options))
    with showing(screen) as progress:
        progress.now("waiting for InferenceService models/chat")
        progress.now("waiting for InferenceService models/chat")
        progress.say("pod chat: [red]0/1 nodes\x1b[2J", "bad")
    return file.getvalue()


def test_a_pipe_gets_each_line_once_without_codes() -> None:
    assert shown(force_terminal=False).splitlines() == [
        "waiting for InferenceService models/chat",
        "pod chat: [red]0/1 nodes\N{REPLACEMENT CHARACTER}[2J",
    ]


def test_a_terminal_gets_colour_and_nothing_of_what_others_wrote_moves_it() -> None:
    text = shown(force_terminal=True)
    assert "\x1b[2J" not in text and "[red]0/1 nodes" in text
