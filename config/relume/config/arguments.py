"""Read `args`: the words as a container would get them, each with its place."""

import re
import shlex
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from relume.config.fields import Resource
from relume.config.nodes import Node
from relume.config.resources import Origin

_TEMPLATE = re.compile(r"\{\{(.*?)\}\}", re.DOTALL)
_REFERENCE = re.compile(r"\$\$|\$\(([A-Za-z_.-][A-Za-z0-9_.-]*)\)")
_FILLED_IN = re.compile(r"\{\{|\$\(")  # by KServe, and by the kubelet
_SEVERAL_WORDS = re.compile(r"--?[A-Za-z][A-Za-z0-9_.-]*\s+\S")


@dataclass(frozen=True, slots=True)
class Argument:
    """One word; `text` may hold a Secret's value, `shown` is what the manifest says.

    `is_final` is false where the cluster fills a part of it in, which is not known here.
    """

    text: str
    shown: str
    origin: Origin
    is_final: bool = True

    @property
    def flag(self) -> str:
        """The name of a flag with `-` for `_`, "" for any other word."""
        name = self.text.partition("=")[0]
        return name.replace("_", "-") if name.startswith("--") else ""

    @property
    def is_name_final(self) -> bool:
        """Whether the part before = is known, so that a flag can be judged by it."""
        return self.is_final or not _FILLED_IN.search(self.text.partition("=")[0])


def read_arguments(
    node: Node | None, environment: Mapping[str, str], resource: Resource
) -> list[Argument]:
    """The words of `args`.

    `{{.Name}}` and `{{.Namespace}}` are filled in as KServe does, $(NAME) as Kubernetes does. A
    line that holds a flag and its value (`--seed 7`) is one word to a container, which its server
    does not understand; it is read as what was meant, and noted.
    """
    words: list[Argument] = []
    for item in node.items() if node is not None else ():
        shown = _fill_template(item, resource)
        parts = _split(shown)
        if len(parts) > 1:
            resource.leave_out(item, _several(parts))
        words += [Argument(expand(part, environment), part, item.origin) for part in parts]
        if "\0" in shown:
            raise item.wrong("has a NUL character, which no argument of a process can have")
    return words


def written_arguments(node: Node | None, resource: Resource) -> list[Argument]:
    """The words of `args` for a cluster, which fills in templates and $(NAME) itself."""
    words: list[Argument] = []
    for item in node.items() if node is not None else ():
        text = item.text()
        parts = _split(text)
        if len(parts) > 1:
            resource.leave_out(item, _several(parts))
        words += [
            Argument(part, part, item.origin, is_final=not _FILLED_IN.search(part))
            for part in parts
        ]
    return words


def flags_in(
    arguments: Iterable[str], with_value: Container[str]
) -> Iterator[tuple[str, str | None]]:
    """Each word as the name of a flag, with `-` for `_`, and its value.

    The value follows a `=`. A flag of `with_value` that has none takes the next word ("" where
    there is none), as argparse does; the value of any other word is then None.
    """
    rest = iter(arguments)
    for argument in rest:
        name, equals, value = argument.partition("=")
        name = name.replace("_", "-")
        if equals:
            yield name, value
        else:
            yield name, next(rest, "") if name in with_value else None


def _several(parts: Sequence[str]) -> str:
    return f"read as {len(parts)} words; a container gets it as one: write one a line"


def _split(text: str) -> Sequence[str]:
    if _SEVERAL_WORDS.match(text):
        try:
            return shlex.split(text)
        except ValueError:  # a quote that does not end
            pass
    return [text]


def expand(text: str, environment: Mapping[str, str]) -> str:
    """Replace $(NAME) by the variable's value, as Kubernetes does; $$ is one $."""

    def value(match: re.Match[str]) -> str:
        if match[0] == "$$":
            return "$"
        return environment.get(match[1], match[0])

    return _REFERENCE.sub(value, text)


def _fill_template(node: Node, resource: Resource) -> str:
    """Fill in {{.Name}} and {{.Namespace}}: KServe reads a container as a Go template."""
    known = {".Name": resource.name, ".Namespace": resource.namespace}

    def fill(match: re.Match[str]) -> str:
        if (value := known.get(match[1].strip())) is not None:
            return value
        resource.cannot_run(
            node.origin,
            f"KServe reads {match[0]} as a Go template: only {{{{.Name}}}} and {{{{.Namespace}}}} "
            "are filled in here",
        )
        return ""

    text = _TEMPLATE.sub(fill, node.text())
    if "{{" in text:
        raise node.wrong(
            "KServe reads {{ as the beginning of a Go template, which does not end here"
        )
    return text
