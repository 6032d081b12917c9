"""A made-up handbook of 40 pages: make it, post it, ask it.

    python documents.py make > handbook.txt
    python documents.py post http://127.0.0.1:8081/default/documents
    python documents.py ask http://127.0.0.1:8081/default/documents "Who keeps the bees?"

Pages are separated by form feeds. Each page is about a thing of its own, so that a question has
one right page. Needs nothing but Python.
"""

import argparse
import json
import random
import sys
import urllib.request
import uuid
from pathlib import Path

NAMES = (
    "lighthouse, ferry, bakery, library, greenhouse, observatory, tram, harbour, museum, bridge, "
    "windmill, orchard, fountain, theatre, printing press, ice rink, beehive, cable car, kiln, "
    "aquarium, clock tower, sawmill, vineyard, planetarium, railway station, swimming pool, "
    "weather station, chapel, brewery, tunnel, castle, market hall, playground, quarry, dairy, "
    "glass workshop, pottery, boathouse, radio mast, reservoir"
)
THINGS = [name.strip() for name in NAMES.split(",")]
PEOPLE = ["Ines Calder", "Tobias Wren", "Mirela Stan", "Oskar Lund", "Farah Nasser", "Hugo Pell"]
COLOURS = ["white", "green", "red", "yellow", "blue", "grey"]
MONTHS = ["January", "March", "April", "June", "August", "October"]
SENTENCES = [
    "The {thing} is looked after by {person}.",
    "It was built in {year} and has {number} windows.",
    "Every {month} it is painted {colour}, which takes {days} days.",
    "Visitors may see the {thing} from {hour} o'clock, in groups of at most {group}.",
    "The key to the {thing} hangs in cupboard {number} of the office.",
    "If something at the {thing} is broken, it is written into the {colour} book.",
    "In {month} the {thing} is closed for {days} days.",
    "Repairs of the {thing} are paid from budget line {line}.",
    "The {thing} is lit at night, except in {month}.",
    "Schools write to {other} at least {days} days before they come.",
    "The floor of the {thing} is swept at {hour} o'clock by whoever opened it.",
    "A drawing of the {thing} hangs in room {group}, beside the {colour} door.",
]


def pages(seed: int) -> list[str]:
    """The same pages for the same seed."""
    chance = random.Random(seed)
    made = []
    for number, thing in enumerate(THINGS, start=1):
        values = {
            "thing": thing,
            "person": chance.choice(PEOPLE),
            "colour": chance.choice(COLOURS),
            "month": chance.choice(MONTHS),
            "year": chance.randrange(1850, 2010),
            "number": chance.randrange(2, 60),
            "days": chance.randrange(2, 20),
            "hour": chance.randrange(8, 12),
            "group": chance.randrange(5, 30),
            "line": chance.randrange(1000, 9999),
            "other": chance.choice(PEOPLE),
        }
        sentences = [sentence.format(**values) for sentence in SENTENCES]
        first, rest = sentences[0], sentences[1:]
        chance.shuffle(rest)
        text = " ".join([first, *rest])
        made.append(f"Page {number}. The {thing}\n\n{text}\n")
    return made


def post(url: str, type_: str, data: object, subject: str) -> str:
    """Post one event in binary mode; its id. Raises URLError where the Broker does not take it."""
    id_ = str(uuid.uuid4())
    headers = {"ce-specversion": "1.0", "ce-id": id_, "ce-source": "/handbook", "ce-type": type_}
    headers |= {"ce-subject": subject, "content-type": "application/json"}
    request = urllib.request.Request(url, json.dumps(data).encode(), headers)
    with urllib.request.urlopen(request, timeout=30):
        return id_


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    make = commands.add_parser("make", help="write the handbook")
    make.add_argument("--seed", type=int, default=11)
    sender = commands.add_parser("post", help="post handbook.txt")
    sender.add_argument("url")
    asker = commands.add_parser("ask", help="post a question")
    asker.add_argument("url")
    asker.add_argument("question")
    chosen = parser.parse_args()
    if chosen.command == "make":
        sys.stdout.write("\f".join(pages(chosen.seed)))
    elif chosen.command == "post":
        text = Path(__file__).with_name("handbook.txt").read_text(encoding="utf-8")
        data = {"text": text}
        print(post(chosen.url, "com.example.document.received", data, "handbook.txt"))
    else:
        data = {"question": chosen.question, "most": 3}
        print(post(chosen.url, "com.example.document.asked", data, "question"))


if __name__ == "__main__":
    main()
