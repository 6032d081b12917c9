"""Put the arguments of KServe's Hugging Face server into those of vLLM, whose server runs here.

The same for one machine and for a cluster: what differs is what becomes of an `Objection`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from relume.config import vllm_flags
from relume.config.arguments import Argument
from relume.config.fields import did_you_mean
from relume.config.server_flags import (
    BACKENDS,
    INSTEAD,
    OF_KSERVE,
    RAW_LOGITS,
    RETIRED,
    RETIRED_SWITCHES,
    SET_BY_RELUME,
    SWITCHES_OF_KSERVE,
    TASKS,
    TASKS_OF_KSERVE,
)

ObjectionKind = Literal["of-kserve", "only-kserve", "retired", "set-by-relume", "wrong"]


@dataclass(frozen=True, slots=True)
class Objection:
    """An argument that is not handed on to vLLM, or that vLLM would end with.

    `of-kserve`: a flag of KServe's own server, without which no answer of vLLM changes.
    `only-kserve`: KServe's own server can do it, and vLLM cannot. `retired`: vLLM needs it no more.
    `set-by-relume`: it would undo what Relume sets. `wrong`: no server can do it.
    """

    kind: ObjectionKind
    word: Argument
    flag: str
    why: str
    values: tuple[str, ...] = ()

    @property
    def is_harmless(self) -> bool:
        """Whether it is enough to tell that the argument is left out."""
        return self.kind in ("of-kserve", "retired")

    def __str__(self) -> str:
        if self.kind == "set-by-relume":
            return f"{self.flag} is set by Relume: {self.why}"
        return f"{self.flag}: {self.why}" if self.is_harmless else self.why


@dataclass(slots=True)
class Translation:
    """What arguments mean: `words` for vLLM, further names, and the model that they name."""

    words: list[Argument] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    model_id: Argument | None = None
    model_dir: Argument | None = None
    revision: Argument | None = None
    objections: list[Objection] = field(default_factory=list)

    def arguments(self, own_name: str) -> list[str]:
        """The arguments for vLLM; further names stand beside the InferenceService's own."""
        further = [name for name in dict.fromkeys(self.names) if name != own_name]
        named = ["--served-model-name", own_name, *further] if further else []
        return [*named, *(word.text for word in self.words)]


def translate(words: Sequence[Argument], *, check: bool) -> Translation:
    """Translate flag by flag; `check` judges the result by the table of vLLM's flags."""
    made = Translation()
    reader = _Reader(words, made)
    while reader.left():
        reader.step()
    if check:
        made.objections += [
            Objection("wrong", word, word.flag, why)
            for word, why in vllm_flags.refusals(made.words)
        ]
    return made


