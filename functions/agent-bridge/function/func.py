"""The message of an A2A client becomes an event; the event that answers it is the task's result.

    POST /  JSON-RPC                    SendMessage, GetTask (A2A 1.0); the same as 0.3 names them
    POST /  a CloudEvent                an answer, known by its correlationid
    GET  /.well-known/agent-card.json   who this is

Nobody holds a connection while the model works: a task is in JetStream's key-value store, and a
client asks for it again.
"""

import asyncio
import json
import logging
import re
import time
import uuid
from datetime import UTC, datetime
from typing import Any

from cloudevents.core.bindings.http import HTTPMessage, from_http_event
from cloudevents.core.exceptions import CloudEventValidationError
from cloudevents.core.v1.event import CloudEvent

from . import tasks
from .events import ERROR, MODEL_ERROR, HttpAnswer, text_of
from .sink import Sink, SinkError
from .store import Store
from .tasks import Json, RpcError, Task

BUCKET = "relume-agent-bridge"
KEEP_S = 7 * 86_400
MOST_BYTES = 512 * 1024  # of a request, and of an answer that is kept
MOST_EVENT_BYTES = 8 * 1024 * 1024  # what a Broker takes
CARD = "/.well-known/agent-card.json"
_CORRELATION = re.compile(r"a2a\.([0-9a-f-]{36})")
_POLL_S = 0.2


def new() -> "AgentBridge":
    return AgentBridge()


class AgentBridge:
    def start(self, cfg: dict[str, str]) -> None:
        """Read the variables. Raises ValueError, which ends the process."""
        if not cfg.get("NATS_URL"):
            raise ValueError("NATS_URL is not set; it names the nats-server that keeps the tasks")
        self._type = cfg.get("BRIDGE_TYPE") or "com.example.agent.asked"
        self._source = cfg.get("FUNCTION_SOURCE") or "/functions/agent-bridge"
        self._name = cfg.get("BRIDGE_NAME") or "relume"
        self._about = cfg.get("BRIDGE_DESCRIPTION") or "Answers by events and a model."
        self._url = cfg.get("BRIDGE_URL") or ""
        self._max_tokens = int(cfg.get("BRIDGE_MAX_TOKENS") or 512)
        self._wait_s = float(cfg.get("BRIDGE_WAIT_S") or 10)
        self._store = Store(cfg["NATS_URL"], BUCKET, KEEP_S)
        self._sink = Sink(cfg)
        logging.info("messages become %s at %s", self._type, self._sink.url)

    def alive(self) -> tuple[bool, str]:
        return True, "Alive"

    def ready(self) -> tuple[bool, str]:
        return True, "Ready"

    async def handle(self, scope: Json, receive: Any, send: Any) -> None:
        headers = {k.decode("latin-1").lower(): v.decode("latin-1") for k, v in scope["headers"]}
        if scope["method"] == "GET" and scope["path"] == CARD:
            url = self._url or f"http://{headers.get('host', 'localhost')}/"
            await _answer(send, 200, tasks.agent_card(url, self._name, self._about))
            return
        if scope["method"] != "POST":
            await _answer(send, 405, {"error": f"use POST, or GET {CARD}"})
            return
        event = "ce-specversion" in headers or "cloudevents" in headers.get("content-type", "")
        most = MOST_EVENT_BYTES if event else MOST_BYTES
        body = await _body(receive, most)
        if body is None:
            await _answer(send, 413, {"error": f"at most {most} bytes"})
        elif event:
            await self._answered(send, headers, body)
        else:
            await _answer(send, 200, await self._call(body))

    async def _call(self, body: bytes) -> Json:
        """The answer to a JSON-RPC request; every failure is a JSON-RPC error."""
        id_: Any = None
        try:
            id_, method, params = _request(body)
            result = await self._do(method, params)
            return {"jsonrpc": "2.0", "id": id_, "result": result}
        except RpcError as error:
            code, message = error.code, error.message
        except (HttpAnswer, SinkError) as error:
            code, message = tasks.INTERNAL, f"try again later: {error}"
        except Exception:
            logging.exception("a call failed")
            code, message = tasks.INTERNAL, "the bridge failed; its log says why"
        return {"jsonrpc": "2.0", "id": id_, "error": {"code": code, "message": message}}

    async def _do(self, method: str, params: Json) -> Json:
        kind, old = tasks.METHODS.get(method), tasks.is_old(method)
        if kind == "send":
            task = await self._send(params)
            return tasks.written(task, old=True) if old else {"task": tasks.written(task, old=old)}
        if kind == "get":
            return tasks.written(await self._find(params.get("id")), old=old)
        if kind == "cancel":
            await self._find(params.get("id"))
            raise RpcError(tasks.NOT_CANCELABLE, "the event has left; a task cannot be cancelled")
        if kind == "stream":
            raise RpcError(tasks.UNSUPPORTED, "no streams: send the message and get the task")
        if kind == "push":
            raise RpcError(tasks.NO_PUSH, "no push notifications: get the task")
        raise RpcError(tasks.NO_METHOD, f"there is no method {method}")

    async def _send(self, params: Json) -> Task:
        """Keep a new task, post its event, and wait a little for the answer."""
        message = params.get("message")
        asked = tasks.data_of(message)
        assert isinstance(message, dict)
        context = message.get("contextId")
        id_ = str(uuid.uuid4())
        task = Task(id_, context if isinstance(context, str) and context else id_, _now())
        await self._store.create(f"task.{id_}", task.pack())
        await self._sink.post(self._event(id_, asked))
        configuration = params.get("configuration") or {}
        until = time.monotonic() + (0 if _at_once(configuration) else self._wait_s)
        while task.state == "submitted" and time.monotonic() < until:
            await asyncio.sleep(_POLL_S)
            task = await self._find(id_)
        return task

    def _event(self, id_: str, asked: Any) -> CloudEvent:
        """A text is a chat with one message; data is the event's data as it is."""
        if isinstance(asked, str):
            messages = [{"role": "user", "content": asked}]
            asked = {"messages": messages, "max_tokens": self._max_tokens}
        name = f"a2a.{id_}"
        attributes = {"id": name, "source": self._source, "type": self._type}
        attributes |= {"correlationid": name, "datacontenttype": "application/json"}
        return CloudEvent(attributes, json.dumps(asked).encode())

    async def _find(self, id_: Any) -> Task:
        """A task with its result, if there is one. Raises RpcError."""
        known = isinstance(id_, str) and _CORRELATION.fullmatch(f"a2a.{id_}")
        entry = await self._store.get(f"task.{id_}") if known else None
        if entry is None:
            raise RpcError(tasks.TASK_NOT_FOUND, "there is no such task")
        result = await self._store.get(f"result.{id_}")
        return Task.unpack(str(id_), (result or entry).value)

    async def _answered(self, send: Any, headers: dict[str, str], body: bytes) -> None:
        """Keep the answer to a task, once. What is no answer to one is not an error here."""
        try:
            event = from_http_event(HTTPMessage(headers, body))
        except (CloudEventValidationError, ValueError, AttributeError, RecursionError):
            await _answer(send, 400, {"error": "is no CloudEvent", "reason": "invalid-event"})
            return
        found = _CORRELATION.fullmatch(text_of(event, "correlationid") or "")
        if found is None or event.get_source() == self._source:
            await _answer(send, 200, None)
            return
        try:
            entry = await self._store.get(f"task.{found[1]}")
            if entry is not None:
                asked = Task.unpack(found[1], entry.value)
                await self._store.create(f"result.{found[1]}", _result(asked, event).pack())
        except HttpAnswer as told:
            await _answer(send, 503, {"error": told.message, "reason": told.reason}, retry_after=2)
            return
        await _answer(send, 200, None)


