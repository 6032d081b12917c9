"""What SinkBindings add to the environment of services.

`K_SINK` is the URL to which a service sends its events, `K_CE_OVERRIDES` what it adds to each of
them, as JSON; empty where the binding has no overrides (knative/eventing
`pkg/apis/sources/v1/sinkbinding_lifecycle.go`).
"""

import json
from collections.abc import Callable, Mapping

from relume.base.vocabulary import OVERRIDES_VARIABLE, SINK_VARIABLE
from relume.config import Destination, Plan, SinkBinding

# Namespace and name of a Service.
FullName = tuple[str, str]


def sink_environment(
    plan: Plan, resolve: Callable[[Destination, str], str]
) -> Mapping[FullName, Mapping[str, str]]:
    """The variables that the plan's SinkBindings add to each Service.

    `resolve(destination, namespace)` is the URL of a sink.
    """
    return {
        (binding.subject.namespace, binding.subject.name): {
            SINK_VARIABLE: resolve(binding.sink, binding.namespace),
            OVERRIDES_VARIABLE: _overrides(binding),
        }
        for binding in plan.sink_bindings
    }


def _overrides(binding: SinkBinding) -> str:
    if binding.extensions is None:
        return ""
    value = {"extensions": binding.extensions} if binding.extensions else {}
    return json.dumps(value, separators=(",", ":"), sort_keys=True)
