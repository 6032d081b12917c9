"""The published suites, which stand outside of the repository: RELUME_VECTORS names their folder.

They are what other projects publish of the behaviour that we implement: the CESQL technology
compatibility kit, the CloudEvents conformance events, feature file and JSON Schema, the CRDs of
Knative and KServe, Knative's config maps, and what a real cluster answered to manifests. The tests
that read them have the mark `published`; without the folder they are left out (see
`tests/conftest.py`), and cases of our own, written from the specifications' clauses, cover the same
ground.
"""

import os
from pathlib import Path

import pytest

VARIABLE = "RELUME_VECTORS"
published = pytest.mark.published

# What each suite must have: the pattern of its files, and at least how many of them.
_SUITES = {
    "cesql-tck/*.yaml": 18,
    "cloudevents/cloudevents.json": 1,
    "cloudevents/http-protocol-binding.feature": 1,
    "cloudevents/v1.yaml": 1,
    "cloudevents/v1.0/v1_minimum.yaml": 1,
    "crds/knative-serving/*.yaml": 5,
    "crds/knative-eventing/*.yaml": 18,
    "crds/knative-kafka/*.yaml": 5,
    "crds/kserve/*.yaml": 12,
    "knative-config/*.yaml": 4,
    "samples/index.json": 1,
    "verdicts.json": 1,
}


def folder() -> Path | None:
    """The folder that the environment names, or None."""
    named = os.environ.get(VARIABLE)
    return Path(named) if named else None


def vector(name: str) -> Path:
    """The file or folder `name` of the published suites; only tests marked `published` ask."""
    root = folder()
    assert root is not None, f"set {VARIABLE}"
    return root / name


def missing(root: Path) -> list[str]:
    """The files that `root` lacks, as patterns."""
    return [pattern for pattern, least in _SUITES.items() if len([*root.glob(pattern)]) < least]
