"""The ingress, its codec and its parsers under atheris: inputs that reach new code are kept.

    python -m tests.fuzz.coverage_guided -runs=300000 -max_total_time=180

Options are libFuzzer's. An input is header lines, an empty line, and the body.
"""

import asyncio
import os
import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["relume.eventing", "relume.base.errors"]):
    from relume.cloudevents.event import CloudEvent
    from relume.cloudevents.http import Mode, encode, encode_batch
    from tests.fuzz.door import Door
    from tests.fuzz.messages import Request

WORDS = (
    *("ce-specversion", "ce-id", "ce-source", "ce-type", "ce-time", "ce-knativebrokerttl"),
    *("content-type", "application/cloudevents", "-batch", "+json", "; charset=", "utf-16"),
    *("iso-8859-1", '"specversion":"1.0"', '"specversion":"0.3"', '"data":', '"data_base64":'),
    *('"datacontenttype":"', "text/plain", "application/json", '"datacontentencoding":"base64"'),
    *("null", "\\\\ud800", "%C3%BC", "1e400", "traceparent", "content-length", "x-request-id"),
)


def seeds() -> list[bytes]:
    """One input for each mode and kind of data."""
    whole = {"id": "1", "source": "/s", "type": "t", "time": "2026-01-01T00:00:00Z", "n": 1}
    made = [
        CloudEvent.create({**whole, "datacontenttype": kind}, data)
        for kind, data in (
            ("application/json", b'{"a": ["]", 1.5]}'),
            ("text/plain; charset=iso-8859-1", b"\xfc"),
            ("image/png", b"\xff"),
        )
    ]
    messages = [encode(event, mode) for event in made for mode in Mode] + [encode_batch(made[:2])]
    return [
        b"\n".join(f"{name}: {value}".encode() for name, value in headers) + b"\n\n" + body
        for headers, body in messages
    ]


def request(data: bytes) -> Request:
    """The request that an input stands for."""
    head, _, body = data.partition(b"\n\n")
    lines = [line.partition(b":") for line in head.split(b"\n")]
    return Request(
        tuple((name.lower(), value.strip(b" ")) for name, colon, value in lines if colon), (body,)
    )


def fuzz(folder: Path) -> None:
    """Run in this process, with its files in `folder`; libFuzzer ends the process."""
    door = Door()
    loop = asyncio.new_event_loop()

    def one_input(data: bytes) -> None:
        loop.run_until_complete(door.try_out(request(data)))

    corpus, words = folder / "corpus", folder / "words"
    corpus.mkdir()
    for number, seed in enumerate(seeds()):
        (corpus / str(number)).write_bytes(seed)
    quoted = (word.replace("\\", "\\\\").replace('"', '\\"') for word in WORDS)
    words.write_text("".join(f'"{word}"\n' for word in quoted))
    options = [f"-dict={words}", "-max_len=1500", "-timeout=10", "-verbosity=0"]
    # What fails is printed in base64 too.
    options += ["-print_final_stats=1", f"-artifact_prefix={folder}/"]
    atheris.Setup([sys.argv[0], *options, *sys.argv[1:], str(corpus)], one_input)
    atheris.Fuzz()


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        child = os.fork()
        if child == 0:
            fuzz(Path(folder))
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


if __name__ == "__main__":
    sys.exit(main())
