"""The fields of every kind that we write or judge, as the API has them.

The tables hold names, types, required fields, enums and ranges of the kinds of Kubernetes, Knative
and KServe. `cluster/schemas.py` makes them from the published CRDs and the models of the
`kubernetes` package; `schema()` loads the file of one family when the first of its kinds is asked
for.
"""

from relume.cluster.findings import Finding
from relume.cluster.schemas.check import check_shape
from relume.cluster.schemas.tables import Schema, known_kinds, schema
from relume.config.nodes import Node, Table

__all__ = ["Schema", "known_kinds", "schema", "validate"]


def validate(document: Node) -> tuple[Finding, ...]:
    """What the schema of its kind says against a document; nothing for a kind without tables."""
    if not isinstance(document, Table):
        return ()
    api_version, kind = (_text(document.get(name)) for name in ("apiVersion", "kind"))
    found = schema(api_version, kind)
    return () if found is None else tuple(check_shape(document, found.shape))


def _text(node: Node | None) -> str:
    return getattr(node, "content", "")
