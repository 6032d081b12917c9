"""Arguments of KServe's Hugging Face server that have the same meaning for Relume's runtime.

Source: kserve python/huggingfaceserver/huggingfaceserver/__main__.py: `--model_name` is the name in
requests, `--model_id` the model on the Hugging Face Hub where no storageUri is written.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from relume.cluster.render import rules
from relume.cluster.render.draft import Draft
from relume.cluster.render.originals import MODEL

NAME, HUB = "--model-name", "--model-id"
_OWN_NAME = "{{.Name}}"  # KServe fills it in: the name of the InferenceService


@dataclass(frozen=True, slots=True)
class KServeArguments:
    """What is left of the arguments, and what was taken out of them."""

    rest: tuple[str, ...]
    name: str | None = None
    hub_model: str | None = None


def read_arguments(arguments: Sequence[str]) -> KServeArguments:
    """Take the two flags out of `arguments`; of a flag that is there twice the last counts."""
    rest: list[str] = []
    found: dict[str, str] = {}
    words = iter(arguments)
    for word in words:
        flag, equals, value = word.partition("=")
        spelled = flag.replace("_", "-")
        if spelled in (NAME, HUB):
            found[spelled] = value if equals else next(words, "")
        else:
            rest.append(word)
    return KServeArguments(tuple(rest), found.get(NAME) or None, found.get(HUB) or None)


def translate_arguments(draft: Draft) -> None:
    """Write the two flags of the draft's model as Relume's runtime knows them."""
    written = draft.get(*MODEL, "args")
    if not isinstance(written, list):
        return
    read = read_arguments([str(one) for one in written])
    if read.name is None and read.hub_model is None:
        return
    arguments = [*read.rest]
    if read.name is not None:
        arguments += ["--served-model-name", _OWN_NAME, read.name]
    reason = "a further name in requests; the first is the service's own"
    if arguments:
        draft.set((*MODEL, "args"), [*arguments], rules.KSERVE_FLAGS, reason)
    else:
        draft.remove((*MODEL, "args"), rules.KSERVE_FLAGS)
    if read.hub_model is not None and draft.get(*MODEL, "storageUri") is None:
        reason = "the model that --model_id names, for KServe to download"
        draft.set((*MODEL, "storageUri"), f"hf://{read.hub_model}", rules.KSERVE_FLAGS, reason)
