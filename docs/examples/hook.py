"""A web hook that takes events and prints them: python3 hook.py PORT."""

import sys
from http.server import BaseHTTPRequestHandler, HTTPServer


class Hook(BaseHTTPRequestHandler):
    """Answers 200 to every event."""

    def do_POST(self) -> None:
        """Print the type and the id of the event."""
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        print(self.headers["ce-type"], self.headers["ce-id"], flush=True)
        self.send_response(200)
        self.end_headers()


HTTPServer(("127.0.0.1", int(sys.argv[1])), Hook).serve_forever()
