"""The files of the page: HTML, modules and styles of our own, which lie in `static` beside this.

They are read once. The policy lets the page load nothing but them, run no script that is written
into the document, and make no element from text (Content Security Policy Level 3, Trusted Types).
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files

from starlette.responses import Response

POLICY = (
    "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "object-src 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
)
HEADERS = {
    "content-security-policy": POLICY,
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "cache-control": "no-cache",
}
INDEX = "index.html"
_TYPES = {
    "html": "text/html; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "svg": "image/svg+xml",
}


@dataclass(frozen=True, slots=True)
class Asset:
    """One file, and the tag by which a browser asks whether it has changed."""

    media_type: str
    body: bytes
    tag: str

    def answer(self, known: str | None) -> Response:
        """The file; 304 to a browser that has it."""
        headers = {**HEADERS, "etag": self.tag}
        if known == self.tag:
            return Response(status_code=304, headers=headers)
        return Response(self.body, media_type=self.media_type, headers=headers)


def read_assets() -> Mapping[str, Asset]:
    """Every file of the page by its name."""
    found = {}
    for file in (files(__package__) / "static").iterdir():
        media_type = _TYPES.get(file.name.rpartition(".")[2])
        if media_type is not None:
            body = file.read_bytes()
            tag = f'"{hashlib.sha256(body).hexdigest()[:16]}"'
            found[file.name] = Asset(media_type, body, tag)
    return found
