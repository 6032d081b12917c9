"""How long `relume claims explain` takes on a large cluster.

    python loadtests/claims.py [--nodes 1000] [--gpus 8]

An inventory as `kubectl get resourceslices -o yaml` prints it, and claims of 8 devices: one that
every node can serve, one that none can because of a constraint, one in which constraints cross.
Prints the seconds of each step, for YAML and JSON.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

import yaml

from relume.cluster.claims import documents
from relume.cluster.claims.explain import explain

MODEL = "NVIDIA H100 80GB HBM3"
DRIVER = "gpu.nvidia.com"
LIMIT = 2.0  # seconds, reading included


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--nodes", type=int, default=1000)
    parser.add_argument("--gpus", type=int, default=8)
    chosen = parser.parse_args()
    inventory = {"apiVersion": "v1", "kind": "List", "items": slices(chosen.nodes, chosen.gpus)}
    dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
    with tempfile.TemporaryDirectory() as folder:
        files = {"yaml": Path(folder) / "inventory.yaml", "json": Path(folder) / "inventory.json"}
        files["yaml"].write_text(yaml.dump(inventory, Dumper=dumper))
        files["json"].write_text(json.dumps(inventory))
        for form, file in files.items():
            for name, claim in claims().items():
                path = Path(folder) / f"{name}.yaml"
                path.write_text(yaml.safe_dump(claim))
                print(line(form, name, path, file))


def line(form: str, name: str, claim: Path, inventory: Path) -> str:
    """Explain one claim and say how long it took."""
    start = time.perf_counter()
    there = documents.read(inventory)
    read = time.perf_counter()
    report = explain(documents.read(claim), there)[0]
    end = time.perf_counter()
    total = end - start
    verdict = "ok" if total < LIMIT else f"over {LIMIT} s"
    return (
        f"{form}  {name:12} {total:5.2f} s ({verdict}): reading {read - start:4.2f} s, "
        f"explaining {end - read:4.2f} s: {report.answer}: {report.sentence}"
    )


def slices(nodes: int, gpus: int) -> list[dict[str, object]]:
    """One ResourceSlice for each node, with values of its own for every GPU."""
    return [_slice(f"node-{number}", number, gpus) for number in range(nodes)]


def _slice(node: str, number: int, gpus: int) -> dict[str, object]:
    return {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "ResourceSlice",
        "metadata": {"name": f"{node}-{DRIVER}"},
        "spec": {
            "driver": DRIVER,
            "nodeName": node,
            "pool": {"name": node, "generation": 1, "resourceSliceCount": 1},
            "devices": [_gpu(number, i) for i in range(gpus)],
        },
    }


def _gpu(node: int, i: int) -> dict[str, object]:
    attributes: dict[str, dict[str, object]] = {
        "type": {"string": "gpu"},
        "uuid": {"string": f"GPU-{node:08x}-{i:04x}"},
        "productName": {"string": MODEL},
        "brand": {"string": "Nvidia"},
        "architecture": {"string": "Hopper"},
        "cudaComputeCapability": {"version": "9.0.0"},
        "driverVersion": {"version": "580.82.7"},
        "cudaDriverVersion": {"version": "13.0.0"},
        "resource.kubernetes.io/pciBusID": {"string": f"0000:{i:02x}:00.0"},
        "resource.kubernetes.io/pcieRoot": {"string": f"pci0000:{i // 2:02x}"},
        "resource.kubernetes.io/numaNode": {"int": i // 4},
    }
    capacity = {"memory": {"value": "81559Mi"}}
    return {"name": f"gpu-{i}", "attributes": attributes, "capacity": capacity}


def claims() -> dict[str, dict[str, object]]:
    """The claims that are explained, by name."""
    root, numa = "resource.kubernetes.io/pcieRoot", "resource.kubernetes.io/numaNode"
    return {
        "fits": _claim([_request("gpu", 8)], [_match(f"{DRIVER}/productName", "gpu")]),
        "one-root": _claim([_request("gpu", 8)], [_match(root, "gpu")]),
        "crossed": _claim(
            [_request("left", 4), _request("right", 4)],
            [_match(numa, "left"), _match(numa, "right"), _match(root, "left", "right")],
        ),
    }


def _claim(requests: list[object], constraints: list[object]) -> dict[str, object]:
    return {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "ResourceClaim",
        "metadata": {"name": "claim"},
        "spec": {"devices": {"requests": requests, "constraints": constraints}},
    }


def _request(name: str, count: int) -> dict[str, object]:
    return {"name": name, "exactly": {"deviceClassName": "llm-gpu-80g", "count": count}}


def _match(attribute: str, *requests: str) -> dict[str, object]:
    return {"requests": list(requests), "matchAttribute": attribute}


if __name__ == "__main__":
    main()
