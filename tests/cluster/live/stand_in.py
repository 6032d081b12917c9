"""A server that takes a model's place, or an event's: it keeps what is posted, and shows it."""

from relume.base.vocabulary import Json

# Runs in the image as it is: an empty 204 for events, so that no Broker takes it for a reply. It
# ends itself: as a container's first process it would sleep through SIGTERM until the grace period
# is over, and with it hold its device for the five minutes of a revision.
SOURCE = """
import http.server, json, os, signal
signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
kept = []
class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("content-length", 0))).decode()
        kept.append({"headers": {k.lower(): v for k, v in self.headers.items()}, "body": body})
        self.send_response(204)
        self.end_headers()
    def do_GET(self):
        body = json.dumps({"kept": kept}).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
http.server.ThreadingHTTPServer(("0.0.0.0", 8080), Handler).serve_forever()
"""


def container(name: str, image: str, **resources: Json) -> Json:
    """The container, hardened as the runtimes' are."""
    return {
        "name": name,
        "image": image,
        "command": ["python", "-c", SOURCE],
        "ports": [{"containerPort": 8080}],
        "resources": resources,
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "runAsNonRoot": True,
            "runAsUser": 1000,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
    }
