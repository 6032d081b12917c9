"""New and changed files of a folder become events that are posted to `K_SINK`.

A look is taken every `WATCH_SECONDS`, and at once for each request. An event has left when the
sink answered with 2xx; before that it is tried again at the next look, with the same id.
"""

import asyncio
import json
import logging
import mimetypes
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote

from cloudevents.core.v1.event import CloudEvent

from .files import Folder, Found
from .sink import Sink, SinkError

ERROR = "relume.function.error"


def new() -> "FolderWatch":
    return FolderWatch()


class FolderWatch:
    def start(self, cfg: dict[str, str]) -> None:
        """Read the variables. Raises ValueError, which ends the process."""
        root = Path(cfg.get("WATCH_FOLDER") or "")
        if not cfg.get("WATCH_FOLDER") or not root.is_dir():
            raise ValueError(f"WATCH_FOLDER must be a folder that exists, and is {root}")
        self._type = cfg.get("WATCH_TYPE") or "com.example.file.arrived"
        self._source = (
            cfg.get("FUNCTION_SOURCE") or f"/functions/{cfg.get('K_SERVICE') or 'folder-watch'}"
        )
        self._every_s = _number(cfg, "WATCH_SECONDS", 2)
        record = Path(cfg.get("WATCH_RECORD") or root / ".folder-watch.jsonl")
        most = int(_number(cfg, "WATCH_MOST_BYTES", 5 * 1024 * 1024))
        self._folder = Folder(root, record, _number(cfg, "WATCH_STILL_SECONDS", 1), most)
        self._folder.load()
        self._sink = Sink(cfg)
        self._lock = asyncio.Lock()
        self._problem: str | None = None
        # func-python calls `start` inside its event loop, and `stop` at the end of it.
        self._watching = asyncio.get_running_loop().create_task(self._watch())
        logging.info("watching %s for %s", root, self._sink.url)

    def stop(self) -> None:
        self._watching.cancel()

    def alive(self) -> tuple[bool, str]:
        return not self._watching.done(), "the watch runs" if not self._watching.done() else "ended"

    def ready(self) -> tuple[bool, str]:
        return True, self._problem or "Ready"

    async def handle(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        """Look at once. 200 with what was told, or 503 where the sink did not take an event."""
        told = await self.look()
        status = 200 if self._problem is None else 503
        body = json.dumps({"told": told, "problem": self._problem}).encode()
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
        ]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def _watch(self) -> None:
        while True:
            try:
                await self.look()
            except Exception:
                logging.exception("a look at the folder failed")
            await asyncio.sleep(self._every_s)

    async def look(self) -> list[str]:
        """Post what is new, one event after the other. Returns the files that were told of."""
        told: list[str] = []
        async with self._lock:
            self._problem = None
            for found in await asyncio.to_thread(self._folder.look, time.time()):
                try:
                    await self._sink.post(self.event(found))
                except SinkError as error:
                    if self._problem != str(error):
                        logging.warning("%s: %s", found.path, error)
                    self._problem = str(error)
                    break
                await asyncio.to_thread(self._folder.told, found)
                told.append(found.path)
        return told

    def event(self, found: Found) -> CloudEvent:
        """The event of a file; its id is made of the name and the content."""
        attributes = {
            "id": f"{quote(found.path)}@{found.digest[:32]}",
            "source": self._source,
            "type": self._type,
            "subject": found.path,
            "datacontenttype": media_type(found),
        }
        if found.content is not None:
            return CloudEvent(attributes, found.content)
        error = {
            "message": f"the file has {found.size} bytes; WATCH_MOST_BYTES permits fewer",
            "type": "invalid_request_error",
            "param": "data",
            "code": 413,
        }
        told = {"error": error, "reason": "file-too-large", "retryable": False}
        attributes |= {"type": ERROR, "datacontenttype": "application/json"}
        return CloudEvent(attributes, json.dumps(told).encode())


def media_type(found: Found) -> str:
    """By the name; text only where the content is UTF-8."""
    guessed = mimetypes.guess_type(found.path)[0] or "text/plain"
    if guessed.startswith("text/"):
        try:
            (found.content or b"").decode()
        except UnicodeDecodeError:
            return "application/octet-stream"
        return f"{guessed}; charset=utf-8"
    return guessed


def _number(cfg: dict[str, str], name: str, default: float) -> float:
    try:
        value = float(cfg.get(name) or default)
    except ValueError:
        value = -1
    if not 0 <= value < float("inf"):
        raise ValueError(f"{name} must be a number of at least 0")
    return value
