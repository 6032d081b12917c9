"""IntegrationSource and IntegrationSink of Knative Eventing, as its webhook judges them.

Source: knative/eventing pkg/apis/sources/v1alpha1/integration_validation.go,
pkg/apis/sinks/v1alpha1/integration_sink_validation.go, pkg/apis/common/integration/v1alpha1.
"""

from collections.abc import Sequence

from relume.cluster.admission.judge import Judge, child, content, fields
from relume.cluster.admission.sources import spec_of
from relume.config.nodes import Node, Table

# What must be filled in for each service of AWS.
_NEEDED = {
    "s3": ("arn", "region"),
    "sqs": ("arn", "region"),
    "sns": ("arn", "region"),
    "ddbStreams": ("table", "region"),
}


def judge_integration_source(document: Table, judge: Judge) -> None:
    """sources.knative.dev/v1alpha1 IntegrationSource.

    The webhook does not ask for a sink; the ContainerSource that is made of it is refused without.
    """
    spec = spec_of(document)
    _judge_one(spec, "timer", ("s3", "sqs", "ddbStreams"), "source", judge)
    if child(spec, "sink", "ref") is None and child(spec, "sink", "uri") is None:
        message = "spec.sink is left empty, and admission takes it: the source never becomes ready"
        judge.say(spec, "left-empty", message, "Write spec.sink.ref or spec.sink.uri.", "spec.sink")


def judge_integration_sink(document: Table, judge: Judge) -> None:
    """sinks.knative.dev/v1alpha1 IntegrationSink."""
    _judge_one(spec_of(document), "log", ("s3", "sqs", "sns"), "sink", judge)


def _judge_one(spec: Node, plain: str, services: Sequence[str], what: str, judge: Judge) -> None:
    """Ask for exactly one type: `plain`, or one of the `services` of AWS."""
    aws = child(spec, "aws")
    chosen = [name for name in services if name in fields(aws)]
    count = len(chosen) + (plain in fields(spec))
    known = f"{plain}, aws.{', aws.'.join(services)}"
    if count > 1:
        message = f"only one {what} type can be set"
        judge.say(spec, "one-of", message, f"Keep one of {known}.")
    elif count == 0:
        message = f"at least one {what} type must be specified"
        judge.say(spec, "one-of", message, f"Write one of {known}.")
    elif aws is not None and chosen:
        _judge_service(aws, chosen[0], judge)


def _judge_service(aws: Node, name: str, judge: Judge) -> None:
    """Who asks AWS, and for what."""
    secret = content(aws, "auth", "secret", "ref", "name")
    if not secret and not content(aws, "auth", "serviceAccountName"):
        judge.missing(aws, "name", path=f"{aws.path}.auth.secret.ref")
    judge.check_filled(fields(aws)[name], *_NEEDED[name])
