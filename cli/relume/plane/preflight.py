"""What must be true before anything starts: vLLM is installed, every model is in the store."""

import importlib.util

from relume.base.errors import InvalidManifest
from relume.config import InferenceService, Plan
from relume.plane.errors import RuntimeMissing
from relume.runtimes.models.errors import ModelMissing
from relume.runtimes.models.store import ModelStore


def check(plan: Plan, store: ModelStore) -> None:
    """Raises InvalidManifest at the storageUri of the first model that is not there, with the
    command that prepares it; RuntimeMissing when there is no vLLM to run the models with.
    """
    for service in plan.services:
        _check_model(service, store)
    if plan.services and importlib.util.find_spec("vllm") is None:
        raise RuntimeMissing(
            "vLLM is not installed here: pip install 'relume[cpu]' (or 'relume[gpu]')"
        )


def _check_model(service: InferenceService, store: ModelStore) -> None:
    try:
        store.resolve(service.storage_uri)
    except ModelMissing as error:
        origin = service.storage_uri_origin
        if origin is None:
            raise
        raise InvalidManifest(
            str(error), file=origin.file, line=origin.line, field=origin.field
        ) from None
