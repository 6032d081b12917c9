"""Whether a `relume` command could be typed: its subcommand, its options and their choices."""

import re
import shlex
from collections.abc import Iterator

import click

from relume.cli.main import group

# Behind these another command begins.
_BETWEEN = {"|", "&&", "||", ";", "&", "do", "then", "exec", "(", "until", "while"}


def whole(lines: list[str]) -> Iterator[str]:
    """The lines, joined where a quotation goes on in the next one."""
    pending = ""
    for line in lines:
        pending += line
        try:
            shlex.split(pending)
        except ValueError:
            pending += "\n"
        else:
            yield pending
            pending = ""
    assert not pending, f"a quotation without an end: {pending}"


def commands(line: str) -> Iterator[list[str]]:
    """The words of each `relume` command in a line of a shell; what is redirected is left out."""
    lexer = shlex.shlex(line.replace("…", "etc"), posix=True, punctuation_chars="|&;()<>")
    lexer.whitespace_split = True
    words: list[str] = []
    redirected = False
    for word in [*lexer, ";"]:
        if redirected or (set(word) <= set("<>&") and word != "&" and word != "&&"):
            redirected = not redirected
        elif word in _BETWEEN or set(word) <= set("|&;()"):
            if words and words[0].rpartition("/")[2] == "relume":
                yield words[1:]
            words = []
        elif not (not words and re.fullmatch(r"\w+=.*", word)):
            words.append(word)


def refused(words: list[str]) -> str | None:
    """Why the command line takes no such command, None where it does. Nothing is run."""
    command: click.Command = group
    context = click.Context(group, info_name="relume")
    rest = list(words)
    while isinstance(command, click.Group) and rest and not rest[0].startswith("-"):
        name = rest.pop(0)
        found = command.get_command(context, name)
        if found is None:
            return f"{context.command_path} has no command {name}"
        command, context = found, click.Context(found, info_name=name, parent=context)
    try:
        options, _, _ = command.make_parser(context).parse_args(rest)
        for parameter in command.get_params(context):
            if isinstance(parameter.type, click.Choice) and parameter.name in options:
                given = options[parameter.name]
                for value in given if isinstance(given, list | tuple) else [given]:
                    if str(value) not in ("TEXT", "json"):
                        parameter.type.convert(value, parameter, context)
    except click.UsageError as error:
        return error.format_message()
    return None
