"""Values for the official Helm chart of NATS: what the jobs gateway needs of a NATS cluster.

They are a file beside the base and no manifest: whoever runs NATS gives them to Helm. The names are
those of nats-io/k8s, helm/charts/nats, 2.14.2.
"""

from collections.abc import Sequence
from textwrap import wrap

from relume.base.vocabulary import JsonValue
from relume.cluster.render import rules
from relume.cluster.render.draft import Book
from relume.cluster.render.folder import HEAD, yaml_text
from relume.cluster.render.gateway import COPIES

FILE = "nats-values.yaml"
_DOCUMENT = "Helm/nats"
_COMMENTS = """\
# Values for the official Helm chart of NATS (github.com/nats-io/k8s, 2.14 or newer), for whoever
# runs NATS:
#   helm upgrade --install nats nats/nats --namespace nats --create-namespace -f nats-values.yaml
# An existing NATS does too, if it has what these values say: relume doctor --nats URL checks it.
# Accounts and users are yours to add: the gateway needs one user of one account with JetStream, and
# its credentials file in the Secret that --nats-credentials-secret names.
"""
# Path, value and reason, in the order of the file.
_VALUES: Sequence[tuple[str, JsonValue, str]] = (
    ("config.cluster.enabled", True, "everything is kept by several servers"),
    ("config.cluster.replicas", COPIES, "of three servers one may be away, and nothing is lost"),
    ("config.jetstream.enabled", True, "jobs, records, tokens and payloads lie in JetStream"),
    (
        "config.jetstream.fileStore.pvc.enabled",
        True,
        "what was accepted survives a server that starts again",
    ),
    (
        "config.jetstream.fileStore.pvc.size",
        "20Gi",
        "requests and answers of a day; a million waiting jobs of 1 KiB take about 2 GiB",
    ),
    (
        "config.merge.max_payload",
        "<< 8MB >>",
        "the largest message that the gateway stores; larger bodies go to the object store",
    ),
    (
        "config.jetstream.merge.sync_interval",
        "1s",
        "how much a power cut of all three servers could take; the default is two minutes",
    ),
    ("container.env.GOMEMLIMIT", "1600MiB", "four fifths of the memory limit"),
    (
        "container.merge.resources",
        {"requests": {"cpu": "1", "memory": "2Gi"}, "limits": {"cpu": "1", "memory": "2Gi"}},
        "requests equal limits, so that no server is evicted for its neighbours",
    ),
    ("podDisruptionBudget.enabled", True, "a drained node takes one server at a time"),
    (
        "podTemplate.topologySpreadConstraints",
        {"kubernetes.io/hostname": {"maxSkew": 1, "whenUnsatisfiable": "DoNotSchedule"}},
        "three servers on one node would go together",
    ),
)


def nats_values(book: Book) -> str:
    """The text of the file; each value is recorded in `book` with its reason."""
    tree: dict[str, JsonValue] = {}
    lines = [_COMMENTS.rstrip(), "#"]
    for path, value, reason in _VALUES:
        *tables, last = path.split(".")
        here = tree
        for name in tables:
            inner = here.setdefault(name, {})
            assert isinstance(inner, dict)
            here = inner
        here[last] = value
        book.decide(FILE, _DOCUMENT, path, value, rules.GATEWAY_NATS, reason)
        lines += [f"# {line}" for line in wrap(f"{path}: {reason}.", 96, subsequent_indent="  ")]
    return HEAD + "\n".join(lines) + "\n" + yaml_text([tree], head="")
