"""What vLLM finds out at a start, kept for the next one: `relume.dev/engine-cache: CLAIM`.

vLLM writes compiled graphs, and with a start-up plan the memory that it measured, under
`VLLM_CACHE_ROOT` (vllm/v1/worker/startup_plan.py). A container that starts from zero has none of
it, unless that folder is on a volume that outlives the pod. The annotation names a
PersistentVolumeClaim in the service's namespace.
"""

from relume.base.vocabulary import ENGINE_CACHE, JsonValue
from relume.cluster.admission import SHIPPED
from relume.cluster.admission.cluster import POD_FLAGS
from relume.cluster.render import rules
from relume.cluster.render.draft import Book, Draft, Setting
from relume.cluster.render.originals import ANNOTATIONS, MODEL, PREDICTOR, Original
from relume.config.head import resource_name

_ROOT = "VLLM_CACHE_ROOT"
_FOLDER = "/var/cache/vllm"
_VOLUME = "relume-engine-cache"
_FLAGS = (POD_FLAGS + "persistent-volume-claim", POD_FLAGS + "persistent-volume-write")


def mount_engine_cache(draft: Draft, original: Original, book: Book, *, knative: bool) -> None:
    """Mount the claim that the annotation names at vLLM's cache folder, or at the user's own.

    Raises InvalidManifest for what is no name of a PersistentVolumeClaim.
    """
    node = original.node(*ANNOTATIONS, ENGINE_CACHE)
    if node is None:
        return
    claim = resource_name(node)
    env = draft.get(*MODEL, "env")
    own = [e for e in env if isinstance(e, dict)] if isinstance(env, list) else []
    folder = next((e.get("value") for e in own if e.get("name") == _ROOT), None) or _FOLDER
    volume: dict[str, JsonValue] = {"name": _VOLUME, "persistentVolumeClaim": {"claimName": claim}}
    draft.put((*PREDICTOR, "volumes"), volume, rules.ENGINE_CACHE)
    mount: dict[str, JsonValue] = {"name": _VOLUME, "mountPath": folder}
    draft.put((*MODEL, "volumeMounts"), mount, rules.ENGINE_CACHE)
    for name, value, why in (
        (_ROOT, _FOLDER, "where vLLM keeps compiled graphs and its start-up plan"),
        ("VLLM_ENABLE_STARTUP_PLAN", "1", "memory that was measured is not measured again"),
    ):
        draft.put((*MODEL, "env"), {"name": name, "value": value}, rules.ENGINE_CACHE, why)
    if not knative:
        return
    why = f"InferenceService {original.namespace}/{original.name} sets {node.path}"
    for flag in _FLAGS:
        if not SHIPPED.enabled(flag):
            book.need(Setting("config-features", flag, "enabled", why))
