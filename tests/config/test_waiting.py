"""Annotations about clients that wait, and about a start before them."""

from pathlib import Path

import pytest

from relume.base.errors import InvalidManifest
from relume.config import load
from relume.config.schedules import Schedule
from relume.config.waiting import Waiting, waiting

SERVICE = """\
apiVersion: serving.kserve.io/v1beta1
kind: InferenceService
metadata:
  name: it
  annotations:
    {annotation}
spec:
  predictor:
    model:
      modelFormat: {{name: vLLM}}
      storageUri: hf://org/model
"""


def test_every_annotation_is_read() -> None:
    annotations = {
        "relume.dev/heartbeat": "15",
        "relume.dev/max-held": "100",
        "relume.dev/warm-at": "55 7 * * 1-5",
        "relume.dev/warm-timezone": "Europe/Berlin",
        "relume.dev/hang-after": "60",
    }
    schedule = Schedule("55 7 * * 1-5", "Europe/Berlin")
    assert waiting(annotations) == Waiting(True, 15, 100, schedule, 60)
    assert waiting({}) == waiting({"relume.dev/heartbeat": "false"}) == Waiting()
    assert waiting({"relume.dev/heartbeat": "true"}) == Waiting(heartbeat=True)


@pytest.mark.parametrize(
    ("annotation", "message"),
    [
        ('relume.dev/heartbeat: "yes"', 'invalid value: yes: write "true", or seconds from 1 to'),
        ('relume.dev/heartbeat: "0"', "invalid value: 0: write"),
        ('relume.dev/heartbeat: "61"', "invalid value: 61: write"),
        ('relume.dev/max-held: "0"', "invalid value: 0: write a number from 1 to"),
        ('relume.dev/max-held: "many"', "invalid value: many: write a number"),
        ('relume.dev/hang-after: "1m"', "invalid value: 1m: write seconds from 1 to 3600, or 0"),
        ('relume.dev/warm-at: "7:55"', "invalid value: it has 1 fields: write five"),
        ("relume.dev/warm-at: CRON_TZ=UTC 1 1 * * *", "the time zone in relume.dev/warm-timezone"),
        ("relume.dev/warm-timezone: Europe/Nowhere", "is not a time zone"),
        ("relume.dev/warm-timezone: UTC", "it counts only with relume.dev/warm-at"),
    ],
)
def test_a_wrong_one_is_refused_at_its_line(tmp_path: Path, annotation: str, message: str) -> None:
    file = tmp_path / "it.yaml"
    file.write_text(SERVICE.format(annotation=annotation))
    with pytest.raises(InvalidManifest, match=message) as refused:
        load([file])
    assert (refused.value.file, refused.value.line) == (file, 6)
