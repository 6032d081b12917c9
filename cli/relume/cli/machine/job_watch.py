"""Following the answer of a job until it is settled, also when the connection is lost.

Every part of the answer has a position. A lost connection is opened again behind the last position
that was shown, so no part is missed and none is shown twice.
"""

import asyncio
import json
import random
import sys
from collections.abc import Mapping
from typing import Protocol

import httpx

from relume.cli.errors import NoPlane, NotAPlane
from relume.cli.machine.job_reports import SETTLED, JobReport
from relume.cli.machine.jobs_client import JobsClient, NotNow
from relume.cli.machine.server_sent import Sent, TooLong
from relume.cli.screen import Screen, printable

# How long a server may be away before we give up, and the waits between two tries, in seconds.
PATIENCE_S = 300.0
_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.2, 5.0
_LOST = (httpx.HTTPError, NoPlane, NotNow)


class Shown(Protocol):
    """Where the parts of an answer go."""

    def phase(self, words: str) -> None:
        """What the job waits for."""
        ...

    def part(self, position: int, data: str) -> None:
        """What the predictor sent."""
        ...

    def restarted(self, position: int, attempt: int) -> None:
        """The answer begins again after this."""
        ...

    def lost(self, why: str) -> None:
        """The connection was lost, and will be opened again."""
        ...

    def settled(self, job: JobReport) -> None:
        """The end."""
        ...


async def watch(
    client: JobsClient, job_id: str, shown: Shown, *, after: int = 0, patience_s: float = PATIENCE_S
) -> JobReport:
    """Show the answer of a job behind position `after`, and return the job when it is settled.

    Raises BadUsage when there is no such job, and NoPlane when the server stays away for
    `patience_s`.
    """
    following = _Following(after, shown)
    loop = asyncio.get_running_loop()
    deadline, wait_s = loop.time() + patience_s, _FIRST_WAIT_S
    while True:
        why = "the server ended the stream"
        try:
            async with client.stream(job_id, following.position) as sent:
                async for each in sent:
                    deadline, wait_s = loop.time() + patience_s, _FIRST_WAIT_S
                    if (job := following.take(each)) is not None:
                        shown.settled(job)
                        return job
        except TooLong as error:
            raise NotAPlane(str(error)) from None
        except _LOST as error:
            why = str(error) or type(error).__name__
            if loop.time() > deadline:
                raise NoPlane(
                    f"{why}; the job goes on; to see the rest: relume jobs watch {job_id} "
                    f"--after {following.position}"
                ) from None
        shown.lost(why)
        await asyncio.sleep(wait_s * random.uniform(0.5, 1.0))
        wait_s = min(wait_s * 2, _LONGEST_WAIT_S)


class _Following:
    """How far the answer was shown."""

    def __init__(self, position: int, shown: Shown) -> None:
        self.position = position
        self._shown = shown

    def take(self, sent: Sent) -> JobReport | None:
        """Show one event; the job when it was the last one."""
        if not sent.event:
            self._shown.phase(sent.data)
            return None
        if sent.event in SETTLED:
            return JobReport.parse(_parsed(sent.data))
        position = int(sent.id) if sent.id and sent.id.isdecimal() else 0
        if position <= self.position:
            return None  # it was shown before
        self.position = position
        if sent.event == "restarted":
            told = _parsed(sent.data)
            attempt = told.get("attempt") if isinstance(told, Mapping) else None
            self._shown.restarted(position, attempt if isinstance(attempt, int) else 0)
        elif sent.event == "message":
            self._shown.part(position, sent.data)
        return None


class AsText:
    """The words of the model on standard output, everything else on standard error."""

    def __init__(self) -> None:
        self._out, self._err = Screen.stdout(), Screen.stderr()
        self._status = self._err.console.status("") if self._err.terminal else None
        self._phase = ""
        self._begun = False
        self._open_line = False

    def phase(self, words: str) -> None:
        if self._status is not None and not self._begun:
            self._status.update(printable(words))
            self._status.start()
        elif words.partition(" starts_in")[0] != self._phase and words != "running":
            self._err.line(words, "dim")
        self._phase = words.partition(" starts_in")[0]

    def part(self, position: int, data: str) -> None:
        if words := words_of(data):
            self._stop_status()
            self._begun = True
            self._out.console.file.write(printable(words))
            self._out.console.file.flush()
            self._open_line = not words.endswith("\n")

    def restarted(self, position: int, attempt: int) -> None:
        self._end_line()
        self._err.line(f"the answer begins again with attempt {attempt}", "yellow")

    def lost(self, why: str) -> None:
        self._stop_status()
        self._end_line_on_terminal()
        self._err.line(f"{why}; attaching again", "dim")

    def settled(self, job: JobReport) -> None:
        self._stop_status()
        self._end_line()
        style = "dim" if job.status == "completed" else "bold red"
        why = f": {job.reason}" if job.reason else ""
        detail = f", {job.detail}" if job.detail else ""
        self._err.line(f"{job.id} {job.status}{why}{detail}", style)

    def _stop_status(self) -> None:
        if self._status is not None:
            self._status.stop()

    def _end_line(self) -> None:
        if self._open_line:
            self._out.line()
            self._open_line = False

    def _end_line_on_terminal(self) -> None:
        # In a pipe the next words go on in the same line, as if nothing had happened.
        if self._out.terminal:
            self._end_line()


class AsJson:
    """One JSON document a line for everything that comes."""

    def __init__(self) -> None:
        self._out = Screen.stdout()

    def phase(self, words: str) -> None:
        self._out.json_line({"event": "phase", "phase": words})

    def part(self, position: int, data: str) -> None:
        self._out.json_line({"event": "data", "position": position, "data": _parsed(data)})

    def restarted(self, position: int, attempt: int) -> None:
        self._out.json_line({"event": "restarted", "position": position, "attempt": attempt})

    def lost(self, why: str) -> None:
        print(f"relume: {printable(why)}; attaching again", file=sys.stderr)

    def settled(self, job: JobReport) -> None:
        self._out.json_line({"event": job.status, "job": job.raw})


def words_of(data: str) -> str:
    """The words in one part of an answer: a chunk of a stream, or a whole answer."""
    told = _parsed(data)
    if not isinstance(told, Mapping):
        return ""
    if isinstance(delta := told.get("delta"), str):  # of the Responses API
        return delta
    found = []
    for choice in told.get("choices") or ():
        if isinstance(choice, Mapping):
            said = choice.get("delta") or choice.get("message")
            words = said.get("content") if isinstance(said, Mapping) else choice.get("text")
            found.append(words if isinstance(words, str) else "")
    return "".join(found)


def _parsed(text: str) -> object:
    """JSON, or the text itself: a stream of OpenAI ends with a part that is not JSON."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text