def _request(body: bytes) -> tuple[Any, str, Json]:
    """The id, method and params of a JSON-RPC request. Raises RpcError."""
    try:
        read = json.loads(body)
    except (ValueError, RecursionError):
        raise RpcError(tasks.PARSE_ERROR, "the body is not JSON") from None
    if isinstance(read, list):
        raise RpcError(tasks.INVALID_REQUEST, "A2A has no batches")
    if not isinstance(read, dict) or read.get("jsonrpc") != "2.0":
        raise RpcError(tasks.INVALID_REQUEST, 'the body must be a JSON-RPC 2.0 request ("jsonrpc")')
    id_, method, params = read.get("id"), read.get("method"), read.get("params", {})
    if not isinstance(method, str) or not isinstance(id_, str | int | None):
        raise RpcError(tasks.INVALID_REQUEST, "method must be a text, and id a text or a number")
    if not isinstance(params, dict):
        raise RpcError(tasks.INVALID_PARAMS, "params must be an object")
    return id_, method, params


def _at_once(configuration: Any) -> bool:
    """1.0 asks with `returnImmediately`, 0.3 with `blocking: false`."""
    if not isinstance(configuration, dict):
        return False
    return configuration.get("returnImmediately") is True or configuration.get("blocking") is False


def _result(asked: Task, event: CloudEvent) -> Task:
    """The task that an event ends. The text of a chat answer is its result, else the data."""
    data: Any = event.get_data()
    if isinstance(data, bytes):
        data = data.decode("utf-8", "replace")
    if event.get_type() in (ERROR, MODEL_ERROR):
        error = data.get("error") if isinstance(data, dict) else None
        message = error.get("message") if isinstance(error, dict) else None
        reason = data.get("reason") if isinstance(data, dict) else None
        return Task(asked.id, asked.context, _now(), "failed", f"{reason}: {message}")
    try:
        choice = data["choices"][0]
        data = choice["message"]["content"] if "message" in choice else choice["text"]
    except (LookupError, TypeError):
        pass
    done = Task(asked.id, asked.context, _now(), "completed", "" if data is None else data)
    if len(done.pack()) > MOST_BYTES:
        told = f"answer-too-large: an answer may have {MOST_BYTES} bytes"
        return Task(asked.id, asked.context, _now(), "failed", told)
    return done


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


async def _body(receive: Any, most: int) -> bytes | None:
    """The body of a request; None where it is too large."""
    body, more = b"", True
    while more and len(body) <= most:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False) and message["type"] == "http.request"
    return body if len(body) <= most else None


async def _answer(send: Any, status: int, told: Any, retry_after: int | None = None) -> None:
    body = b"" if told is None else json.dumps(told).encode()
    headers = [(b"content-length", str(len(body)).encode())]
    if body:
        headers.append((b"content-type", b"application/json"))
    if retry_after is not None:
        headers.append((b"retry-after", str(retry_after).encode()))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
