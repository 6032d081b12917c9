"""What a user may have around a command: bad values, files, streams, and planes of garbage."""

import errno
import io
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

MANIFEST = """
apiVersion: eventing.knative.dev/v1
kind: Broker
metadata: {name: inbox, annotations: {note: "é → 漢"}}
---
apiVersion: eventing.knative.dev/v1
kind: Trigger
metadata: {name: ask}
spec:
  broker: inbox
  filters: [exact: {type: "é"}]
  subscriber: {uri: "http://127.0.0.1:9/é"}
"""
SERVICE = """
apiVersion: serving.kserve.io/v1beta1
kind: InferenceService
metadata: {name: asleep}
spec: {predictor: {model: {modelFormat: {name: vLLM}, storageUri: STORAGE}}}
"""
KUBECONFIG = """
apiVersion: v1
kind: Config
current-context: here
contexts: [{name: here, context: {cluster: here, user: me}}]
clusters: [{name: here, cluster: {server: "URL"}}]
users: [{name: me, user: {}}]
"""
DEEP = 100_000
EVENT = '{"type": "t", "data": "é → 漢"}'

#: Text for any option: empty, long, not UTF-8, not a number, not a URL, with line ends.
TEXTS = (
    *("", " ", "x", "-", "--", "=", "a=b", "A=b", "a=\udcff", "@", "@/no/such", "\udcff"),
    *("caf\udcc3\udca9", "é", "→", "a\nb", "\x1b[31m", "x" * 70_000, "[" * 3000),
    *("0", "-1", "7", "9" * 5000, "1e400", "nan", "٣", "²", "5m", "-5m", "9999999h", "10Gi"),
    *("9" * 5000 + "Gi", "1.5", "type = 'x'", "type LIKE 'x", "(" * 5000, "text/\udcff", "é/é"),
    *("default/other", "inbox", "../..", "?#", "hf://x", "file://\udcff", "file://host/x"),
    *("file:///a%00b", "s3://", "~nosuchuser/x", "json", "vllm=x@sha256:1", "relume-vllm-cpu=x"),
)
URLS = (
    *("http://127.0.0.1:808o", "http://[::1", "[::1", "gopher://x", "http://", "://", "http:/x"),
    *("http://a..b", f"http://{'a' * 70}", "http://x:99999", "http://x:-1", "http://127.0.0.1:0"),
    *("http://127.0.0.1:9/?q", "http://127.0.0.1:9/#f", "\udcff", "http://\udcff", "127.0.0.1:9"),
    *("http://user:pass@127.0.0.1:9", "http://127.0.0.1:9/" + "x" * 70_000, "http://a b"),
    "http://xn--a",
)

#: Answers of what is no plane, or another version of one; `ME` becomes its own URL.
_STATUS = (
    b'{"version": "9", "pid": 1, "started_at": "", "http": "ME", "broker": "%b", "state_dir": "",'
    b' "serving": {}, "eventing": {"brokers": [{"namespace": "default", "name": "%b",'
    b' "url": "%b"}]}}'
)
ANSWERS = (
    *(b"", b"null", b"[]", b"{}", b"\xff\xfe", b"<html>", b"[" * DEEP, b"9" * 5000, b'"\\ud800"'),
    *(b'{"version": 1}', b'{"error": {}}', b'{"letters": [], "next": 0, "error": 1}'),
    _STATUS % (b"", b"inbox", b""),
    _STATUS % (b"x", b"inbox", b"http://127.0.0.1:808o"),
    _STATUS % (b"x", b"../\\ud800?#", b"ME"),
    _STATUS % (b"x", b"inbox", b"ME/\\ud800"),
    b'{"letters": [{"sequence": 1, "at": "soon", "broker": "b", "trigger": "t", "type": "t",'
    b' "id": "\\ud800\\u001b", "event": {"data": "\\ud83d"}}]}',
    b": subscribed\n\ndata: {\n\n",
    b": subscribed\n\ndata: " + b"[" * DEEP + b"\n\n",
    b": subscribed\n\ndata: {}\n\n",
    b': subscribed\n\ndata: {"at": "soon", "stage": "replied", "broker": "\\ud800", "event":'
    b' {"id": "x", "type": "relume.inference.response", "data": {"choices": [[1]]}}}\n\n'
    b'data: {"at": "2026-01-01T00:00:00Z", "stage": "x", "broker": "", "event": {"id": "x"}}\n\n',
)


