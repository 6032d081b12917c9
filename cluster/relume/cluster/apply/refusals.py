"""What an API server refuses, by document and field."""

import re
from dataclasses import dataclass

from relume.base.errors import RelumeError
from relume.cluster.apply.api import Answer
from relume.cluster.apply.manifests import Manifest
from relume.cluster.apply.parts import objects, text

# Where the words of a refusal have the field, first those of server-side apply itself.
_FIELDS = (
    re.compile(r"(?:^|: |, )\.([A-Za-z][^\s:]*): field not declared in schema"),
    re.compile(r'unknown field "([^"]+)"'),
    re.compile(r"must not set the field\(s\): ([^\s,]+)"),
    re.compile(r"[:,] ((?:spec|metadata)\.[^\s,:]+)"),
    re.compile(r"\b((?:spec|metadata)\.[A-Za-z][\w.\[\]/-]*)"),
)
_STEP = re.compile(r"([^.\[\]]+)|\[(\d+)\]")
_MOST = 600  # characters of a server's message


@dataclass(frozen=True, slots=True)
class Refusal:
    """One document that the server does not take. `field` is "" where the server names none."""

    manifest: Manifest
    field: str
    message: str

    @property
    def place(self) -> str:
        """The file, and the line of the field where it is known."""
        document = self.manifest.document
        if document is None:
            return self.manifest.file
        path = tuple(int(n) if n else name for name, n in _STEP.findall(self.field))
        return f"{document.file}:{document.line(path)}"

    def __str__(self) -> str:
        field = f"{self.field}: " if self.field else ""
        return f"{self.place}: {self.manifest.title}: {field}{self.message}"


class NotApplied(RelumeError):
    """Documents were refused. `applied` are those that are on the cluster all the same."""

    reason = "not-applied"

    def __init__(self, refusals: tuple[Refusal, ...], applied: tuple[Manifest, ...] = ()) -> None:
        self.refusals, self.applied = refusals, applied
        lines = "\n  ".join(str(one) for one in refusals)
        done = ", ".join(one.title for one in applied)
        told = f"; applied before: {done}" if done else "; nothing was applied"
        super().__init__(f"refused by the cluster{told}\n  {lines}")


def refusal(manifest: Manifest, answer: Answer) -> Refusal:
    """The refusal that an answer is."""
    message = " ".join(answer.message.split())[:_MOST]
    causes = [text(one, "field") for one in objects(answer.body, "details", "causes")]
    field = next((cause for cause in causes if cause), "")
    if answer.code == 409 and field:
        message += ": --force-conflicts takes the field over"
    for pattern in _FIELDS:
        if not field and (found := pattern.search(message)):
            field = found[1].rstrip(".")
    return Refusal(manifest, field.removeprefix("."), message)
