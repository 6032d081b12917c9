"""Published manifests of Knative Eventing's and KServe's kinds get the verdict that is right.

They were reduced from samples of the projects, each with its verdict and where it follows from.
What the right verdict adds ("feature-off new-apiserversource-filters") must be in what is said.
"""

import json
from pathlib import Path
from typing import Any

from relume.cluster.doctor import Diagnosis, examine
from tests.vectors import published, vector

ELSEWHERE = {"InferenceService", "ServingRuntime", "ClusterServingRuntime"}
GROUPS = ("eventing.knative.dev", "messaging.knative.dev", "sources.knative.dev")
GROUPS += ("sinks.knative.dev", "serving.kserve.io", "resource.k8s.io/v1beta1")


def cases() -> list[tuple[dict[str, Any], Diagnosis]]:
    """The samples that are ours, and what the doctor says of each."""
    index = json.loads(vector("samples/index.json").read_text())
    found = []
    for case in index["cases"]:
        if case["command"].startswith("relume doctor"):
            (one,) = examine([Path(vector(f"samples/{case['file']}"))])
            if one.api_version.startswith(GROUPS) and one.kind not in ELSEWHERE:
                found.append((case, one))
    return found


@published
def test_published_samples_get_the_right_verdict() -> None:
    found = cases()
    assert len(found) >= 12
    for case, one in found:
        right = case["expected"].split()[0].rstrip(",;")
        assert one.verdict == right, case["file"]
        said = " ".join(f"{f.reason} {f.message} {f.fix}" for f in one.findings)
        for word in ("no matches for kind", "feature-off", "new-apiserversource-filters"):
            if word in case["expected"]:
                assert word in said, case["file"]
    print(f"{len(found)} published samples of Knative Eventing and KServe hold")