class _Reader:
    """The words from left to right, one flag with its values at a time."""

    def __init__(self, words: Sequence[Argument], made: Translation) -> None:
        self._words = list(words)
        self._at = 0
        self._made = made
        self._mapped: Mapping[str, Callable[[Argument, list[Argument]], None]] = {
            "--model-name": self._names,
            "--served-model-name": self._names,
            "--model-id": self._model_id,
            "--model-dir": self._model_dir,
            "--model-revision": self._revision,
            "--revision": self._revision,
            "--max-length": self._max_length,
            "--backend": self._backend,
            "--task": self._task,
        }

    def left(self) -> bool:
        return self._at < len(self._words)

    def step(self) -> None:
        """Take one flag, or one word that is none."""
        word = self._words[self._at]
        self._at += 1
        name = word.flag
        if (mapped := self._mapped.get(name)) is not None:
            values = self._values(word)
            if values:
                mapped(word, values)
            else:
                self._object("wrong", word, f"{_written(word)} needs a value")
        elif name in RAW_LOGITS:
            self._add(word, '--pooler-config={"use_activation": false}')
        elif (found := _unlike_vllm(name)) is not None:
            kind, why, has_values = found
            values = self._values(word) if has_values else []
            self._object(kind, word, why, values)
        else:
            self._made.words.append(word)

    def _values(self, word: Argument) -> list[Argument]:
        """The values of a flag: after its =, or the words up to the next flag."""
        _, equals, value = word.text.partition("=")
        if equals:
            shown = word.shown.partition("=")[2]
            return [Argument(value, shown, word.origin, word.is_final)] if value else []
        start = self._at
        while self.left() and not vllm_flags.is_flag(self._words[self._at].text):
            self._at += 1
        return self._words[start : self._at]

    def _names(self, _: Argument, values: list[Argument]) -> None:
        self._made.names += [value.text for value in values]

    def _model_id(self, _: Argument, values: list[Argument]) -> None:
        if values[0].text.startswith("/"):
            self._made.model_dir = values[0]
        else:
            self._made.model_id = values[0]

    def _model_dir(self, _: Argument, values: list[Argument]) -> None:
        self._made.model_dir = values[0]

    def _revision(self, _: Argument, values: list[Argument]) -> None:
        self._made.revision = values[0]

    def _max_length(self, word: Argument, values: list[Argument]) -> None:
        self._add(word, f"--max-model-len={values[0].text}")

    def _backend(self, word: Argument, values: list[Argument]) -> None:
        chosen = values[0]
        if not chosen.is_final:
            self._object("only-kserve", word, _unknown_value(word))
        elif chosen.text not in BACKENDS:
            known = ", ".join(BACKENDS)
            hint = did_you_mean(chosen.shown, BACKENDS)
            self._object("wrong", word, f"{_written(word)} must be one of {known}{hint}")
        elif why := BACKENDS[chosen.text]:
            self._object("of-kserve", word, why)

    def _task(self, word: Argument, values: list[Argument]) -> None:
        task, shown = values[0].text.lower(), values[0].shown
        if not values[0].is_final:
            self._object("only-kserve", word, _unknown_value(word))
        elif task not in TASKS:
            known = ", ".join(TASKS)
            hint = did_you_mean(shown, TASKS)
            kind: ObjectionKind = "only-kserve" if task in TASKS_OF_KSERVE else "wrong"
            self._object(kind, word, f"vLLM has no task {shown}: known are {known}{hint}")
        for flag in TASKS.get(task, ()):
            self._add(word, flag)

    def _add(self, word: Argument, text: str) -> None:
        self._made.words.append(Argument(text, text, word.origin, word.is_final))

    def _object(
        self, kind: ObjectionKind, word: Argument, why: str, values: Sequence[Argument] = ()
    ) -> None:
        given = tuple(value.text for value in values)
        self._made.objections.append(Objection(kind, word, _written(word), why, given))


def _written(word: Argument) -> str:
    """The name of a flag as the manifest spells it."""
    return word.text.partition("=")[0]


def _unknown_value(word: Argument) -> str:
    return f"{_written(word)} has a value that only the cluster fills in"


def _unlike_vllm(name: str) -> tuple[ObjectionKind, str, bool] | None:
    """What is to say of a flag that is not handed on, and whether it has a value; else None."""
    if name in SET_BY_RELUME:
        return "set-by-relume", SET_BY_RELUME[name], True
    if name == "--hf-token":
        return "retired", "the model is read from files, and needs no token to be read", True
    if name in SWITCHES_OF_KSERVE:
        return "of-kserve", SWITCHES_OF_KSERVE[name], False
    if name in OF_KSERVE:
        return "of-kserve", OF_KSERVE[name], True
    if name in RETIRED_SWITCHES:
        return "retired", RETIRED_SWITCHES[name], False
    if vllm_flags.find(name) is not None:
        return None
    if name in RETIRED:
        return "retired", RETIRED[name], True
    if name in INSTEAD:
        return "wrong", f"vLLM has no flag {name}: {INSTEAD[name]}", True
    return None
