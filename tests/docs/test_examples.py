"""The alerts of docs/examples: rules as Prometheus reads them, with something to do for each."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from relume.cluster.doctor import examine
from relume.config.durations import go_duration

ALERTS = Path(__file__).parents[2] / "docs" / "examples" / "alerts.yaml"
#: Functions and keywords of PromQL that the rules use, and labels that they join by.
WORDS = {
    "sum",
    "by",
    "rate",
    "increase",
    "avg_over_time",
    "histogram_quantile",
    "on",
    "group_left",
    "le",
    "namespace",
    "pod",
    "phase",
    "container",
    "label_serving_kserve_io_inferenceservice",
    "m",
}
#: Series of kube-state-metrics, from its documentation of pods.
KUBE = {
    "kube_pod_status_phase",
    "kube_pod_labels",
    "kube_pod_container_status_restarts_total",
}
(GROUP,) = yaml.safe_load(ALERTS.read_text(encoding="utf-8"))["spec"]["groups"]


@pytest.mark.parametrize("rule", GROUP["rules"], ids=lambda rule: rule["alert"])
def test_the_rule_is_one(rule: dict[str, Any]) -> None:
    assert rule.keys() <= {"alert", "expr", "for", "labels", "annotations"}
    assert rule["labels"]["severity"] in ("page", "ticket")
    assert rule["annotations"].keys() == {"summary", "do"}
    assert go_duration(rule.get("for", "0s")) <= 900
    expression = rule["expr"]
    assert expression.count("(") == expression.count(")")
    assert expression.count("{") == expression.count("}")
    names = set(re.findall(r"[a-z_]\w*(?::\w+)?", re.sub(r'"[^"]*"', "", expression)))
    series = {name for name in names if name not in WORDS}
    assert series, "it reads something"
    assert {name for name in series if not name.startswith("vllm:")} <= KUBE


def test_the_doctor_takes_the_file() -> None:
    (one,) = examine([ALERTS])
    assert one.verdict in ("accepted", "fields-only", "unchecked")
    assert not [finding for finding in one.findings if finding.severity == "error"]
