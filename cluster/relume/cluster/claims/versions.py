"""Semantic versions (semver 2.0.0) as lists of integers that compare as versions do."""

import re

_FORM = re.compile(
    r"(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)"
    r"(?:-([0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*))?(?:\+[0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*)?"
)
_LOOSE = re.compile(r"v?([0-9]+)(?:\.([0-9]+))?(?:\.([0-9]+))?(.*)")


def encode(text: str) -> list[int]:
    """`1.2.3-rc.1` as integers: core, then 1 for a release or 0 and each pre-release identifier.

    Raises ValueError for what is not a semantic version.
    """
    found = _FORM.fullmatch(text)
    if found is None:
        raise ValueError(f"{text!r} is not a semantic version (write major.minor.patch)")
    core = [int(part) for part in found.groups()[:3]]
    if found[4] is None:
        return [*core, 1]
    encoded = [*core, 0]
    for identifier in found[4].split("."):
        if identifier.isdigit():
            if len(identifier) > 1 and identifier.startswith("0"):
                raise ValueError(f"{text!r}: a number must not start with 0")
            encoded += [1, int(identifier)]
        else:
            # After every number, letter by letter; 0 ends the identifier, so a prefix sorts first.
            encoded += [2, *(ord(letter) for letter in identifier), 0]
    return encoded


def normalised(text: str) -> str:
    """The version that semver(text, true) reads: no leading v or zeros, three parts."""
    found = _LOOSE.fullmatch(text)
    if found is None:
        return text
    core = ".".join(str(int(part or 0)) for part in found.groups()[:3])
    return core + found[4]