class Garbage(ThreadingHTTPServer):
    """Answers every request with `answer`, which a test sets, and with `status`."""

    answer = b""
    status = 200
    daemon_threads = True

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Answer(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        server = self.server
        assert isinstance(server, Garbage)
        self.rfile.read(int(self.headers.get("content-length") or 0))
        body = server.answer.replace(b"ME", server.url.encode())
        self.send_response(server.status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_DELETE = do_PATCH = do_GET  # noqa: N815

    def log_message(self, *args: object) -> None:
        """Say nothing."""


@contextmanager
def garbage() -> Iterator[Garbage]:
    """A server of garbage on a free port, for as long as the block runs."""
    with Garbage(("127.0.0.1", 0), _Answer) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def make_files(folder: Path, url: str) -> list[Path]:
    """Good and bad files of every kind, and paths where there is none."""
    contents: dict[bytes, bytes] = {
        b"good.yaml": MANIFEST.encode(),
        b"service.yaml": SERVICE.replace("STORAGE", "hf://org/model").encode(),
        b"nohome.yaml": SERVICE.replace("STORAGE", "~nosuchuser/x").encode(),
        b"nul.yaml": SERVICE.replace("STORAGE", '"file:///a\\0b"').encode(),
        b"surrogate.yaml": MANIFEST.replace("é → 漢", "\\uD800").encode(),
        b"event.json": EVENT.encode(),
        b"\xff.yaml": MANIFEST.encode(),
        b"a\nb.yaml": b"kind: [",
        b"empty.yaml": b"",
        b"binary.yaml": b"\xff\xfe\x00\x01",
        b"nul.json": b"\x00" * 100,
        b"utf16.json": EVENT.encode("utf-16"),
        b"deep.json": b'{"type": "t", "data": ' + b"[" * DEEP + b"]" * DEEP + b"}",
        b"deep900.json": b'{"type": "t", "data": ' + b"[" * 900 + b"]" * 900 + b"}",
        b"open.json": b"[\n" * DEEP,
        # Line by line: PyYAML's own scanner, which reads a kubeconfig, takes seconds for one line.
        b"deep.yaml": b"a:\n" + b" [\n" * DEEP,
        b"long.json": b'{"type": "t", "n": ' + b"9" * 5000 + b"}",
        b"config.json": b'{"architectures": [1], "hidden_size": "x", "num_hidden_layers": 1e400}',
        b"kubeconfig": KUBECONFIG.replace("URL", url).encode(),
        b"kubeconfig-list": b"[1, 2]",
        b"kubeconfig-words": b"current-context: 7\ncontexts: x\nclusters: {a: b}\n",
        b"kubeconfig-binary": b"\xff\xfe",
        b"kubeconfig-open": b"{",
    }
    for name, content in contents.items():
        (folder / os.fsdecode(name)).write_bytes(content)
    (folder / "folder").mkdir()
    (folder / "model").mkdir()
    (folder / "model" / "config.json").write_bytes(b"[" * DEEP)
    (folder / "loop.yaml").symlink_to("loop.yaml")
    locked = folder / "locked.yaml"
    locked.write_text(MANIFEST)
    locked.chmod(0)
    made = [Path(name) for name in ("/no/such/file", "x" * 300, "/dev/null", "/dev/zero", "-", "")]
    return [*sorted(folder.iterdir()), folder / "good.yaml" / "x", *made]


class _Raw(io.RawIOBase):
    def __init__(self, number: int) -> None:
        self._number = number

    def writable(self) -> bool:
        return True

    def write(self, data: object) -> int:
        raise OSError(self._number, os.strerror(self._number))


def failing_output(number: int = errno.ENOSPC) -> io.TextIOWrapper:
    """An output of which every write fails."""
    return io.TextIOWrapper(io.BufferedWriter(_Raw(number), 1), "utf-8")
