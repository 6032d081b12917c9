"""Whether this machine can run a plan: the judgement of `relume up`, which `render` never makes."""

from relume.base.errors import InvalidInput, InvalidManifest
from relume.config.resources import Plan


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
    if plan.cannot_run:
        return
    if not (plan.services or plan.brokers or plan.triggers):
        files = sorted({str(other.origin.file) for other in plan.others})
        raise InvalidInput(
            f"{', '.join(files)}: no InferenceService, Broker or Trigger is in there",
            reason="no-manifest",
        )
