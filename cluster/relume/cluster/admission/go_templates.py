"""Go templates in the texts of an LLMInferenceServiceConfig.

KServe reads the whole Config, written as JSON, as one template. A double quote, a backslash or a
new line inside of `{{ }}` is therefore written with a backslash, which no template may have there.

Source: Go's text/template/parse lex.go and parse.go; the functions are those of text/template and
of kserve/kserve pkg/controller/v1alpha2/llmisvc/config_merge.go.
"""

import re
from collections.abc import Iterator

_ACTION = re.compile(r"\{\{(- )?(?P<inside>.*?)( -)?\}\}", re.DOTALL)
_TOKEN = re.compile(
    r"(?P<space>[ \t]+)|(?P<comment>/\*.*?\*/)|(?P<raw>`[^`]*`)"
    r"|(?P<field>\.[\w.]*|\$[\w.]*)|(?P<number>[+-]?[0-9][\w.]*)|(?P<word>\w[\w.]*)"
    r"|(?P<mark>:=|[=|(),])",
    re.DOTALL,
)
_OPENING = frozenset({"if", "range", "with", "block", "define"})
_WORDS = frozenset(
    (
        *_OPENING,
        *("else", "end", "template", "break", "continue", "nil", "true", "false"),
        *("and", "or", "not", "eq", "ne", "lt", "le", "gt", "ge", "len", "index", "slice", "call"),
        *("print", "printf", "println", "html", "js", "urlquery"),
        *("ChildName", "kvTransferConfig", "shutdownTimeout"),
    )
)
_ESCAPED = frozenset('"\\\n\r\b\f<>&')  # which JSON, as Go writes it, escapes


def template_error(text: str) -> str | None:
    """Why the actions in a text are no template; None where they are, or where there are none."""
    if "{{" in _ACTION.sub("", text):
        return "{{ without }}"
    for action in _ACTION.finditer(text):
        for kind, token in _tokens(action["inside"]):
            if kind == "bad" and token in _ESCAPED:
                return f"{token!r} may not stand inside of {{{{ }}}}: write texts in `backquotes`"
            if kind == "bad":
                return f"bad character U+{ord(token):04X} {token!r}"
            if kind == "word" and token not in _WORDS:
                return f'function "{token}" not defined'
    return None


def open_blocks(text: str) -> int:
    """How many blocks the text opens more than it ends; a Config must end all of them."""
    depth = 0
    for action in _ACTION.finditer(text):
        first = next((token for kind, token in _tokens(action["inside"]) if kind == "word"), "")
        depth += (first in _OPENING) - (first == "end")
    return depth


def _tokens(inside: str) -> Iterator[tuple[str, str]]:
    """The tokens of an action by kind, up to the first bad character."""
    at = 0
    while at < len(inside):
        match = _TOKEN.match(inside, at)
        if match is None or match.lastgroup is None:
            yield "bad", inside[at]
            return
        yield match.lastgroup, match[0]
        at = match.end()
