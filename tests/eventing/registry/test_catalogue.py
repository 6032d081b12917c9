"""What a Broker's ingress tells about its events, and that everything else stays Knative's (B1)."""

import httpx
import pytest
import yaml
from starlette.responses import PlainTextResponse

from relume.eventing.registry.documents import Catalogue, asyncapi, schema_file
from relume.eventing.registry.events import SCHEMA_NAMES
from tests.eventing.stage import BrokerStage


async def ask(method: str, path: str) -> httpx.Response:
    """Through a catalogue in front of an ingress that answers with its name."""
    app = Catalogue(PlainTextResponse("ingress"))
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app), base_url="http://broker"
    ) as client:
        return await client.request(method, path)


async def test_the_document_is_served_as_json_and_as_yaml() -> None:
    as_json, as_yaml = await ask("GET", "/asyncapi.json"), await ask("GET", "/asyncapi.yaml")
    assert as_json.headers["content-type"] == "application/json"
    assert as_json.json() == yaml.safe_load(as_yaml.text) == asyncapi()


@pytest.mark.parametrize("name", SCHEMA_NAMES)
async def test_each_schema_is_served_under_its_name(name: str) -> None:
    answer = await ask("GET", f"/schemas/{name}.json")
    assert answer.headers["content-type"] == "application/schema+json"
    assert answer.json() == schema_file(name)
    head = await ask("HEAD", f"/schemas/{name}.json")
    assert int(head.headers["content-length"]) == len(answer.content)


@pytest.mark.parametrize(
    "method, path",
    [
        ("POST", "/asyncapi.json"),
        ("POST", "/schemas/response.json"),
        ("OPTIONS", "/asyncapi.json"),
        ("GET", "/schemas/other.json"),
        ("GET", "/schemas"),
        ("GET", "/"),
        ("GET", "/default/b"),
    ],
)
async def test_everything_else_goes_to_the_ingress(method: str, path: str) -> None:
    assert (await ask(method, path)).text == "ingress"


async def test_b1_a_get_of_a_broker_stays_405() -> None:
    async with BrokerStage([]) as stage:
        transport = httpx.ASGITransport(Catalogue(stage.plane.app))
        async with httpx.AsyncClient(transport=transport, base_url="http://broker") as client:
            for path in ("/default/b", "/", "/schemas/nothing.json"):
                answer = await client.get(path)
                assert (answer.status_code, answer.headers["allow"]) == (405, "POST, OPTIONS")
