"""`serve` for functions that are called with CloudEvents."""

import json

from func_python import http


class Event:
    """The getters of the SDK's event that the functions of the tests use."""

    def __init__(self, attributes, data):
        self.attributes, self.data = attributes, data

    def get_type(self):
        return self.attributes["type"]

    def get_id(self):
        return self.attributes["id"]

    def get_data(self):
        return self.data


class Application(http.Application):
    async def handle(self, scope, receive, send):
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message.get("body", b""), message.get("more_body", False)
        headers = {k.decode(): v.decode() for k, v in scope["headers"]}
        attributes = {k[3:]: v for k, v in headers.items() if k.startswith("ce-")}
        if headers.get("content-type", "").startswith("application/cloudevents+json"):
            attributes = json.loads(body)
            body = json.dumps(attributes.pop("data", None)).encode()
        if not {"id", "type", "source"} <= attributes.keys():
            await http.answer(send, 400, b"Bad Request")
            return
        scope["event"] = Event(attributes, json.loads(body) if body else None)
        await self.instance.handle(scope, receive, Sender(send))


class Sender:
    def __init__(self, send):
        self._send = send

    async def http(self, message):
        await self._send(message)


def serve(handler):
    http.run(Application, handler)
