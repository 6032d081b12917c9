"""`relume runtime`: events for a model server that knows nothing of them."""

import click

from relume.cli.errors import BadUsage
from relume.cli.options import http_url, output_option, seconds


@click.command("runtime", short_help="Events in front of any OpenAI, V1 or V2 server.")
@click.option(
    "--upstream",
    required=True,
    metavar="URL",
    help="URL of the server; a path in it is put before every route.",
)
@click.option(
    "--model",
    metavar="NAME",
    help="The model for events that name none. Default: the first that /v1/models lists.",
)
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    help="Address to listen on; 0.0.0.0 is all of them.",
)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8080,
    show_default=True,
    envvar="PORT",
    help="Port to listen on; 0 takes a free one.",
)
@click.option(
    "--grace",
    default="300s",
    show_default=True,
    metavar="TIME",
    help="How long requests may run on after SIGTERM.",
)
@output_option
def command(
    *, upstream: str, model: str | None, host: str, port: int, grace: str, output: str
) -> int:
    """Answer CloudEvents with the model of a server that speaks plain HTTP.

    An event is answered as by Relume's own predictor: one response or error event in the mode of
    the request, never a status that a Broker would retry for ever. Every other request goes on as
    it is, streams included. The server may be SGLang, TGI, Triton, llama.cpp, transformers: any
    with OpenAI's routes or KServe's V1 or V2.

    \b
    Examples:
      relume runtime --upstream http://127.0.0.1:8000
      relume runtime --upstream http://127.0.0.1:8000/openai --model llama --port 8090
      curl http://127.0.0.1:8080/ -d 'What is the capital of France?'
          -H 'ce-specversion: 1.0' -H 'ce-id: 1' -H 'ce-source: /me' -H 'ce-type: ask'
          -H 'content-type: text/plain'
    """
    from relume.cli.machine.runtime_foreground import run
    from relume.plane.runtime import RuntimeSettings

    parts = http_url("--upstream", upstream)
    if parts.query or parts.fragment:
        raise BadUsage(f"--upstream {upstream}: leave out the query and the fragment")
    settings = RuntimeSettings(upstream, model, host, port, seconds("--grace", grace))
    return run(settings, as_json=output == "json")
