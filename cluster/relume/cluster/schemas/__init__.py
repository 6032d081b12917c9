"""The fields of every kind that we write or judge, as the API has them.

The tables hold names, types, required fields, enums and ranges of the kinds of Kubernetes, Knative
and KServe. `cluster/schemas.py` makes them from the published CRDs and the models of the
`kubernetes` package. `schema()` loads the file of a family when the first of its kinds is asked
for.
"""

from relume.cluster.schemas.check import BASE64, check_shape, fractions, pruned
from relume.cluster.schemas.tables import Schema, known_kinds, schema, shape_of

__all__ = [
    "BASE64",
    "Schema",
    "check_shape",
    "fractions",
    "known_kinds",
    "pruned",
    "schema",
    "shape_of",
]
