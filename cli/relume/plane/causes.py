"""Why a predictor ended, in plain words, by what vLLM and Python have written to its log.

The last line of such a log is seldom the cause: the engine's error stands above the one of the
server that waited for it.
"""

import re
from pathlib import Path

from relume.plane.out_of_memory import ENGINE_DIED, end_of

_ENGINE_DIED = re.compile(ENGINE_DIED.pattern.decode())
_LONGEST = 400  # characters of the error that is quoted
# What the log of vLLM 0.32 shows, and what it means; the first that fits counts.
_MEANINGS = (
    (
        r"SafetensorError|in parse_safetensors_file_metadata",
        "the weights of the model cannot be read, because a file in its folder is damaged or not "
        "complete",
    ),
    (
        r"instantiate the backend tokenizer|Can't load tokenizer|Unable to load vocabulary",
        "the model has no tokenizer in its folder that can be read",
    ),
    (
        r"Invalid repository ID or local directory",
        "the folder of the model has no config.json",
    ),
    (
        _ENGINE_DIED.pattern,
        "the process of its engine ended in the middle of its work",
    ),
    (
        r"ValidationError: \d+ validation errors? for \w+Config",
        "vLLM refuses what its arguments ask for",
    ),
)
_ENGINE = r"(?:\([\w ]+pid=\d+\) )?(?:ERROR [\d: -]+\[[^\]]*\] )?"
_ERRORS = re.compile(
    rf"^{_ENGINE}(?:[\w.]*\.)?(\w*(?:Error|Exception)): (.+)$|^ *(Value error), (.+)$", re.MULTILINE
)
# They only say that another process has failed.
_VAGUE = re.compile(
    r"Engine core initialization failed|validation errors? for|EngineCore encountered"
)


def cause_of(code: int, log: Path) -> str | None:
    """Return what the log says of the end of its process; None: nothing that is known.

    `code` is the exit code: vLLM's server exits with 0 when its engine is gone.
    """
    text = end_of(log).decode(errors="replace")
    if code == 0 and not _ENGINE_DIED.search(text):
        return None
    found = [match for match in _ERRORS.finditer(text) if not _VAGUE.search(match[0])]
    said = None
    if found:
        kind, words = found[-1][1] or found[-1][3], found[-1][2] or found[-1][4]
        said = f"{kind}: {words.partition(' [type=')[0].strip()}"[:_LONGEST]
    meaning = next((words for shown, words in _MEANINGS if re.search(shown, text)), None)
    return ": ".join(part for part in (meaning, said) if part) or None
