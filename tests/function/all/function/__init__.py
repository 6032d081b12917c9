"""A function that does what the type of its event says: well, or badly in one of many ways."""

import asyncio
import json
import os
import signal
import urllib.request
from pathlib import Path


def new():
    return Function()


class Function:
    def __init__(self):
        self.hoard = []

    def start(self, environment):
        self.environment = environment

    def ready(self):
        return True, "ready"

    async def handle(self, scope, receive, send):
        event = scope["event"]
        match event.get_type():
            case "raise":
                raise RuntimeError("as it was asked to")
            case "hang":
                await asyncio.sleep(3600)
            case "no-event":
                await reply(send, {"content-type": "text/plain"}, b"not an event")
            case "leak":
                while True:
                    self.hoard.append(b"x" * (8 << 20))
                    await asyncio.sleep(0.01)
            case "die-once":
                flag = Path(self.environment["SCRATCH"], event.get_id())
                if not flag.exists():
                    flag.touch()
                    os.kill(os.getpid(), signal.SIGKILL)
                await reply_event(send, event, "survived")
            case "flood":
                await reply_event(send, event, "flooded", b'"' + b"x" * (9 << 20) + b'"')
            case "storm":
                await asyncio.to_thread(storm, self.environment["K_SINK"])
                await reply_event(send, event, "survived")
            case "same":
                await reply_event(send, event, "same")
            case "files":
                folder = Path(self.environment["SECRETS"])
                found = {file.name: file.read_text() for file in folder.iterdir()}
                await reply_event(send, event, "told", json.dumps(found).encode())
            case _:
                told = json.dumps(self.environment).encode()
                await reply_event(send, event, "told", told)


def storm(sink):
    """Post 300 events to the sink, as fast as it takes them."""
    for number in range(300):
        headers = {
            "content-type": "application/json",
            "ce-specversion": "1.0",
            "ce-id": f"drop-{number}",
            "ce-type": "told",
            "ce-source": "/all",
        }
        request = urllib.request.Request(sink, b"{}", headers)
        with urllib.request.urlopen(request, timeout=10) as answer:
            assert answer.status == 202


async def reply_event(send, event, kind, data=b"{}"):
    headers = {
        "content-type": "application/json",
        "ce-specversion": "1.0",
        "ce-id": f"reply-{event.get_id()}",
        "ce-type": kind,
        "ce-source": "/all",
    }
    await reply(send, headers, data)


async def reply(send, headers, body):
    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    raw.append((b"content-length", str(len(body)).encode()))
    await send.http({"type": "http.response.start", "status": 200, "headers": raw})
    await send.http({"type": "http.response.body", "body": body})
