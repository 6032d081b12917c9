"""A template must be alone in its process before it forks; Python joins a thread a moment early."""

import subprocess
import sys

_SCRIPT = """
import threading
from relume.runtimes.template import other_threads

go = threading.Event()
threading.Thread(target=go.wait).start()
print(len(other_threads(0)))
threading.Timer(0.05, go.set).start()
print(len(other_threads(60)))
"""


def test_a_thread_that_ends_is_waited_for_and_one_that_stays_is_told() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", _SCRIPT], capture_output=True, text=True, timeout=60
    )
    assert (ended.stdout.split(), ended.stderr) == (["1", "0"], "")
