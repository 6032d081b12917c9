"""How long `relume doctor` takes on a large file, beside PyYAML's fastest loader on the same text.

    python loadtests/doctor.py                   medians of 7, a few seconds
    python loadtests/doctor.py -o json           every sample, for a program

The file is a CustomResourceDefinition of about 2 MB, as large as those of KServe. Each round
measures both one after the other, so that the machine's noise hits both alike. The loader makes
plain values; the doctor keeps the place of every value, and judges them.
"""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import click
import yaml
from figures import Figure, Machine, print_notes, rows

from relume.cli.screen import Screen
from relume.cluster.doctor import examine

AT_LEAST = 0.5  # of the speed of the loader
FIELDS, PARTS, VERSIONS = 30, 60, 2
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
DUMPER = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


def large_crd() -> str:
    """A CustomResourceDefinition with thousands of fields and their descriptions."""
    leaf = {"type": "string", "description": "What this field means, in a sentence or two. " * 6}
    part = {
        "type": "object",
        "required": ["field0"],
        "properties": {
            f"field{n}": {"type": "array", "items": {**leaf, "maxLength": n}} for n in range(FIELDS)
        },
    }
    spec = {"type": "object", "properties": {f"part{n}": part for n in range(PARTS)}}
    schema = {"openAPIV3Schema": {"type": "object", "properties": {"spec": spec}}}
    crd = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "kettles.example.org"},
        "spec": {
            "group": "example.org",
            "names": {"kind": "Kettle", "plural": "kettles"},
            "scope": "Namespaced",
            "versions": [
                {"name": f"v{n}", "served": True, "storage": n == 1, "schema": schema}
                for n in range(1, VERSIONS + 1)
            ],
        },
    }
    dumper = type("WrittenOut", (DUMPER,), {"ignore_aliases": lambda *_: True})
    return str(yaml.dump(crd, Dumper=dumper))


def measure(rounds: int) -> Figure:
    """Seconds to examine the file; the baseline is the loader."""
    ours: list[float] = []
    theirs: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "crd.yaml"
        text = large_crd()
        file.write_text(text)
        (only,) = examine([file])
        assert only.kind == "CustomResourceDefinition" and not only.unreadable
        for _ in range(rounds):
            ours.append(seconds(lambda: examine([file])))
            theirs.append(seconds(lambda: yaml.load(text, Loader=LOADER)))
    name = f"a CRD of {len(text) / 1e6:.1f} MB"
    return Figure(name, "s", tuple(ours), tuple(theirs), at_least=AT_LEAST)


def seconds(work: Callable[[], object]) -> float:
    """How long one call takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--rounds", type=click.IntRange(min=1), default=7, show_default=True, metavar="N")
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text")
def main(*, rounds: int, output: str) -> None:
    """Measure what `relume doctor` needs for a large file.

    A missed target is shown and is not a failure.

    \b
    Examples:
      python loadtests/doctor.py
      python loadtests/doctor.py --rounds 21 -o json > doctor.json
    """
    machine = Machine.now()
    figure = measure(rounds)
    screen = Screen.stdout()
    if output == "json":
        screen.json({"machine": machine.to_json(), "figures": [figure.to_json()]})
        return
    screen.title(f"relume doctor on a large file: median of {rounds}")
    headers = ("file", "median", "least … most", "of the loader's speed", "target", "verdict")
    screen.table(headers, rows([figure]))
    print_notes(screen, machine.facts())


if __name__ == "__main__":
    main()
