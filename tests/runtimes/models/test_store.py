"""The model store holds whole models or nothing, whatever interrupts it."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from relume.base.errors import InvalidInput
from relume.runtimes.models import Silent, StoreProgress
from relume.runtimes.models import store as store_module
from relume.runtimes.models.errors import ModelMissing, ModelNotPrepared
from relume.runtimes.models.sources import KNOWN_MODELS, KnownModel, known_model
from relume.runtimes.models.store import ModelStore, default_root

SMOLLM2 = "hf://HuggingFaceTB/SmolLM2-135M-Instruct"


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    return ModelStore(tmp_path / "models")


class Fetcher:
    """Stands for a download: writes two files, then does what the test wants."""

    def __init__(self, then=None) -> None:
        self.calls = 0
        self.then = then

    def __call__(self, _: KnownModel, folder: Path, progress: StoreProgress) -> str:
        self.calls += 1
        (folder / "config.json").write_text("{}")
        (folder / "sub").mkdir()
        weights = folder / "sub" / "model.safetensors"
        weights.write_bytes(b"x" * 100)
        weights.chmod(0o600)
        if self.then is not None:
            self.then(folder)
        return "a test"


@pytest.fixture
def fetcher(monkeypatch: pytest.MonkeyPatch) -> Fetcher:
    fake = Fetcher()
    monkeypatch.setattr(store_module, "fetch_known", fake)
    return fake


def fail_with(error: BaseException):
    def fail(_: Path) -> None:
        raise error

    return fail


def nothing_left(store: ModelStore) -> bool:
    return not [path for path in store.root.rglob("*") if path.is_file() and path.suffix != ".lock"]


def test_a_prepared_model_is_found_by_its_uri_and_lists_its_note(
    store: ModelStore, fetcher: Fetcher
) -> None:
    model = store.prepare("smollm2")
    assert (model.uri, model.bytes, model.note) == (SMOLLM2, 102, "dequantised from Q4_1")
    assert store.resolve(SMOLLM2) == model.path == store.root / model.path.name
    assert model.path.name == "hf--HuggingFaceTB--SmolLM2-135M-Instruct"
    assert store.list() == (model,)
    assert json.loads((model.path / "relume.json").read_text())["source"] == "a test"


def test_preparing_again_does_nothing_by_name_or_by_uri(
    store: ModelStore, fetcher: Fetcher
) -> None:
    assert store.prepare("smollm2") == store.prepare(SMOLLM2) == store.prepare("smollm2")
    assert fetcher.calls == 1


def test_files_are_readable_by_everybody(store: ModelStore, fetcher: Fetcher) -> None:
    path = store.prepare("smollm2").path
    assert (path / "sub" / "model.safetensors").stat().st_mode & 0o777 == 0o644
    assert (path / "sub").stat().st_mode & 0o777 == 0o755


@pytest.mark.parametrize(
    "error", [KeyboardInterrupt(), ModelNotPrepared("no network"), RuntimeError("a bug")]
)
def test_an_error_or_an_interrupt_leaves_nothing(
    store: ModelStore, fetcher: Fetcher, error: BaseException
) -> None:
    fetcher.then = fail_with(error)
    with pytest.raises(type(error)):
        store.prepare("smollm2")
    assert nothing_left(store)
    assert store.list() == ()
    fetcher.then = None
    assert store.prepare("smollm2").bytes == 102


def test_a_full_disk_is_one_clear_error(store: ModelStore, fetcher: Fetcher) -> None:
    fetcher.then = fail_with(OSError(28, "No space left on device"))
    with pytest.raises(ModelNotPrepared, match=r"could not be stored: .*No space left") as raised:
        store.prepare("smollm2")
    assert raised.value.reason == "model-not-prepared"
    assert raised.value.retryable
    assert nothing_left(store)


def test_a_store_that_cannot_be_written_is_one_clear_error(
    tmp_path: Path, fetcher: Fetcher
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ModelNotPrepared, match="could not be stored"):
        ModelStore(tmp_path / "file" / "models").prepare("smollm2")


KILLED = """
import os, signal, sys
from pathlib import Path
from relume.runtimes.models import store

