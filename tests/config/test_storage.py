"""Several URIs, claims and volumes: which folders of this machine a predictor gets."""

from pathlib import Path

import pytest

from relume.base.errors import InvalidManifest
from relume.config import Machine, Mount

from .manifests import load_text, read_text, service, together


def several(*uris: str, args: str = "") -> str:
    """A service with storageUris, each written as `URI` or `URI PATH`."""
    lines = []
    for uri in uris:
        name, _, path = uri.partition(" ")
        lines.append(f"- {{uri: {name}" + (f", mountPath: {path}}}" if path else "}"))
    text = service("storageUris:\n" + "\n".join(lines), model=args)
    return text.replace("      storageUri: hf://org/model\n", "")


def test_one_of_several_uris_is_the_model_and_arguments_may_name_the_others(tmp_path: Path) -> None:
    text = several("s3://b/adapters /mnt/models/adapters", "s3://b/base")
    plan = load_text(tmp_path, text)
    (found,) = plan.services
    assert found.storage_uri == "s3://b/base"
    assert found.mounts == (
        Mount("/mnt/models/adapters", "s3://b/adapters"),
        Mount("/mnt/models", "s3://b/base"),
    )
    assert "--model_dir=/mnt/models/adapters serves this one" in plan.not_honoured[0].why


def test_model_dir_chooses_among_several_uris(tmp_path: Path) -> None:
    base, adapters = "s3://b/base /mnt/models/base", "s3://b/adapters"
    text = several(base, adapters, args="args: [--model_dir=/mnt/models/base/v1]")
    plan = load_text(tmp_path, text)
    assert (plan.services[0].storage_uri, plan.services[0].folder) == ("s3://b/base", "v1")
    assert plan.not_honoured == ()


def test_without_one_at_the_model_s_place_the_first_uri_is_served(tmp_path: Path) -> None:
    text = several("s3://b/one /mnt/a/one", "s3://b/two /mnt/a/two")
    assert load_text(tmp_path, text).services[0].storage_uri == "s3://b/one"


@pytest.mark.parametrize("path", ["models", "/"])
def test_a_path_that_no_mount_may_have_is_refused(tmp_path: Path, path: str) -> None:
    with pytest.raises(InvalidManifest, match="write an absolute path"):
        read_text(tmp_path, several(f"s3://b/x {path}"))


@pytest.mark.parametrize("claim", ["claim", "default/claim"])
def test_a_folder_stands_for_a_claim(tmp_path: Path, claim: str) -> None:
    text = service().replace("hf://org/model", "pvc://claim/a/b")
    plan = read_text(tmp_path, text, Machine(volumes={claim: tmp_path}))
    assert plan.cannot_run == ()
    assert plan.services[0].storage_uri == str(tmp_path / "a" / "b")


def test_a_claim_without_a_folder_is_refused_with_the_option(tmp_path: Path) -> None:
    text = service().replace("hf://org/model", "pvc://claim/a/b")
    (wrong,) = read_text(tmp_path, text, Machine(volumes={"other/claim": tmp_path})).cannot_run
    assert wrong.why.endswith("--volume claim=DIR")


def test_a_claim_and_its_volume_of_the_same_files_name_the_folder(tmp_path: Path) -> None:
    claim = """\
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: claim}
spec: {volumeName: disk}
"""
    volume = """\
apiVersion: v1
kind: PersistentVolume
metadata: {name: disk}
spec: {hostPath: {path: /data/models}}
"""
    text = service().replace("hf://org/model", "pvc://claim/a")
    plan = read_text(tmp_path, together(text, claim, volume))
    assert plan.cannot_run == ()
    assert plan.services[0].storage_uri == "/data/models/a"


def test_mounted_folders_are_known_by_their_path(tmp_path: Path) -> None:
    text = service(
        "volumes:\n"
        "- {name: a, persistentVolumeClaim: {claimName: claim}}\n"
        "- {name: b, hostPath: {path: /data}}\n"
        "- {name: c, emptyDir: {medium: Memory}}\n"
        "- {name: d, configMap: {name: x}}\n"
        "- {name: e, nfs: {server: x}}",
        model="volumeMounts:\n"
        "- {name: a, mountPath: /a, subPath: x}\n"
        "- {name: b, mountPath: /b}\n"
        "- {name: c, mountPath: /dev/shm}\n"
        "- {name: d, mountPath: /d}\n"
        "- {name: e, mountPath: /e}",
    )
    plan = read_text(tmp_path, text, Machine(volumes={"claim": tmp_path}))
    assert plan.cannot_run == ()
    assert plan.services[0].mounts == (Mount("/a", str(tmp_path / "x")), Mount("/b", "/data"))
    assert sorted(note.why.partition(":")[0] for note in plan.not_honoured) == [
        "nothing is at /d",
        "nothing is at /dev/shm",
        "nothing is at /e",
    ]
    (wrong,) = read_text(tmp_path, text).cannot_run
    assert "--volume claim=DIR" in wrong.why


def with_files(source: str, mount: str = "mountPath: /d") -> str:
    text = service(
        f"volumes: [{{name: d, {source}}}]", model=f"volumeMounts: [{{name: d, {mount}}}]"
    )
    config = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\ndata: {a.json: '{}', b: two}\n"
    secret = "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\nstringData: {key: hidden}\n"
    return together(text, config, secret)


@pytest.mark.parametrize(
    ("source", "mount", "expected"),
    [
        (
            "configMap: {name: x}",
            "mountPath: /d",
            Mount("/d", files={"a.json": "{}", "b": "two"}),
        ),
        (
            "configMap: {name: x, items: [{key: b, path: in/c}]}",
            "mountPath: /d",
            Mount("/d", files={"in/c": "two"}),
        ),
        ("secret: {secretName: s}", "mountPath: /d", Mount("/d", files={"key": "hidden"})),
        (
            "configMap: {name: x}",
            "mountPath: /d/a, subPath: a.json",
            Mount("/d/a", files={"a.json": "{}", "b": "two"}, only="a.json"),
        ),
    ],
)
def test_a_secret_and_a_config_map_of_the_same_files_become_files(
    tmp_path: Path, source: str, mount: str, expected: Mount
) -> None:
    plan = read_text(tmp_path, with_files(source, mount))
    assert plan.cannot_run == ()
    assert plan.services[0].mounts == (expected,)
    assert "hidden" not in repr(plan)


@pytest.mark.parametrize(
    ("source", "mount"),
    [
        ("configMap: {name: x, items: [{key: b, path: ../c}]}", "mountPath: /d"),
        ("configMap: {name: x, items: [{key: b, path: /c}]}", "mountPath: /d"),
        ("configMap: {name: x}", "mountPath: /d, subPath: ../../c"),
    ],
)
def test_no_file_leaves_its_folder(tmp_path: Path, source: str, mount: str) -> None:
    with pytest.raises(InvalidManifest, match="relative path without"):
        read_text(tmp_path, with_files(source, mount))
    escaping = with_files("configMap: {name: x}").replace("b: two", "../b: two")
    with pytest.raises(InvalidManifest, match=r"invalid key '\.\./b'"):
        read_text(tmp_path, escaping)


def test_a_mount_of_no_volume_is_refused(tmp_path: Path) -> None:
    text = service(model="volumeMounts: [{name: a, mountPath: /a}]")
    with pytest.raises(InvalidManifest, match='not found: "a"'):
        read_text(tmp_path, text)
