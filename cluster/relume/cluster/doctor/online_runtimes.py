"""Runtimes that a cluster refuses beside its own, or that take over its services."""

from collections.abc import Iterator, Sequence

from relume.cluster.admission.runtime_choice import RuntimeFacts, chosen, clash, need_of
from relume.cluster.apply.api import ClusterApi, text
from relume.cluster.apply.manifests import runtimes_there
from relume.cluster.doctor.runtimes import FORMATS, facts_in, formats_in
from relume.cluster.findings import Finding, at
from relume.cluster.reasons import REASONS
from relume.config.nodes import Table

_SERVICES = "/apis/serving.kserve.io/v1beta1/inferenceservices"


def check_runtimes(
    api: ClusterApi, documents: Sequence[Table], installed: bool
) -> Iterator[Finding]:
    """The runtimes of files beside those of a cluster; `installed`: whether KServe is there."""
    if not documents or not installed:
        return
    new = [facts_in(document) for document in documents]
    there = runtimes_there(api, {one.namespace for one in new if one.namespace})
    for one, document in zip(new, documents, strict=True):
        for other in there:
            message = clash(one, other)
            if message is not None:
                yield at(formats_in(document), "runtime-clash", message, field=FORMATS)
    yield from _check_takeover(api, new, there)


def _check_takeover(
    api: ClusterApi, new: Sequence[RuntimeFacts], there: Sequence[RuntimeFacts]
) -> Iterator[Finding]:
    """Services of the cluster that would run on another runtime than they do now."""
    names = {(one.namespace, one.name) for one in new}
    kept = [one for one in there if (one.namespace, one.name) not in names]
    for service in api.list(_SERVICES) or ():
        need = need_of(service)
        if need is None:
            continue
        now, then = chosen(need, there), chosen(need, [*kept, *new])
        if now is not None and then is not None and now.name != then.name:
            name = f"{need.namespace}/{text(service, 'metadata', 'name')}"
            message = f"InferenceService {name} goes from {now.name} to {then.name}"
            reason = "runtime-takes-over"
            yield Finding(reason, f"{then.name}: {name}", message, REASONS[reason].fix)