def die(*_): os.kill(os.getpid(), signal.SIGKILL)
def fetch(model, folder, progress):
    (folder / "half").write_text("half")
    if sys.argv[2] == "fetch": die()
    return "killed"
store.fetch_known = fetch
if sys.argv[2] == "flush": store.sync = die
store.ModelStore(Path(sys.argv[1])).prepare("smollm2")
"""


@pytest.mark.parametrize("moment", ["fetch", "flush"])
def test_a_killed_run_leaves_no_model_and_the_next_run_clears_its_leftovers(
    store: ModelStore, fetcher: Fetcher, moment: str
) -> None:
    command = [sys.executable, "-c", KILLED, str(store.root), moment]
    killed = subprocess.run(command, timeout=60, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert len(list(store.root.glob(".partial/*"))) == 1
    assert store.list() == ()
    with pytest.raises(ModelMissing):
        store.resolve(SMOLLM2)
    store.prepare("minilm")  # another model's run clears it too
    assert not list(store.root.glob(".partial/*"))
    assert not (store.prepare("smollm2").path / "half").exists()


def test_everything_is_flushed_before_the_rename(
    store: ModelStore, fetcher: Fetcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = store.root / "hf--HuggingFaceTB--SmolLM2-135M-Instruct"
    flushed: list[str] = []

    def record(path: Path) -> None:
        flushed.append(path.name)
        assert target.exists() == (path == store.root), "flushed on the wrong side of the rename"

    monkeypatch.setattr(store_module, "sync", record)
    store.prepare("smollm2")
    assert flushed.count("config.json") == flushed.count("relume.json") == 1
    assert flushed[-2:] == [target.name, store.root.name]


@pytest.mark.parametrize("damage", ["cut", "gone", "record", "no-record"])
def test_a_damaged_model_is_missing_and_is_made_again(
    store: ModelStore, fetcher: Fetcher, damage: str
) -> None:
    path = store.prepare("smollm2").path
    weights = path / "sub" / "model.safetensors"
    if damage == "cut":
        os.truncate(weights, 50)
    elif damage == "gone":
        weights.unlink()
    elif damage == "record":
        (path / "relume.json").write_text("[")
    else:
        (path / "relume.json").unlink()
    with pytest.raises(ModelMissing, match="relume models prepare smollm2"):
        store.resolve(SMOLLM2)
    assert store.list() == ()
    store.prepare("smollm2")
    assert fetcher.calls == 2
    assert weights.stat().st_size == 100


def test_two_runs_at_once_fetch_once(store: ModelStore, monkeypatch: pytest.MonkeyPatch) -> None:
    fetching, waiting = threading.Event(), threading.Event()

    def hold(_: Path) -> None:
        fetching.set()
        assert waiting.wait(30), "the second run never came to wait"

    class Second(Silent):
        def begin(self, step: str, total: int | None) -> None:
            if step == "wait for another run":
                waiting.set()

    fake = Fetcher(hold)
    monkeypatch.setattr(store_module, "fetch_known", fake)
    results = []
    first = threading.Thread(target=lambda: results.append(store.prepare("smollm2")))
    first.start()
    assert fetching.wait(30)
    results.append(store.prepare("smollm2", Second()))
    first.join(30)
    assert fake.calls == 1
    assert results[0] == results[1]


def test_a_missing_model_names_the_uri_and_the_command(store: ModelStore) -> None:
    with pytest.raises(ModelMissing) as missing:
        store.resolve("hf://org/other")
    assert missing.value.exit_code == 2
    assert "hf://org/other" in str(missing.value)
    assert str(missing.value).endswith("run relume models prepare hf://org/other")


def test_a_short_name_that_nobody_knows_lists_the_known_ones(store: ModelStore) -> None:
    with pytest.raises(ModelMissing, match="named smollm3: known are smollm2, minilm"):
        store.prepare("smollm3")


def test_local_folders_are_used_in_place(store: ModelStore, tmp_path: Path) -> None:
    folder = tmp_path / "my model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    uri = folder.as_uri()
    assert "%20" in uri
    assert store.resolve(uri) == store.resolve(str(folder)) == folder
    model = store.prepare(uri)
    assert (model.path, model.bytes, model.note) == (folder, 2, "used in place")
    assert not store.root.exists()


@pytest.mark.parametrize("uri", ["file:///no/such/folder", "/no/such/folder"])
def test_a_local_folder_that_is_not_there_is_missing(store: ModelStore, uri: str) -> None:
    for call in (store.resolve, store.prepare):
        with pytest.raises(ModelMissing, match="there is no folder /no/such/folder"):
            call(uri)


def test_a_file_uri_on_another_machine_is_refused(store: ModelStore) -> None:
    with pytest.raises(InvalidInput, match="file:///path"):
        store.resolve("file://models/smollm2")


def test_uris_that_look_alike_get_folders_of_their_own(store: ModelStore) -> None:
    uris = ["hf://a/b", "hf://a--b", "hf://a-/b", "hf://a/-b", "hf://a/b/", "s3://a/b", "hf://a?b"]
    uris += ["https://h/m?v=1", "https://h/m?v=2", "hf://a/b:main", "hf://" + "x" * 400, "hf://é"]
    folders = {store._folder(uri).name for uri in uris}
    assert len(folders) == len(uris)
    assert all(len(name) < 200 and "/" not in name for name in folders)


def test_the_root_follows_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RELUME_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    assert default_root() == Path.home() / ".cache/relume/models"
    monkeypatch.setenv("XDG_CACHE_HOME", "/var/cache")
    assert default_root() == Path("/var/cache/relume/models")
    monkeypatch.setenv("RELUME_HOME", "/data")
    assert default_root() == Path("/data/models")


def test_known_models_are_found_by_name_and_by_uri() -> None:
    for model in KNOWN_MODELS:
        assert known_model(model.name) is known_model(model.uri) is model


def test_importing_the_store_loads_nothing_heavy() -> None:
    heavy = "{'torch', 'numpy', 'gguf', 'transformers', 'safetensors', 'kserve_storage', 'vllm'}"
    found = f"str(sorted({heavy} & set(sys.modules)))"
    code = f"import sys, relume.runtimes.models.store; sys.exit({found})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stderr.strip() == "[]"


@pytest.fixture
def web(tmp_path: Path) -> Iterator[str]:
    """A web server on loopback that serves one packed model."""
    import tarfile

    content = tmp_path / "web"
    content.mkdir()
    (content / "config.json").write_text('{"model_type": "llama"}')
    with tarfile.open(content / "model.tar.gz", "w:gz") as archive:
        archive.add(content / "config.json", "config.json")
    handler = partial(SimpleHTTPRequestHandler, directory=str(content))
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_any_other_uri_goes_through_the_storage_package_into_the_same_store(
    store: ModelStore, web: str
) -> None:
    uri = f"{web}/model.tar.gz"
    model = store.prepare(uri)
    assert store.resolve(uri) == model.path
    assert json.loads((model.path / "config.json").read_text()) == {"model_type": "llama"}
    assert store.list() == (model,)


@pytest.mark.parametrize("path", ["/none.tar.gz", "/"])
def test_a_download_that_fails_says_why_in_one_line_and_leaves_nothing(
    store: ModelStore, web: str, path: str
) -> None:
    with pytest.raises(ModelNotPrepared, match="could not be downloaded") as raised:
        store.prepare(web + path)
    assert "\n" not in str(raised.value)
    assert nothing_left(store)


def test_a_scheme_that_the_storage_package_does_not_know_is_an_error(store: ModelStore) -> None:
    with pytest.raises(ModelNotPrepared, match="ftp://h/model could not be downloaded"):
        store.prepare("ftp://h/model")
