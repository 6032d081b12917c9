"""Write what an image contains as a CycloneDX 1.6 bill of materials.

    python sbom.py OUT.json [DPKG_STATUS]

Listed are the Python distributions that this interpreter sees and the system's Debian packages.
The same contents make the same bytes, but for the time, which SOURCE_DATE_EPOCH fixes. Standard
library only: it runs inside the image.
"""

import json
import os
import re
import sys
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from urllib.parse import quote

Component = dict[str, object]
DPKG = Path("/var/lib/dpkg/status")
_LONGEST_LICENCE = 64  # some packages put the whole text into the field


def bill(python: list[Component], system: list[Component], when: datetime) -> dict[str, object]:
    """The document (https://cyclonedx.org/docs/1.6/json/)."""
    components = [*python, *system]
    names = "\n".join(str(one["bom-ref"]) for one in components)
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, names)}",
        "version": 1,
        "metadata": {
            "timestamp": when.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "component": {"type": "container", "bom-ref": "image", "name": "relume-vllm"},
        },
        "components": components,
        "dependencies": [{"ref": "image", "dependsOn": [one["bom-ref"] for one in components]}],
    }


def python_components() -> list[Component]:
    """Every distribution once, as the interpreter finds it first; sorted by name."""
    found: dict[str, Component] = {}
    for distribution in metadata.distributions():
        known = distribution.metadata.json
        name = re.sub(r"[-_.]+", "-", str(known.get("name", ""))).lower()
        if not name or name in found:
            continue
        purl = f"pkg:pypi/{name}@{quote(distribution.version)}"
        component: Component = {
            "type": "library",
            "bom-ref": purl,
            "name": name,
            "version": distribution.version,
            "purl": purl,
        }
        expression, text = known.get("license_expression"), str(known.get("license", ""))
        if expression:
            component["licenses"] = [{"expression": expression}]
        elif text and len(text) <= _LONGEST_LICENCE and "\n" not in text:
            component["licenses"] = [{"license": {"name": text}}]
        found[name] = component
    return [found[name] for name in sorted(found)]


def system_components(status: Path) -> list[Component]:
    """The installed packages of a dpkg status file; none where there is no such file."""
    if not status.is_file():
        return []
    found = {str(one["bom-ref"]): one for one in _packages(status.read_text())}
    return [found[purl] for purl in sorted(found)]


def _packages(text: str) -> Iterator[Component]:
    for block in text.split("\n\n"):
        lines = [line for line in block.splitlines() if line and not line[0].isspace()]
        fields = dict(line.split(": ", 1) for line in lines if ": " in line)
        if fields.get("Status", "").endswith(" installed"):
            name, version = fields["Package"], fields["Version"]
            purl = f"pkg:deb/debian/{name}@{quote(version)}?arch={fields.get('Architecture', '')}"
            yield {
                "type": "library",
                "bom-ref": purl,
                "name": name,
                "version": version,
                "purl": purl,
            }


def main(out: Path, status: Path = DPKG) -> None:
    """Write the bill of this image."""
    seconds = os.environ.get("SOURCE_DATE_EPOCH")
    when = datetime.fromtimestamp(int(seconds), UTC) if seconds else datetime.now(UTC)
    made = bill(python_components(), system_components(status), when)
    out.write_text(json.dumps(made, indent=1) + "\n")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
