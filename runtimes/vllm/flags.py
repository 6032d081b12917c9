"""Write the table of vLLM's flags that `relume up` checks arguments by, from vLLM's own parser.

    python runtimes/vllm/flags.py       (`make flags` runs it, in the environment of the lock)

The table of a release is `config/relume/config/data/vllm-RELEASE.json`. Importing vLLM takes half a
minute on a slow machine, which is why `relume up` reads a table instead.
"""

import json
import sys
from argparse import Action
from pathlib import Path

DATA = Path(__file__).parents[2] / "config" / "relume" / "config" / "data"
#: What a value must be, by the name of the function that vLLM's parser reads it with.
VALUES = {
    "int": "integer",
    "float": "number",
    "loads": "json",
    "human_readable_int": "size",
    "human_readable_int_or_auto": "size",
}
ARITIES = {None: "one", 0: "none", "?": "optional", "+": "many", "*": "many"}


def table() -> dict[str, object]:
    """The flags of the installed vLLM; each has its names, its number of values, and what they are.

    `choices` are there where vLLM takes nothing else.
    """
    from relume.config.vllm_flags import installed_release
    from relume.runtimes import internals

    flags = [_flag(action) for action in internals.flag_parser()._actions if action.option_strings]
    return {"release": installed_release(), "flags": flags}


def _flag(action: Action) -> dict[str, object]:
    flag: dict[str, object] = {
        "names": list(action.option_strings),
        "values": ARITIES[action.nargs],  # type: ignore[index]
    }
    if kind := VALUES.get(getattr(action.type, "__name__", "")):
        flag["kind"] = kind
    if action.choices is not None:
        flag["choices"] = [str(choice) for choice in action.choices if choice is not None]
    return flag


def text(made: dict[str, object]) -> str:
    """The table as JSON with one flag on a line, so that a difference can be read."""
    flags = made["flags"]
    assert isinstance(flags, list)
    lines = ",\n".join(json.dumps(flag) for flag in flags)
    return f'{{"release": {json.dumps(made["release"])}, "flags": [\n{lines}\n]}}\n'


def main() -> None:
    """Write the table of the installed release."""
    made = table()
    file = DATA / f"vllm-{made['release']}.json"
    file.write_text(text(made), encoding="utf-8")
    print(file, file=sys.stderr)


if __name__ == "__main__":
    main()
