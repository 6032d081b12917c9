"""PingSources, SinkBindings and schedules: knative/eventing `pkg/apis/sources/v1`, robfig/cron."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from relume.config import Destination, PingSource
from relume.config.schedules import Schedule

from .manifests import HERE, load_text, refused, source, together

SINK = "sink: {uri: 'http://127.0.0.1:9/'}"
SUBJECT = "subject: {apiVersion: serving.knative.dev/v1, kind: Service, name: s}"


def test_a_ping_source_has_the_defaults_of_a_cluster(tmp_path: Path) -> None:
    [read] = load_text(tmp_path, source("PingSource", SINK)).ping_sources
    assert read == PingSource("default", "f", Destination(uri="http://127.0.0.1:9/"), "* * * * *")


def test_a_ping_source_with_everything(tmp_path: Path) -> None:
    spec = f"""\
{SINK}
schedule: "0 */2 * * *"
timezone: Europe/Berlin
contentType: application/json
dataBase64: eyJhIjogMX0=
ceOverrides: {{extensions: {{kind: nightly}}}}
"""
    [read] = load_text(tmp_path, source("PingSource", spec)).ping_sources
    assert (read.schedule, read.timezone, read.data) == (
        "0 */2 * * *",
        "Europe/Berlin",
        b'{"a": 1}',
    )
    assert (read.content_type, read.extensions) == ("application/json", {"kind": "nightly"})


@pytest.mark.parametrize(
    "spec, field, message",
    [
        ("schedule: '* * * * *'", "spec.sink", "is missing"),
        (f"{SINK}\nschedule: '* * * *'  {HERE}", "spec.schedule", "it has 4 fields"),
        (f"{SINK}\nschedule: '99 * * * *'  {HERE}", "spec.schedule", "Bad minute"),
        (f"{SINK}\nschedule: '@every 1h'  {HERE}", "spec.schedule", "@every is not a descriptor"),
        (f"{SINK}\nschedule: '0 0 L * *'  {HERE}", "spec.schedule", "not known to Knative"),
        (f"{SINK}\nschedule: '0 0 30 2 *'  {HERE}", "spec.schedule", "Bad day-of-month"),
        (f"{SINK}\nschedule: 'TZ=UTC 0 0 * * *'  {HERE}", "spec.schedule", "in spec.timezone"),
        (f"{SINK}\ntimezone: Nowhere/At  {HERE}", "spec.timezone", "is not a time zone"),
        (f"{SINK}\ndata: a\ndataBase64: YQ==  {HERE}", "spec.dataBase64", "got both"),
        (f"{SINK}\ndataBase64: 'a'  {HERE}", "spec.dataBase64", "it is no base64"),
        (
            f"{SINK}\ncontentType: application/json\ndata: '[1]'  {HERE}",
            "spec.data",
            "no JSON object",
        ),
        (
            f"{SINK}\nceOverrides: {{extensions: {{Kind: x}}}}  {HERE}",
            "spec.ceOverrides.extensions.Kind",
            "lower case letters",
        ),
        (
            f"{SINK}\nceOverrides: {{extensions: {{id: x}}}}  {HERE}",
            "spec.ceOverrides.extensions.id",
            "invalid key name: id",
        ),
        (
            f'{SINK}\nceOverrides: {{extensions: {{a: "x\\ty"}}}}  {HERE}',
            "spec.ceOverrides.extensions.a",
            "control character",
        ),
        (f'{SINK}\ncontentType: "a\\nb"  {HERE}', "spec.contentType", "control character"),
        (f"{SINK}\njsonData: x  {HERE}", "spec.jsonData", "unknown field"),
    ],
)
def test_a_ping_source_that_is_wrong_is_refused_by_its_field(
    tmp_path: Path, spec: str, field: str, message: str
) -> None:
    refused(tmp_path, source("PingSource", spec), field, message)


@pytest.mark.parametrize(
    "spec, field, message",
    [
        (SINK, "spec.subject", "is missing"),
        (SUBJECT, "spec.sink", "is missing"),
        (
            f"{SINK}\nsubject: {{apiVersion: apps/v1, kind: Deployment, name: s}}  {HERE}",
            "spec.subject.kind",
            "Deployment is not run on this machine: write Service",
        ),
        (
            f"{SINK}\n{SUBJECT[:-1]}, selector: {{}}}}  {HERE}",
            "spec.subject.selector",
            "selects by label",
        ),
        (
            f"{SINK}\n{SUBJECT[:-1]}, namespace: other}}  {HERE}",
            "spec.subject.namespace",
            "in one namespace",
        ),
        (f"{SINK}\n{SUBJECT}  {HERE}", "spec.subject.name", "no Service default/s is in these"),
    ],
)
def test_a_sink_binding_that_is_wrong_is_refused_by_its_field(
    tmp_path: Path, spec: str, field: str, message: str
) -> None:
    refused(tmp_path, source("SinkBinding", spec), field, message)


def test_two_sources_of_one_name_are_refused(tmp_path: Path) -> None:
    text = together(source("PingSource", SINK), source("PingSource", SINK))
    refused(tmp_path, text, "metadata.name", "PingSource default/f is already defined at")


# ---- schedules: robfig/cron v3, parser.go and spec.go


@pytest.mark.parametrize(
    "text, after, expected",
    [
        ("* * * * *", "2026-01-01T00:00:00", "2026-01-01T00:01:00"),
        ("*/15 * * * * *", "2026-01-01T00:00:00", "2026-01-01T00:00:15"),
        ("0 5 * * MON-FRI", "2026-01-02T05:00:00", "2026-01-05T05:00:00"),
        ("0 0 1,15 * *", "2026-01-02T00:00:00", "2026-01-15T00:00:00"),
        ("@hourly", "2026-01-01T00:30:00", "2026-01-01T01:00:00"),
        ("@yearly", "2026-01-01T00:30:00", "2027-01-01T00:00:00"),
        # A day matches both of its fields where one is * or ?, else either of them.
        ("0 0 13 * ?", "2026-01-01T00:00:00", "2026-01-13T00:00:00"),
        ("0 0 13 * FRI", "2026-01-01T00:00:00", "2026-01-02T00:00:00"),
        # `*/n` of days chooses days; only a bare * is any day.
        ("0 0 */10 * FRI", "2026-01-02T00:00:00", "2026-01-09T00:00:00"),
        ("0 0 * * */6", "2026-01-01T00:00:00", "2026-01-03T00:00:00"),
    ],
)
def test_the_next_time_of_a_schedule(text: str, after: str, expected: str) -> None:
    moment = datetime.fromisoformat(after).replace(tzinfo=UTC)
    assert Schedule(text).after(moment) == datetime.fromisoformat(expected).replace(tzinfo=UTC)


def test_a_schedule_has_the_hours_of_its_time_zone() -> None:
    schedule = Schedule("0 9 * * *", "Europe/Berlin")
    winter = schedule.after(datetime(2026, 1, 1, tzinfo=UTC))
    summer = schedule.after(datetime(2026, 7, 1, tzinfo=UTC))
    assert winter is not None and summer is not None
    assert (winter.hour, summer.hour) == (8, 7)


def test_a_time_that_summer_time_skips_does_not_come() -> None:
    """robfig/cron: jobs in the hour that is skipped do not run."""
    schedule = Schedule("30 2 * * *", "Europe/Berlin")
    last = schedule.after(datetime(2026, 3, 28, 12, tzinfo=UTC))
    assert last == datetime(2026, 3, 30, 0, 30, tzinfo=UTC)  # and nothing on the 29th


def test_a_time_that_winter_time_repeats_comes_twice() -> None:
    schedule = Schedule("30 2 * * *", "Europe/Berlin")
    first = schedule.after(datetime(2026, 10, 24, 12, tzinfo=UTC))
    assert first == datetime(2026, 10, 25, 0, 30, tzinfo=UTC)
    assert schedule.after(first) == datetime(2026, 10, 25, 1, 30, tzinfo=UTC)
