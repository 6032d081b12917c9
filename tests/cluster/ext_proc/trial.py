"""A stand-in for llm-d's endpoint picker, and for the Envoy in front of it, in one program.

Run as `python trial.py` with the packages of envoy.txt on the path. It reads a trial as JSON from
its standard input, and writes what Envoy was told for each request to its standard output. The two
speak the external processing protocol over a real socket.

The picker keeps the Endpoint Picker Protocol 1.0.0 (gateway-api-inference-extension 84436a96,
docs/proposals/004-endpoint-picker-protocol): the destination as a header and as dynamic metadata,
the subset that the gateway allows, 503 and 429 as immediate responses. From llm-d-router ebab6879
are the reasons of drops and the headers that it keeps from the model server
(pkg/epp/util/request/headers.go).
"""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from typing import Any

from envoy_data_plane.envoy.config.core import v3 as core
from envoy_data_plane.envoy.service.ext_proc import v3
from envoy_data_plane.envoy.type import v3 as http
from envoy_data_plane.google.protobuf import ListValue, Struct, Value
from grpclib.client import Channel
from grpclib.server import Server

DESTINATION = "x-gateway-destination-endpoint"
SUBSET = "x-gateway-destination-endpoint-subset"
DROPPED = "x-llm-d-request-dropped-reason"
OBJECTIVE = "x-llm-d-inference-objective"
#: What a user tells the router, and no model server sees.
FOR_THE_ROUTER = (
    "x-llm-d-inference-fairness-id",
    OBJECTIVE,
    "x-llm-d-model-name-rewrite",
    "x-llm-d-slo-ttft-ms",
    "x-llm-d-slo-tpot-ms",
)
Json = dict[str, Any]


class Picker(v3.ExternalProcessorBase):
    """Picks one endpoint after the other. A saturated pool drops what an objective lets wait."""

    def __init__(self, endpoints: list[str], saturated: bool, sheddable: set[str]) -> None:
        self._endpoints = endpoints
        self._saturated = saturated
        self._sheddable = sheddable
        self._picked = 0

    async def process(
        self, messages: AsyncIterator[v3.ProcessingRequest]
    ) -> AsyncIterator[v3.ProcessingResponse]:
        headers: dict[str, str] = {}
        subset: list[str] | None = None
        async for message in messages:
            if (came := message.request_headers) is not None:
                headers = {h.key: h.raw_value.decode() for h in came.headers.headers}
                subset = _subset(message.metadata_context)
            # The answer to the headers waits for the body, which the scorers read.
            if (body := message.request_body) is not None and body.end_of_stream:
                yield self._answer(headers, subset)
                mutation = v3.BodyMutation(
                    streamed_response=v3.StreamedBodyResponse(body=body.body, end_of_stream=True)
                )
                response = v3.CommonResponse(body_mutation=mutation)
                yield v3.ProcessingResponse(request_body=v3.BodyResponse(response=response))

    def _answer(self, headers: dict[str, str], subset: list[str] | None) -> v3.ProcessingResponse:
        if self._saturated and headers.get(OBJECTIVE) in self._sheddable:
            return _dropped(429, "rejected-saturated")
        able = [one for one in self._endpoints if subset is None or one in subset]
        if not able:
            return _dropped(503, "rejected-no-endpoints")
        first = self._picked % len(able)
        self._picked += 1
        chosen = ",".join([*able[first:], *able[:first]])  # the others are for a retry
        value = Value(string_value=chosen)
        inner = Struct(fields={DESTINATION: value})
        mutation = v3.HeaderMutation(
            set_headers=[
                core.HeaderValueOption(
                    header=core.HeaderValue(key=DESTINATION, raw_value=chosen.encode())
                )
            ],
            remove_headers=[name for name in headers if name in FOR_THE_ROUTER],
        )
        response = v3.CommonResponse(clear_route_cache=True, header_mutation=mutation)
        return v3.ProcessingResponse(
            request_headers=v3.HeadersResponse(response=response),
            dynamic_metadata=Struct(fields={"envoy.lb": Value(struct_value=inner)}),
        )


def _subset(context: core.Metadata | None) -> list[str] | None:
    hint = None if context is None else context.filter_metadata.get("envoy.lb.subset_hint")
    if hint is None or SUBSET not in hint.fields:
        return None
    listed = hint.fields[SUBSET].list_value
    return [] if listed is None else [str(each.string_value) for each in listed.values]


def _dropped(status: int, reason: str) -> v3.ProcessingResponse:
    option = core.HeaderValueOption(header=core.HeaderValue(key=DROPPED, raw_value=reason.encode()))
    response = v3.ImmediateResponse(
        status=http.HttpStatus(code=http.StatusCode(status)),
        headers=v3.HeaderMutation(set_headers=[option]),
        body=reason.encode(),
    )
    return v3.ProcessingResponse(immediate_response=response)


async def ask(stub: v3.ExternalProcessorAsyncStub, request: Json) -> Json:
    """Ask the picker as Envoy does, and return what becomes of the request."""

    async def messages() -> AsyncIterator[v3.ProcessingRequest]:
        headers = [
            core.HeaderValue(key=name, raw_value=value.encode())
            for name, value in request["headers"].items()
        ]
        context = None
        if (subset := request.get("subset")) is not None:
            values = ListValue(values=[Value(string_value=each) for each in subset])
            hint = Struct(fields={SUBSET: Value(list_value=values)})
            context = core.Metadata(filter_metadata={"envoy.lb.subset_hint": hint})
        came = v3.HttpHeaders(headers=core.HeaderMap(headers=headers))
        yield v3.ProcessingRequest(request_headers=came, metadata_context=context)
        body = v3.HttpBody(body=request["body"].encode(), end_of_stream=True)
        yield v3.ProcessingRequest(request_body=body)

    told: Json = {"headers": dict(request["headers"])}
    async for answer in stub.process(messages()):
        if (now := answer.immediate_response) is not None:
            told["status"] = int(now.status.code)
            told["answer"] = {
                h.header.key: h.header.raw_value.decode() for h in now.headers.set_headers
            }
            return told
        if (of_headers := answer.request_headers) is not None:
            mutation = of_headers.response.header_mutation
            for name in mutation.remove_headers:
                del told["headers"][name]
            for option in mutation.set_headers:
                told["headers"][option.header.key] = option.header.raw_value.decode()
            inner = answer.dynamic_metadata.fields["envoy.lb"].struct_value
            told["metadata"] = inner.fields[DESTINATION].string_value
        if (of_body := answer.request_body) is not None:
            streamed = of_body.response.body_mutation.streamed_response
            told["body"] = streamed.body.decode()
            if streamed.end_of_stream:
                return told
    raise AssertionError("the picker has said nothing")


async def main() -> None:
    """Carry out the trial on the standard input."""
    trial = json.load(sys.stdin)
    picker = Picker(trial["endpoints"], trial["saturated"], set(trial["sheddable"]))
    server = Server([picker])
    await server.start("127.0.0.1", 0)
    assert server._server is not None  # grpclib does not tell the port otherwise
    port = server._server.sockets[0].getsockname()[1]
    channel = Channel("127.0.0.1", port)
    stub = v3.ExternalProcessorAsyncStub(channel)
    told = [await ask(stub, request) for request in trial["requests"]]
    channel.close()
    server.close()
    await server.wait_closed()
    json.dump(told, sys.stdout)


if __name__ == "__main__":
    asyncio.run(main())
