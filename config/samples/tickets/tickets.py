"""A hundred made-up tickets, good and bad: make them, post them, receive what becomes of them.

    python tickets.py make > tickets.jsonl
    python tickets.py receive outcomes.jsonl --port 9410
    python tickets.py post http://127.0.0.1:8081/default/tickets

Nobody is meant: names are drawn from lists, domains are reserved for examples, numbers are test
numbers. Needs nothing but Python.
"""

import argparse
import base64
import hashlib
import hmac
import json
import random
import sys
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

Event = dict[str, object]
TYPE = "com.example.ticket.created"
#: The secret of tickets.yaml.
SECRET = "whsec_cmVsdW1lLXRpY2tldHMtc2FtcGxlLWtleS0wMDE="

FIRST = ["Priya", "Tom", "Sabine", "Chen", "Marta", "Jonas", "Aisha", "Luca", "Deborah", "Omar"]
FIRST += ["Ingrid", "Pavel", "Yuki", "Rosa"]
LAST = ["Raman", "Keller", "Finch", "Wei", "Moretti", "Haddad", "Berg", "Novak", "Tanaka"]
LAST += ["Silva", "Braun", "Okafor", "Lind"]
PHONES = ["+44 20 7946 0958", "030 901820", "(212) 736-5000", "+49 89 636-48018"]
ACCOUNTS = ["DE89 3704 0044 0532 0130 00", "GB82 WEST 1234 5698 7654 32", "4242 4242 4242 4242"]
STORIES = [
    ("Charged twice", "My account {account} was charged twice in May. Please return one payment."),
    ("Invoice is missing", "I cannot find the invoice for March. Send it to {email}, please."),
    ("Refund", "You promised a refund to {account} three weeks ago and nothing came."),
    ("App crashes", "Since the update the app crashes as soon as I open the export."),
    ("Cannot log in", "The login says that my password is wrong. Call me at {phone}."),
    ("Slow pages", "Every page takes a minute to load since this morning. We cannot work!"),
    ("Error 500", "The upload ends with error 500. My address is {ip}, in case it is blocked."),
    ("Change my address", "I moved. Please change the address of customer {customer}."),
    ("Delete my account", "Please delete the account of {name} and everything in it."),
    ("New user", "Add my colleague {other} with the address {email} to our team."),
    ("Locked out", "My account is locked after three attempts. I am {name}, {customer}."),
    ("Opening hours", "Are you open on the first of May? A short answer to {phone} is enough."),
    ("Thank you", "Your colleague was very helpful yesterday. Please tell the team."),
    ("Price list", "Is there a price list for schools? We are about forty people."),
]
CLOSINGS = ["Regards,\n{name}", "Thanks\n{name}", "Mit freundlichen Grüßen\n{name}", ""]


def made(seed: int, count: int = 100, bad: int = 16) -> Iterator[Event]:
    """The same tickets for the same seed; `bad` of them, spread evenly, cannot be sorted."""
    chance = random.Random(seed)
    wrong = {round((i + 0.5) * count / bad) for i in range(bad)}
    for number in range(count):
        event = envelope(number)
        if number in wrong:
            yield event | BAD[sorted(wrong).index(number) % len(BAD)]
        else:
            yield event | {"data": ticket(chance)}


def envelope(number: int) -> Event:
    return {
        "specversion": "1.0",
        "id": f"ticket-{number:03}",
        "source": "/shop/tickets",
        "type": TYPE,
        "subject": f"ticket-{number:03}",
        "datacontenttype": "application/json",
    }


