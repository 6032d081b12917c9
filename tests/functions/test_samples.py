"""The samples tickets and documents: their data is what their scripts make, their names fit."""

import importlib.util
import json
from collections import Counter
from pathlib import Path
from types import ModuleType

import pytest
import yaml

ROOT = Path(__file__).parents[2]
SAMPLES = ROOT / "config" / "samples"
#: Types of events that come from outside of the files of a sample.
FROM_OUTSIDE = {
    "tickets": {"com.example.ticket.created"},
    "documents": {
        "com.example.document.received",
        "com.example.document.asked",
        "dev.knative.sources.ping",
    },
}
MODELS = {"relume.inference.response", "relume.inference.error"}
#: What the functions of a sample emit, by their configuration and defaults.
EMITTED = {
    "tickets": {
        "com.example.ticket.redacted",
        "com.example.ticket.prompted",
        "com.example.ticket.asked",
        "com.example.ticket.sorted",
        "com.example.ticket.done",
        "relume.function.error",
    },
    "documents": {"com.example.document.part", "com.example.document.embed"},
}


def documents(sample: str) -> list[dict]:
    return list(yaml.safe_load_all((SAMPLES / sample / f"{sample}.yaml").read_text()))


def script(sample: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(sample, SAMPLES / sample / f"{sample}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def exact_types(trigger: dict) -> set[str]:
    found: set[str] = set()
    for one in trigger["spec"]["filters"]:
        found |= {each["exact"]["type"] for each in one.get("any", [one])}
    return found


def test_the_tickets_are_those_that_the_script_makes() -> None:
    lines = (SAMPLES / "tickets" / "tickets.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == list(script("tickets").made(seed=11))
    assert len(lines) == 100
    assert len({json.loads(line)["subject"] for line in lines}) == 100


def test_as_many_tickets_are_bad_as_the_readme_says() -> None:
    """The schema of `prompt` and the form of the data decide."""
    from jsonschema import Draft202012Validator

    schema = ROOT / "functions" / "prompt" / "function" / "config" / "ticket.schema.json"
    validator = Draft202012Validator(json.loads(schema.read_text()))
    events = script("tickets").made(seed=11)
    verdicts = Counter("data" in e and validator.is_valid(e["data"]) for e in events)
    assert verdicts == {True: 84, False: 16}
    assert "84 tickets that can be sorted, and 16" in (SAMPLES / "tickets/README.md").read_text()


def test_the_receiver_knows_the_secret_of_the_sample() -> None:
    (secret,) = [each for each in documents("tickets") if each["kind"] == "Secret"]
    assert secret["stringData"]["secret"] == script("tickets").SECRET


def test_the_receiver_takes_only_what_is_signed() -> None:
    """The example of the Standard Webhooks specification, with its secret."""
    tickets = script("tickets")
    tickets.SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    headers = {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }
    assert tickets.signed(headers, b'{"test": 2432232314}')
    assert not tickets.signed(headers, b'{"test": 2432232315}')


def test_the_handbook_has_forty_pages_that_the_script_makes() -> None:
    text = (SAMPLES / "documents" / "handbook.txt").read_text()
    assert text.split("\f") == script("documents").pages(seed=11)
    assert len(text.split("\f")) == 40


@pytest.mark.parametrize("sample", ["tickets", "documents"])
def test_every_subscriber_is_there(sample: str) -> None:
    read = documents(sample)
    known = {(each["kind"], each["metadata"]["name"]) for each in read}
    known |= {("Service", path.parent.name) for path in ROOT.glob("functions/*/func.yaml")}
    for trigger in (each for each in read if each["kind"] == "Trigger"):
        ref = trigger["spec"]["subscriber"]["ref"]
        sink = trigger["spec"]["delivery"]["deadLetterSink"]["ref"]
        assert (ref["kind"], ref["name"]) in known
        assert (sink["kind"], sink["name"]) in known
        assert ("Broker", trigger["spec"]["broker"]) in known


@pytest.mark.parametrize("sample", ["tickets", "documents"])
def test_every_type_that_is_emitted_is_wanted_and_none_else(sample: str) -> None:
    wanted = Counter(
        type_
        for each in documents(sample)
        if each["kind"] == "Trigger"
        for type_ in exact_types(each)
    )
    assert set(wanted) == FROM_OUTSIDE[sample] | EMITTED[sample] | MODELS


def test_the_types_of_the_functions_are_those_of_the_samples() -> None:
    def config(name: str) -> dict:
        folder = ROOT / "functions" / name / "function" / "config"
        return yaml.safe_load((folder / f"{name}.yaml").read_text())

    tickets, parts = EMITTED["tickets"], EMITTED["documents"]
    redact, extract = config("redact"), config("extract")
    made = {*redact["redact"].values(), *redact["restore"].values(), config("prompt")["type"]}
    made |= {extract["type"], extract["request_type"], "relume.function.error"}
    assert made == tickets
    assert {config("split-join")["request_type"], "com.example.document.embed"} == parts
    assert set(redact["redact"]) == FROM_OUTSIDE["tickets"]
