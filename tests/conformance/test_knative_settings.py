"""Our figures of Knative's settings are those of the config maps that it ships."""

import pytest
import yaml

from tests.knative_settings import SHIPPED
from tests.vectors import published, vector

pytestmark = published


@pytest.mark.parametrize("name", SHIPPED)
def test_the_settings_are_those_that_knative_ships(name: str) -> None:
    config = yaml.safe_load(vector(f"knative-config/{name}.yaml").read_text())
    shipped = yaml.safe_load(config["data"]["_example"])
    ours = SHIPPED[name]
    assert {key: shipped.get(key) for key in ours} == ours
    if name in ("autoscaler", "features"):
        assert ours.keys() == shipped.keys(), "a setting is new or gone"
