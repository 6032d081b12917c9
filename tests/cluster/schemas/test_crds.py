"""Every field that we know is in the API's own schema, and none of the schema is unknown to us."""

from collections.abc import Mapping
from functools import cache

import pytest
import yaml

from relume.config import eventing, model, service_fields
from relume.config.fields import Fields
from tests.vectors import vector

SERVICE = ("kserve/serving.kserve.io_inferenceservices.yaml", "v1beta1")
TRIGGER = ("knative-eventing/trigger.yaml", "v1")
BROKER = ("knative-eventing/broker.yaml", "v1")
MODEL = ("spec", "predictor", "model")

# Fields that the API's types have and the CRDs leave to x-kubernetes-preserve-unknown-fields
# (knative/eventing pkg/apis/duck/v1/delivery_types.go, knative/pkg apis/duck/v1).
BEYOND_THE_CRD = {
    "DELIVERY": {"timeout", "retryAfterMax", "format"},
    "REF": {"group", "address"},
}

TABLES = [
    ("SPEC", service_fields.SPEC, SERVICE, ("spec",)),
    ("PREDICTOR", service_fields.PREDICTOR, SERVICE, ("spec", "predictor")),
    ("MODEL", service_fields.MODEL, SERVICE, MODEL),
    ("MODEL_FORMAT", service_fields.MODEL_FORMAT, SERVICE, (*MODEL, "modelFormat")),
    ("RESOURCES", service_fields.RESOURCES, SERVICE, (*MODEL, "resources")),
    ("ENVIRONMENT", model.ENVIRONMENT, SERVICE, (*MODEL, "env", "[]")),
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
IDS = [f"{name}-{crd[0].split('/')[-1]}" for name, _, crd, _ in TABLES]


@cache
def schema(file: str, version: str) -> Mapping[str, object]:
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    crd = yaml.load(vector(f"crds/{file}").read_text(), Loader=loader)
    (served,) = [v for v in crd["spec"]["versions"] if v["name"] == version]
    found: Mapping[str, object] = served["schema"]["openAPIV3Schema"]
    return found


def properties(crd: tuple[str, str], path: tuple[str, ...]) -> set[str]:
    at = schema(*crd)
    for name in path:
        at = at["items"] if name == "[]" else at["properties"][name]  # type: ignore[index,assignment]
    return set(at["properties"])  # type: ignore[call-overload]


@pytest.mark.parametrize(("name", "fields", "crd", "path"), TABLES, ids=IDS)
def test_every_field_that_we_know_is_in_the_crd(
    name: str, fields: Fields, crd: tuple[str, str], path: tuple[str, ...]
) -> None:
    assert fields.known - properties(crd, path) <= BEYOND_THE_CRD.get(name, set())


@pytest.mark.parametrize(("name", "fields", "crd", "path"), TABLES, ids=IDS)
def test_every_field_of_the_crd_is_honoured_left_out_or_refused_by_name(
    name: str, fields: Fields, crd: tuple[str, str], path: tuple[str, ...]
) -> None:
    assert properties(crd, path) - fields.known == set()


@pytest.mark.parametrize("fields", [table[1] for table in TABLES], ids=IDS)
def test_a_field_has_one_fate(fields: Fields) -> None:
    fates = [*fields.honoured, *fields.harmless, *fields.refused]
    assert len(fates) == len(set(fates))
