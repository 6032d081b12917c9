"""Tasks, and how A2A writes them: 1.0, and 0.3 for the clients that still speak it. Pure."""

import json
from dataclasses import dataclass
from typing import Any, Literal

Json = dict[str, Any]
State = Literal["submitted", "completed", "failed"]

# A2A 1.0, "Error Handling": JSON-RPC codes.
TASK_NOT_FOUND, NOT_CANCELABLE, NO_PUSH, UNSUPPORTED, CONTENT_TYPE = (
    -32001,
    -32002,
    -32003,
    -32004,
    -32005,
)
PARSE_ERROR, INVALID_REQUEST, NO_METHOD, INVALID_PARAMS, INTERNAL = (
    -32700,
    -32600,
    -32601,
    -32602,
    -32603,
)
#: What a method does, by its name in 1.0 and in 0.3.
METHODS = {
    "SendMessage": "send",
    "message/send": "send",
    "GetTask": "get",
    "tasks/get": "get",
    "CancelTask": "cancel",
    "tasks/cancel": "cancel",
    "SendStreamingMessage": "stream",
    "message/stream": "stream",
    "SubscribeToTask": "stream",
    "tasks/resubscribe": "stream",
    "CreateTaskPushNotificationConfig": "push",
    "tasks/pushNotificationConfig/set": "push",
}


class RpcError(Exception):
    """A JSON-RPC error with the code of A2A."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code, self.message = code, message


@dataclass(frozen=True)
class Task:
    """`value` is what came back: a text, or data. With `failed` it says why."""

    id: str
    context: str
    time: str  # RFC 3339, of the last change
    state: State = "submitted"
    value: Any = None

    def pack(self) -> bytes:
        told = {"context": self.context, "time": self.time, "state": self.state}
        return json.dumps(told | {"value": self.value}).encode()

    @classmethod
    def unpack(cls, id_: str, stored: bytes) -> "Task":
        return cls(id_, **json.loads(stored))


def is_old(method: str) -> bool:
    """Whether the method has its name from 0.3, so that its answer is written as 0.3 does."""
    return "/" in method


def written(task: Task, *, old: bool) -> Json:
    """The Task object, as the version has it."""
    state = task.state if old else f"TASK_STATE_{task.state.upper()}"
    status: Json = {"state": state, "timestamp": task.time}
    told: Json = {"id": task.id, "contextId": task.context, "status": status}
    if old:
        told["kind"] = "task"
    if task.state == "failed":
        status["message"] = {
            "messageId": f"{task.id}-failed",
            "taskId": task.id,
            "contextId": task.context,
            "role": "agent" if old else "ROLE_AGENT",
            "parts": [_part(task.value, old=old)],
        } | ({"kind": "message"} if old else {})
    if task.state == "completed":
        artifact = {"artifactId": f"{task.id}-answer", "parts": [_part(task.value, old=old)]}
        told["artifacts"] = [artifact]
    return told


def _part(value: Any, *, old: bool) -> Json:
    kind = "text" if isinstance(value, str) else "data"
    return {kind: value} | ({"kind": kind} if old else {})


def data_of(message: Any) -> Any:
    """What a message asks: its texts, or the object of its one data part. Raises RpcError."""
    if not isinstance(message, dict) or not isinstance(message.get("messageId"), str):
        raise RpcError(INVALID_PARAMS, "params.message must be a message with a messageId")
    if message.get("taskId"):
        raise RpcError(UNSUPPORTED, "a task takes one message: leave taskId out for a new one")
    parts = message.get("parts")
    if not isinstance(parts, list) or not parts or not all(isinstance(p, dict) for p in parts):
        raise RpcError(INVALID_PARAMS, "params.message.parts must be a list of parts")
    if len(parts) == 1 and isinstance(parts[0].get("data"), dict):
        return parts[0]["data"]
    texts = [part.get("text") for part in parts]
    if not all(isinstance(text, str) for text in texts):
        raise RpcError(CONTENT_TYPE, "parts must be texts, or one part with an object as data")
    return "\n\n".join(texts)


def agent_card(url: str, name: str, description: str) -> Json:
    """What `/.well-known/agent-card.json` says, with the fields of both versions."""
    modes = ["text/plain", "application/json"]
    skill = {"id": "ask", "name": name, "description": description, "tags": ["inference"]}
    return {
        "name": name,
        "description": description,
        "version": "1.0.0",
        "supportedInterfaces": [
            {"url": url, "protocolBinding": "JSONRPC", "protocolVersion": "1.0"},
            {"url": url, "protocolBinding": "JSONRPC", "protocolVersion": "0.3"},
        ],
        "url": url,
        "preferredTransport": "JSONRPC",
        "protocolVersion": "0.3.0",
        "capabilities": {"streaming": False, "pushNotifications": False},
        "defaultInputModes": modes,
        "defaultOutputModes": modes,
        "skills": [skill],
    }
