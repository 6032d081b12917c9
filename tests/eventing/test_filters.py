"""The filter dialects of Triggers and the rule between `filters` and `filter` (B10)."""

import pytest

from relume.cesql.parser import ParseError
from relume.cloudevents.event import CloudEvent
from relume.config import (
    All,
    Any_,
    Cesql,
    Destination,
    Exact,
    Filter,
    Negation,
    Prefix,
    Suffix,
    Trigger,
)
from relume.eventing.filters import wanted_by

EVENT = CloudEvent.create(
    {
        "id": "1",
        "source": "/orders/eu",
        "type": "com.example.order.created",
        "count": 5,
        "urgent": True,
        "empty": "",
    },
    b'{"type": "com.example.other"}',
)


def wants(*filters: Filter, legacy: dict[str, str] | None = None, none_given: bool = False) -> bool:
    return wanted_by(
        Trigger(
            "default",
            "t",
            "b",
            Destination(uri="http://x"),
            filters=None if none_given else filters,
            legacy_attributes=legacy,
        )
    )(EVENT)


@pytest.mark.parametrize(
    ("filter_", "expected"),
    [
        (Exact({"type": "com.example.order.created"}), True),
        (Exact({"type": "COM.example.order.created"}), False),
        (Exact({"type": "com.example.order.created", "source": "/orders/eu"}), True),
        (Exact({"type": "com.example.order.created", "source": "/orders"}), False),
        (Exact({"missing": ""}), False),
        (Exact({"empty": ""}), True),
        (Exact({"count": "5"}), True),
        (Exact({"urgent": "true"}), True),
        (Exact({"urgent": "True"}), False),
        (Prefix({"type": "com.example."}), True),
        (Prefix({"type": "example."}), False),
        (Prefix({"type": ""}), True),
        (Prefix({"missing": ""}), False),
        (Suffix({"type": ".created"}), True),
        (Suffix({"type": ".created", "source": "/us"}), False),
        (Suffix({"missing": ""}), False),
        (All((Prefix({"type": "com."}), Suffix({"source": "eu"}))), True),
        (All((Prefix({"type": "com."}), Suffix({"source": "us"}))), False),
        (Any_((Prefix({"type": "org."}), Suffix({"source": "eu"}))), True),
        (Any_((Prefix({"type": "org."}), Suffix({"source": "us"}))), False),
        (Negation(Exact({"source": "/orders/eu"})), False),
        (Negation(Exact({"missing": "x"})), True),
        (
            Negation(
                Any_(
                    (
                        Exact({"type": "x"}),
                        All((Exact({"count": "5"}), Negation(Exact({"id": "2"})))),
                    )
                ),
            ),
            False,
        ),
        (Cesql("type LIKE '%.created' AND count > 4"), True),
        (Cesql("type LIKE '%.created' AND count > 5"), False),
        (Cesql("urgent"), True),
        (Cesql("count"), False),
        (Cesql("source"), False),
        (Cesql("missing = 'x'"), False),
        (Cesql("type > 1"), False),
        (Cesql("EXISTS data"), False),
        (Negation(Cesql("missing = 'x'")), True),
        (All((Cesql("EXISTS empty"), Any_((Cesql("1 / 0 = 1"), Exact({"id": "1"}))))), True),
    ],
)
def test_a_filter_tests_attributes_as_text(filter_: Filter, expected: bool) -> None:
    assert wants(filter_) is expected


def test_all_filters_of_a_trigger_must_pass() -> None:
    assert wants(Exact({"id": "1"}), Prefix({"type": "com."}))
    assert not wants(Exact({"id": "1"}), Prefix({"type": "org."}))


def test_an_expression_that_does_not_parse_is_no_filter() -> None:
    with pytest.raises(ParseError):
        wants(Cesql("type = "))


def test_a_trigger_without_filters_wants_everything() -> None:
    assert wants(none_given=True)
    assert wants()
    assert wants(legacy={})


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        ({"type": "com.example.order.created"}, True),
        ({"type": "com.example.order"}, False),
        ({"type": ""}, True),
        ({"missing": ""}, False),
        ({"empty": ""}, False),
        ({"count": "5", "source": ""}, True),
    ],
)
def test_in_legacy_attributes_an_empty_value_asks_for_any_value(
    attributes: dict[str, str], expected: bool
) -> None:
    assert wants(legacy=attributes, none_given=True) is expected


def test_filters_override_the_legacy_filter_unless_there_are_none() -> None:
    assert wants(Exact({"id": "1"}), legacy={"id": "2"})
    assert not wants(Exact({"id": "2"}), legacy={"id": "1"})
    assert not wants(legacy={"id": "2"})
