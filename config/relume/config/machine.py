"""Whether this machine can run a plan: the judgement of `relume up`, which `render` never makes."""

from relume.base.errors import InvalidInput, InvalidManifest
from relume.config.plan import Plan


def require_runnable(plan: Plan) -> None:
    """Raise InvalidManifest for the first thing that this machine cannot do.

    Raises InvalidInput where nothing is there to run.
    """
    for wrong in plan.cannot_run:
        at = wrong.origin
        raise InvalidManifest(wrong.why, file=at.file, line=at.line, field=at.field)
    require_something(plan)


def require_something(plan: Plan) -> None:
    """Raise InvalidInput for a plan of documents that are all listed, and none of them run."""
    if not (plan.runs_something or plan.cannot_run):
        origins = [*(o.origin for o in plan.others), *(o.origin for o in plan.objects)]
        files = sorted({str(origin.file) for origin in origins if origin is not None})
        raise InvalidInput(
            f"{', '.join(files)}: nothing in there runs by itself: add an InferenceService, a "
            "function, a Broker, a flow or a source",
            reason="no-manifest",
        )
