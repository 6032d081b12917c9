"""Write eventing/manifests/ from the registry: `make manifests`."""

from pathlib import Path

from relume.eventing.registry.documents import files

MANIFESTS = Path(__file__).parent / "manifests"

if __name__ == "__main__":
    for name, text in files().items():
        path = MANIFESTS / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
