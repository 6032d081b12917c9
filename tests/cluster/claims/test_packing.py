"""Twenty-one services on four GPUs: who gets which device, who gets none, and why."""

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest

from relume.cli.main import run
from relume.cluster.claims import documents, packing
from relume.cluster.claims.explain import survey
from relume.cluster.claims.packing import Packing
from relume.cluster.claims.picture import svg
from tests.cluster.claims.building import (
    EXAMPLES,
    Json,
    claim,
    device,
    device_class,
    document,
    request,
    resource_slice,
)

GIB = 1 << 30


def packed(services: str, inventory: str) -> Packing:
    asked = documents.read(EXAMPLES / f"twenty-one-{services}.yaml")
    return packing.pack(survey(asked, documents.read(EXAMPLES / f"{inventory}.yaml")))


@pytest.mark.parametrize(
    ("services", "inventory", "fit", "held", "why"),
    [
        ("whole", "four-h100", [1, 1, 1, 1], 79.6, "4 match, 4 in use by"),
        (
            "shares",
            "four-h100-shared",
            [5, 5, 5, 5],
            75.0,
            "memory: 15Gi asked for, at most 4.6Gi left of one",
        ),
        ("turns", "four-h100", [5, 5, 5, 5], 0.0, "4 match, 4 in use by"),
        ("partitions", "four-h100-mig", [7, 7, 2, 2], 67.4, "counter sets gpu-0, gpu-1"),
    ],
)
def test_twenty_services_on_four_cards_in_each_kind_of_sharing(
    services: str, inventory: str, fit: list[int], held: float, why: str
) -> None:
    found = packed(services, inventory)
    assert [len(card.slots) for card in found.cards] == fit
    assert round(found.cards[0].held / GIB, 1) == held
    assert len(found.left) == 21 - sum(fit)
    holder, reason = found.left[-1]
    assert holder == "models/m21" and why in reason
    assert all(card.overcommitted == "" for card in found.cards)


def test_services_that_share_a_claim_are_on_its_device() -> None:
    found = packed("turns", "four-h100")
    assert [slot.holder for slot in found.cards[1].slots] == [
        f"models/m{n:02}" for n in range(6, 11)
    ]
    assert {slot.kind for card in found.cards for slot in card.slots} == {"takes turns"}
    assert {slot.wants for card in found.cards for slot in card.slots} == {15 * GIB}


def test_a_claim_stays_on_one_node_and_so_do_all_its_services() -> None:
    def service(name: str, *claims: str) -> Json:
        named = [{"name": one, "resourceClaimName": one} for one in claims]
        spec = {"containers": [], "resourceClaims": named}
        return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}

    own, shared = claim(request(), name="own"), claim(request(), name="shared")
    asked = [own, shared, service("a", "shared"), service("b", "shared", "own")]
    one = resource_slice("n1", [device("x")])
    more = resource_slice("n2", [device("y"), device("z")])

    def pack(*inventory: Json) -> Packing:
        there = [document(one) for one in (*inventory, device_class())]
        return packing.pack(survey([document(one) for one in asked], there))

    found = pack(one, more)
    assert [(c.node, [s.holder for s in c.slots]) for c in found.cards] == [
        ("n1", ["default/a"]),
        ("n2", []),
        ("n2", []),
    ]
    [(holder, why)] = found.left
    assert holder == "default/b" and "1 in use by Pod default/a" in why
    found = pack(resource_slice("n1", [device("x"), device("y")]))
    assert [[s.holder for s in c.slots] for c in found.cards] == [
        ["default/a", "default/b"],
        ["default/b"],
    ]


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ("30720", "the 2 servers want 60.0 GiB, and the device has 40.0"),
        (None, "nothing says what the server takes"),
    ],
    ids=["too much", "nothing said"],
)
def test_servers_that_want_more_than_there_is_are_told(said: str | None, words: str) -> None:
    """Memory is accounted by the scheduler and taken by the server: the two must agree."""
    env = [{"name": "RELUME_DEVICE_MEMORY_MIB", "value": said}] if said else []
    pods = [
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name},
            "spec": {
                "containers": [{"name": "c", "env": env}],
                "resourceClaims": [{"name": "d", "resourceClaimTemplateName": "part"}],
            },
        }
        for name in "ab"
    ]
    asked = request(capacity={"requests": {"memory": "10Gi"}})
    spec = claim(asked)["spec"]
    template = {**claim(name="part"), "kind": "ResourceClaimTemplate", "spec": {"spec": spec}}
    capacity = {"memory": {"value": "40Gi"}}
    there = resource_slice("n", [device("x", allowMultipleAllocations=True, capacity=capacity)])
    given = [document(one) for one in (*pods, template)]
    found = packing.pack(survey(given, [document(there), document(device_class())]))
    [card] = found.cards
    assert card.held == 20 * GIB
    assert words in card.overcommitted


def test_the_bar_and_the_picture_show_each_service() -> None:
    found = packed("shares", "four-h100-shared")
    assert packing.bar(found.cards[0]) == "#####====#####====#####."
    picture = svg(found)
    root = ElementTree.fromstring(picture)
    titles = [one.text for one in root.iter("{http://www.w3.org/2000/svg}title")]
    assert titles == [f"models/m{n:02}: share" for n in range(1, 21)]
    assert "no place for models/m21" in picture


def test_the_command_shows_all_together(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = str(EXAMPLES / "twenty-one-shares.yaml")
    there = ["--slices", str(EXAMPLES / "four-h100-shared.yaml"), "--together"]
    picture = tmp_path / "cards.svg"
    assert run(["claims", "explain", asked, *there, "--svg", str(picture)]) == 1
    shown = capsys.readouterr().out
    assert "no place for models/m21" in shown and "request device" not in shown
    assert picture.read_text().startswith("<svg ")
    assert run(["claims", "explain", asked, *there, "-o", "json"]) == 1
    answer = json.loads(capsys.readouterr().out)["together"]
    assert [len(card["services"]) for card in answer["cards"]] == [5, 5, 5, 5]
    assert [one["name"] for one in answer["left"]] == ["models/m21"]


def test_a_folder_is_read_and_an_empty_one_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    inside = tmp_path / "base" / "models"
    inside.mkdir(parents=True)
    slices = ["--slices", str(EXAMPLES / "four-h100.yaml")]
    assert run(["claims", "explain", str(tmp_path), *slices]) == 2
    assert "no .yaml file" in capsys.readouterr().err
    text = (EXAMPLES / "twenty-one-whole.yaml").read_text()
    (inside / "services.yaml").write_text(text)
    assert run(["claims", "explain", str(tmp_path), *slices, "--together"]) == 1
    assert "no place for models/m05..21" in capsys.readouterr().out
