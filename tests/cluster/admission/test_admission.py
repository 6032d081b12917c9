"""What a real cluster refuses is refused here too, and what it takes is taken.

The cluster's answers were recorded; `verdicts/README.md` says where. Where we differ, it is listed.
"""

from pathlib import Path
from typing import Any

import pytest
import yaml

from relume.base.errors import InvalidManifest
from relume.config import load
from tests.cluster.admission.recorded import RECORDED
from tests.config.manifests import broker, service, together

# Case → why our answer differs from the cluster's.
STRICTER = {
    "InferenceService: name of 60 characters": "admitted, and then the predictor is refused",
}
LAXER = {
    "Trigger: retryAfterMax PT1M": "honoured here; a cluster has a feature flag for it, off",
    "Service: annotation initial-scale 0": "starts at zero here; a cluster has a flag for it, off",
}


def manifest(case: dict[str, Any]) -> dict[str, Any] | None:
    """The case as a manifest for one machine; None where it asks for a custom container."""
    written: dict[str, Any] = case["manifest"]
    if written["kind"] in ("Broker", "Trigger"):
        return written
    base: dict[str, Any] = yaml.safe_load(service().replace("name: m", "name: adm"))
    if written["kind"] not in ("InferenceService", "Service"):
        return None
    if written["kind"] == "InferenceService":
        predictor = {k: v for k, v in written["spec"]["predictor"].items() if k != "containers"}
        if "resourceClaims" in predictor:
            return None
        base["metadata"] = written["metadata"]
        base["spec"]["predictor"] |= predictor
        return base
    template = written["spec"].get("template", {})
    fields = {
        "containerConcurrency": template.get("spec", {}).get("containerConcurrency"),
        "timeout": template.get("spec", {}).get("timeoutSeconds"),
    }
    annotations = template.get("metadata", {}).get("annotations")
    if not annotations and not any(fields.values()):
        return None
    base["metadata"]["annotations"] = annotations
    base["spec"]["predictor"] |= fields
    return base


CASES = [(case, found) for case in RECORDED if (found := manifest(case)) is not None]


def test_the_recorded_answers_are_there() -> None:
    assert len(CASES) > 30


@pytest.mark.parametrize(("case", "written"), CASES, ids=[case["case"] for case, _ in CASES])
def test_our_answer_is_the_clusters(
    tmp_path: Path, case: dict[str, Any], written: dict[str, Any]
) -> None:
    """Checklist A16."""
    (tmp_path / "case.yaml").write_text(yaml.safe_dump(written))
    (tmp_path / "load.yaml").write_text(together(broker(name="load"), service()))
    name = case["case"]
    expected = name in LAXER or (case["strict"] == "accepted" and name not in STRICTER)
    try:
        load([tmp_path])
        refusal = None
    except InvalidManifest as error:
        refusal = error
    assert (refusal is None) == expected, f"{case['message']} / {refusal}"
    if refusal is not None and name not in STRICTER and "[inferenceservice" not in case["message"]:
        last = refusal.field.rsplit(".", 1)[-1].rsplit("/", 1)[-1].split("[")[0]
        assert last in case["message"] or refusal.field == "spec.subscriber"