def ticket(chance: random.Random) -> Event:
    name, other = (f"{chance.choice(FIRST)} {chance.choice(LAST)}" for _ in range(2))
    email = name.lower().replace(" ", ".") + "@example.com"
    values = {
        "name": name,
        "other": other,
        "email": email,
        "phone": chance.choice(PHONES),
        "account": chance.choice(ACCOUNTS),
        "customer": f"C-{chance.randrange(100_000, 999_999)}",
        "ip": f"203.0.113.{chance.randrange(1, 255)}",
    }
    title, story = chance.choice(STORIES)
    body = f"{story}\n\n{chance.choice(CLOSINGS)}".format(**values).strip()
    made: Event = {"title": title, "body": body, "channel": chance.choice(["mail", "web"])}
    return made | {"name": name, "email": email} if chance.random() < 0.5 else made


#: What is wrong with the bad ones, each in its own way; all are valid events.
BAD: list[Event] = [
    {"data": {"title": "No text"}},
    {"data": {"title": "", "body": "The title is empty."}},
    {"data": {"title": "Channel", "body": "Sent by fax.", "channel": "fax"}},
    {"data": {"title": "Number", "body": 4711}},
    {"data": {"title": "Too long", "body": "All work and no play. " * 200}},
    {"data": ["title", "body"]},
    {"datacontenttype": "text/plain", "data": "The printer is on fire."},
    {"data_base64": base64.b64encode(b'{"title": "cut off", "bo').decode()},
]


def post(url: str, events: list[Event]) -> None:
    """Post each event in structured mode. Raises URLError where the Broker does not take one."""
    for event in events:
        headers = {"content-type": "application/cloudevents+json"}
        request = urllib.request.Request(url, json.dumps(event).encode(), headers)
        with urllib.request.urlopen(request, timeout=30):
            pass
    print(f"posted {len(events)} tickets to {url}")


def signed(headers: dict[str, str], body: bytes) -> bool:
    """Whether one of the signatures is that of the body (Standard Webhooks, v1: HMAC-SHA256)."""
    told = f"{headers.get('webhook-id')}.{headers.get('webhook-timestamp')}.".encode() + body
    key = base64.b64decode(SECRET.removeprefix("whsec_"))
    right = base64.b64encode(hmac.new(key, told, hashlib.sha256).digest()).decode()
    signatures = headers.get("webhook-signature", "").split()
    return any(hmac.compare_digest(given, f"v1,{right}") for given in signatures)


def receive(path: Path, port: int) -> None:
    """Write each outcome as a line, once, however often it is delivered."""
    seen: set[str] = set()

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            headers = {name.lower(): value for name, value in self.headers.items()}
            if not signed(headers, body):
                self._answer(401)
                return
            if headers["webhook-id"] not in seen:
                seen.add(headers["webhook-id"])
                with path.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(json.loads(body)) + "\n")
                print_outcome(len(seen), json.loads(body))
            self._answer(204)

        def _answer(self, status: int) -> None:
            self.send_response(status)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    print(f"listening on http://127.0.0.1:{port}/")
    ThreadingHTTPServer(("127.0.0.1", port), Receiver).serve_forever()


def print_outcome(number: int, told: dict[str, dict[str, object]]) -> None:
    data, subject = told["data"], told["event"].get("subject")
    words = data.get("reason") or f"{data.get('category')}, {data.get('urgency')}"
    print(f"{number:3}  {subject}  {words}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    make = commands.add_parser("make", help="write the tickets, one event on each line")
    make.add_argument("--seed", type=int, default=11)
    sender = commands.add_parser("post", help="post the tickets of tickets.jsonl")
    sender.add_argument("url")
    receiver = commands.add_parser("receive", help="be the webhook")
    receiver.add_argument("file", type=Path)
    receiver.add_argument("--port", type=int, default=9410)
    chosen = parser.parse_args()
    if chosen.command == "make":
        for event in made(chosen.seed):
            sys.stdout.write(json.dumps(event, ensure_ascii=False) + "\n")
    elif chosen.command == "post":
        lines = Path(__file__).with_name("tickets.jsonl").read_text(encoding="utf-8").splitlines()
        post(chosen.url, [json.loads(line) for line in lines])
    else:
        receive(chosen.file, chosen.port)


if __name__ == "__main__":
    main()
