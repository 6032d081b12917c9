"""Every field that we know is in the API's own schema, and none of the schema is unknown to us."""

import pytest

from relume.config import environment, eventing, service_fields
from relume.config.fields import Fields
from tests.custom_kinds import BROKER, INFERENCE_SERVICE, ORIGINS, TRIGGER, CustomKind

MODEL = ("spec", "predictor", "model")

# Fields that the API's types have and the CRDs leave to x-kubernetes-preserve-unknown-fields
# (knative/eventing pkg/apis/duck/v1/delivery_types.go, knative/pkg apis/duck/v1).
BEYOND_THE_CRD = {
    "DELIVERY": {"timeout", "retryAfterMax", "format"},
    "REF": {"group", "address"},
}

TABLES = [
    ("SPEC", service_fields.SPEC, INFERENCE_SERVICE, ("spec",)),
    ("PREDICTOR", service_fields.PREDICTOR, INFERENCE_SERVICE, ("spec", "predictor")),
    ("MODEL", service_fields.MODEL, INFERENCE_SERVICE, MODEL),
    ("MODEL_FORMAT", service_fields.MODEL_FORMAT, INFERENCE_SERVICE, (*MODEL, "modelFormat")),
    ("RESOURCES", service_fields.RESOURCES, INFERENCE_SERVICE, (*MODEL, "resources")),
    ("ENVIRONMENT", environment.ENVIRONMENT, INFERENCE_SERVICE, (*MODEL, "env", "[]")),
    ("BROKER_SPEC", eventing.BROKER_SPEC, BROKER, ("spec",)),
    ("DELIVERY", eventing.DELIVERY, BROKER, ("spec", "delivery")),
    ("DELIVERY", eventing.DELIVERY, TRIGGER, ("spec", "delivery")),
    ("TRIGGER_SPEC", eventing.TRIGGER_SPEC, TRIGGER, ("spec",)),
    ("LEGACY_FILTER", eventing.LEGACY_FILTER, TRIGGER, ("spec", "filter")),
    ("FILTER", eventing.FILTER, TRIGGER, ("spec", "filters", "[]")),
    ("DESTINATION", eventing.DESTINATION, TRIGGER, ("spec", "subscriber")),
    ("REF", eventing.REF, TRIGGER, ("spec", "subscriber", "ref")),
    ("DESTINATION", eventing.DESTINATION, TRIGGER, ("spec", "delivery", "deadLetterSink")),
]
IDS = [f"{name} of {kind.kind}" for name, _, kind, _ in TABLES]


@pytest.mark.parametrize("origin", ORIGINS)
@pytest.mark.parametrize(("name", "fields", "kind", "path"), TABLES, ids=IDS)
def test_every_field_that_we_know_is_in_the_crd(
    name: str, fields: Fields, kind: CustomKind, path: tuple[str, ...], origin: str
) -> None:
    assert fields.known - kind.properties(origin, path) <= BEYOND_THE_CRD.get(name, set())


@pytest.mark.parametrize("origin", ORIGINS)
@pytest.mark.parametrize(("name", "fields", "kind", "path"), TABLES, ids=IDS)
def test_every_field_of_the_crd_is_honoured_left_out_or_refused_by_name(
    name: str, fields: Fields, kind: CustomKind, path: tuple[str, ...], origin: str
) -> None:
    assert kind.properties(origin, path) - fields.known == set()


@pytest.mark.parametrize("fields", [table[1] for table in TABLES], ids=IDS)
def test_a_field_has_one_fate(fields: Fields) -> None:
    fates = [*fields.honoured, *fields.harmless, *fields.refused]
    assert len(fates) == len(set(fates))
