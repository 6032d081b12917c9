"""One action on every job that a command names, such as cancelling it."""

from collections.abc import Awaitable, Callable, Iterable

from relume.cli.errors import BadUsage, Refused
from relume.cli.machine.jobs_client import JobsClient
from relume.cli.screen import Screen


async def on_each_job(
    url: str, job_ids: Iterable[str], act: Callable[[JobsClient, str], Awaitable[None]], done: str
) -> int:
    """Act on each job once, tell the failures, and print how many are `done`.

    Return the exit code: 1 when one of them failed, else 0.
    """
    failed, wanted = 0, dict.fromkeys(job_ids)
    async with JobsClient(url) as client:
        for job_id in wanted:
            try:
                await act(client, job_id)
            except (BadUsage, Refused) as error:
                failed += 1
                Screen.stderr().line(f"{job_id}: {error}", "red")
    words = f", {failed} failed" if failed else ""
    Screen.stdout().line(f"{len(wanted) - failed} {done}{words}")
    return 1 if failed else 0
