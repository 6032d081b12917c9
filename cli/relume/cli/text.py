"""Text that is read from the command line, and JSON that every terminal can print."""

import json
from typing import Any

import click


class _Text(click.types.StringParamType):
    """An argument that is text, which is UTF-8 in every locale.

    Python marks bytes that the locale cannot decode as lone surrogates. In an ASCII locale these
    are all letters beyond ASCII, so the bytes are read again, as UTF-8.
    """

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        text = str(super().convert(value, param, ctx))
        if text.isascii():
            return text
        try:
            return text.encode("utf-8", "surrogateescape").decode("utf-8")
        except UnicodeError:
            self.fail(f"{shown(text)!r} is not UTF-8 text", param, ctx)


TEXT = _Text()


def read_as_utf8(command: click.Command) -> None:
    """Make `command`, and the commands below it, read their text arguments as `TEXT`."""
    for param in command.params:
        if param.type is click.STRING:
            param.type = TEXT
    for below in command.commands.values() if isinstance(command, click.Group) else ():
        read_as_utf8(below)


def shown(text: str) -> str:
    """The text without lone surrogates, which no encoding has a code for."""
    return text.encode("utf-8", "replace").decode("utf-8")


def json_text(value: object, encoding: str = "utf-8") -> str:
    r"""One JSON document; `\u` escapes stand for all but ASCII where `encoding` has no code."""
    text = json.dumps(value, ensure_ascii=False)
    try:
        text.encode(encoding)
    except (UnicodeError, LookupError):
        return json.dumps(value)
    return text
