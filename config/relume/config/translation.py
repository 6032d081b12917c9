"""Put the arguments of KServe's Hugging Face server into those of vLLM, whose server runs here."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from relume.config import vllm_flags
from relume.config.arguments import Argument
from relume.config.fields import Resource, did_you_mean
from relume.config.server_flags import (
    BACKENDS,
    INSTEAD,
    LEFT_OUT,
    RAW_LOGITS,
    RETIRED,
    SET_BY_PLANE,
    SWITCHES_LEFT_OUT,
    TASKS,
)


@dataclass(slots=True)
class Translation:
    """What arguments mean: `words` for vLLM, further names, and the model that they name."""

    words: list[Argument] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    model_id: Argument | None = None
    model_dir: Argument | None = None
    revision: Argument | None = None


def translate(words: Sequence[Argument], resource: Resource) -> Translation:
    """Translate flag by flag; notes in `resource` what is left out and what cannot be run."""
    made = Translation()
    reader = _Reader(words, resource, made)
    while reader.left():
        reader.step()
    if vllm_flags.judged():
        for word, why in vllm_flags.refusals(made.words):
            resource.cannot_run(word.origin, why)
    return made


class _Reader:
    """The words from left to right, one flag with its values at a time."""

    def __init__(self, words: Sequence[Argument], resource: Resource, made: Translation) -> None:
        self._words = list(words)
        self._at = 0
        self._resource = resource
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
        if name in SET_BY_PLANE:
            shown = word.text.partition("=")[0]
            self._cannot(word, f"{shown} is set by Relume: {SET_BY_PLANE[name]}")
            self._values(word)
        elif name in self._mapped:
            values = self._values(word)
            if values:
                self._mapped[name](word, values)
            else:
                self._cannot(word, f"{word.text.partition('=')[0]} needs a value")
        elif name in RAW_LOGITS:
            self._add(word, '--pooler-config={"use_activation": false}')
        elif name == "--hf-token":
            self._leave_out(word, "the model comes from the store, and needs no token to be read")
            self._values(word)
        elif name in SWITCHES_LEFT_OUT:
            self._leave_out(word, SWITCHES_LEFT_OUT[name])
        elif name in LEFT_OUT or (name in RETIRED and vllm_flags.find(name) is None):
            self._leave_out(word, LEFT_OUT.get(name) or RETIRED[name])
            self._values(word)
        elif name in INSTEAD and vllm_flags.find(name) is None:
            self._cannot(word, f"vLLM has no flag {name}: {INSTEAD[name]}")
            self._values(word)
        else:
            self._made.words.append(word)

    def _values(self, word: Argument) -> list[Argument]:
        """The values of a flag: after its =, or the words up to the next flag."""
        _, equals, value = word.text.partition("=")
        if equals:
            shown = word.shown.partition("=")[2]
            return [Argument(value, shown, word.origin)] if value else []
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
        chosen = values[0].text
        if chosen not in BACKENDS:
            known = ", ".join(BACKENDS)
            self._cannot(
                word,
                f"{word.text.partition('=')[0]} must be one of {known}"
                f"{did_you_mean(values[0].shown, BACKENDS)}",
            )
        elif BACKENDS[chosen]:
            self._leave_out(word, BACKENDS[chosen])

    def _task(self, word: Argument, values: list[Argument]) -> None:
        task = values[0].text
        if task.lower() not in TASKS:
            known = ", ".join(TASKS)
            hint = did_you_mean(values[0].shown, TASKS)
            self._cannot(word, f"vLLM has no task {values[0].shown}: known are {known}{hint}")
            return
        for flag in TASKS[task.lower()]:
            self._add(word, flag)

    def _add(self, word: Argument, text: str) -> None:
        self._made.words.append(Argument(text, text, word.origin))

    def _leave_out(self, word: Argument, why: str) -> None:
        self._resource.note(word.origin, f"{word.text.partition('=')[0]}: {why}")

    def _cannot(self, word: Argument, why: str) -> None:
        self._resource.cannot_run(word.origin, why)
