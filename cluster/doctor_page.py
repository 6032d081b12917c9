"""Print cluster/DOCTOR.md: one section for each reason that `relume doctor` can give.

A reason with a folder of its name in cluster/examples shows the manifests there: one in which the
doctor finds it, and the same one mended. Run by `make schemas`; a test compares.
"""

from pathlib import Path

from relume.cluster.reasons import REASONS, Reason

HEAD = """\
# What `relume doctor` finds

Every finding has a reason, and every reason its section here. `relume doctor FILE` reads the files
and says of each document what a cluster does with it: *accepted*, *refused*, or *pruned* (a client
that does not ask for strict validation has it accepted with a field dropped; `kubectl` has it
refused). The settings are those that Knative ships; `--features FILE` takes others.

The budgets are sums of what is written: a request waits for a replica inside its own `timeout`;
the broker's attempt (`delivery.timeout`) must outlast it; the retries must outlast a start where
nothing holds the request; the Revision must be ready before its progress deadline. `--cold-start`
says how long a start takes.

Written by `make schemas` from `cluster/relume/cluster/reasons.py`.
"""
GRAVITY = {
    "error": "An error",
    "warning": "A warning",
    "info": "A note",
}
EFFECT = {
    "refused": "admission refuses the document",
    "pruned": "the field is dropped",
    "none": "admission takes it",
}


EXAMPLES = Path(__file__).parent / "examples"


def examples(word: str) -> str:
    """The manifests of a reason, failing and fixed; nothing where it has none."""
    folder = EXAMPLES / word
    if not folder.is_dir():
        return ""
    failing, fixed = ((folder / f"{name}.yaml").read_text() for name in ("failing", "fixed"))
    return f"\nFound in:\n\n```yaml\n{failing}```\n\nMended:\n\n```yaml\n{fixed}```\n"


def section(word: str, reason: Reason) -> str:
    """One reason."""
    what = f"{GRAVITY[reason.severity]}; {EFFECT[reason.effect]}."
    text = f"## {word}\n\n{what}\n\n{reason.why}\n\n**What to do:** {reason.fix}\n"
    return text + examples(word)


if __name__ == "__main__":
    print(HEAD, *(section(word, reason) for word, reason in REASONS.items()), sep="\n", end="")
