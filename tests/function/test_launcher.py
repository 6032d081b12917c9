"""What a function's process is given: variables, bindings, files; and what cannot run here."""

from collections.abc import Mapping
from pathlib import Path, PurePosixPath

import pytest

from relume.base.errors import InvalidManifest
from relume.config import Destination, Function, Plan, Ref, Trigger, load
from relume.config.function import ConfigObject, FromObject, ObjectMount, Variable
from relume.plane.functions import MOUNTS, FunctionLauncher, below, empty_folder, write_mounts
from relume.plane.launch import check
from relume.plane.subscribers import Destinations, SubscriberCapacity
from relume.runtimes.function.environments import Environments
from relume.runtimes.models.store import ModelStore
from tests.config.test_functions import SECRET, folder_of, func_yaml, service

FUNCTION = Function("ns", "f", Path("/f"), container_concurrency=4)
REF = Ref(kind="Service", namespace="ns", name="f", api_version="serving.knative.dev/v1")


def variables(
    function: Function, folder: Path, bound: Mapping[str, str], *objects: ConfigObject
) -> dict[str, str]:
    launcher = FunctionLauncher(
        Plan(functions=(function,), objects=objects),
        Environments(folder),
        folder / "mounts",
        "nats://here",
        {("ns", "f"): bound},
    )
    return launcher._variables(function, 4711)


def test_what_is_bound_wins_over_its_own_variables_and_knative_over_both(tmp_path: Path) -> None:
    function = Function(
        **{"namespace": "ns", "name": "f", "folder": Path("/f")},
        variables=(Variable("K_SINK", "own"), Variable("NATS_URL", "nats://own")),
    )
    given = variables(function, tmp_path, {"K_SINK": "http://sink", "PORT": "1"})
    assert given == {
        "K_SINK": "http://sink",
        "NATS_URL": "nats://own",
        "PORT": "4711",
        "LISTEN_ADDRESS": "127.0.0.1:4711",
        "K_SERVICE": "f",
        "K_CONFIGURATION": "f",
        "K_REVISION": "f-00001",
    }
    assert variables(FUNCTION, tmp_path, {})["NATS_URL"] == "nats://here"


def test_a_variable_that_is_a_path_in_a_mount_names_the_real_file(tmp_path: Path) -> None:
    function = Function(
        **{"namespace": "ns", "name": "f", "folder": Path("/f")},
        variables=(Variable("KEY_FILE", "/etc/keys/token"), Variable("OTHER", "/etc/keyses")),
        mounts=(ObjectMount("/etc/keys", FromObject("Secret", "s")),),
    )
    secret = ConfigObject("Secret", "ns", "s", {"token": b"abc"})
    given = variables(function, tmp_path, {}, secret)
    assert Path(given["KEY_FILE"]).read_bytes() == b"abc"
    assert given["OTHER"] == "/etc/keyses"
    assert given[MOUNTS] == str(tmp_path / "mounts" / "ns.f")


@pytest.mark.parametrize(
    ("value", "real"),
    [
        ("/etc/keys", "/mounts/etc/keys"),
        ("/etc/keys/a/b", "/mounts/etc/keys/a/b"),
        ("/etc", "/etc"),
        ("etc/keys", "etc/keys"),
        ("see /etc/keys", "see /etc/keys"),
    ],
)
def test_only_a_whole_path_in_a_mount_is_changed(value: str, real: str) -> None:
    assert below(Path("/mounts"), {PurePosixPath("/etc/keys"): {}}, value) == real


def test_the_files_of_a_mount_are_for_this_user_alone_and_go_with_a_killed_plane(
    tmp_path: Path,
) -> None:
    folder = empty_folder(tmp_path / "mounts")
    write_mounts(folder, {PurePosixPath("/etc/keys"): {"a": b"1"}, PurePosixPath("/scratch"): {}})
    assert (folder / "etc" / "keys" / "a").stat().st_mode & 0o777 == 0o600
    assert list((folder / "scratch").iterdir()) == []
    assert list(empty_folder(folder).iterdir()) == []


def test_the_next_process_finds_the_keys_that_a_secret_has_now(tmp_path: Path) -> None:
    keys = PurePosixPath("/etc/keys")
    write_mounts(tmp_path, {keys: {"a": b"1", "b": b"2"}})
    write_mounts(tmp_path, {keys: {"a": b"3"}})
    assert {each.name: each.read_bytes() for each in (tmp_path / "etc/keys").iterdir()} == {
        "a": b"3"
    }


def test_what_cannot_run_here_is_refused_before_anything_starts(tmp_path: Path) -> None:
    store = ModelStore(tmp_path / "models")
    (tmp_path / "m.yaml").write_text(service(name="other"))
    with pytest.raises(InvalidManifest, match="no container image runs on this machine") as refused:
        check(load([folder_of(tmp_path, func_yaml()), tmp_path / "m.yaml"]), store)
    assert refused.value.field == "spec.template.spec.containers[0].image"
    run = "volumes:\n- secret: missing\n  path: /etc/keys\n"
    (tmp_path / "m.yaml").write_text(SECRET)
    with pytest.raises(InvalidManifest, match="no Secret default/missing") as refused:
        check(load([folder_of(tmp_path, func_yaml(run=run), "g"), tmp_path / "m.yaml"]), store)
    assert refused.value.field == "run.volumes[0].secret"


@pytest.mark.parametrize(
    ("uri", "url"),
    [
        ("http://f.ns.svc.cluster.local", "http://h/serving/ns/f/"),
        ("http://f.ns.svc/a?b=c", "http://h/serving/ns/f/a?b=c"),
        ("http://f.other.svc.cluster.local/", "http://f.other.svc.cluster.local/"),
        ("https://f.ns.example.com/", "https://f.ns.example.com/"),
    ],
)
def test_the_url_of_a_function_inside_a_cluster_leads_to_it(uri: str, url: str) -> None:
    destinations = Destinations("http://h", "http://b", Plan(functions=(FUNCTION,)))
    assert destinations.resolve(Destination(uri=uri), "ns") == url


def test_a_trigger_delivers_as_much_at_once_as_its_function_can_take() -> None:
    trigger = Trigger("ns", "t", "b", Destination(ref=REF))
    assert SubscriberCapacity(Plan(functions=(FUNCTION,))).of(trigger) == 16
