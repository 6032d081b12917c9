"""func.yaml, the Knative Services that configure functions, and what these take from objects."""

from pathlib import Path
from textwrap import indent

import pytest

from relume.base.errors import InvalidManifest
from relume.config import Function, Plan, load
from relume.config.config_objects import by_key, files_of, variables_of
from relume.config.function_documents import service_document
from relume.config.loader import load_plan

from .manifests import HERE, broker, together


def func_yaml(more: str = "", deploy: str = "", run: str = "") -> str:
    """A func.yaml with lines added at the top, to deploy and to run."""
    text = f"""\
specVersion: 0.36.0
name: f
runtime: python
created: 2026-11-01T10:00:00Z
{more}
"""
    for name, lines in (("run", run), ("deploy", deploy)):
        text += f"{name}:\n{indent(lines, '  ')}\n" if lines else ""
    return text


def folder_of(parent: Path, text: str, name: str = "f") -> Path:
    folder = parent / name
    (folder / "function").mkdir(parents=True)
    (folder / "function" / "__init__.py").touch()
    (folder / "pyproject.toml").write_text("[project]\nname = 'function'\n")
    (folder / "func.yaml").write_text(text)
    return folder


def plan_of(tmp_path: Path, text: str, manifests: str = "") -> Plan:
    paths = [folder_of(tmp_path, text)]
    if manifests:
        (tmp_path / "m.yaml").write_text(manifests)
        paths.append(tmp_path / "m.yaml")
    return load(paths)


def function_of(tmp_path: Path, text: str, manifests: str = "") -> Function:
    (function,) = plan_of(tmp_path, text, manifests).functions
    return function


def refused(tmp_path: Path, text: str, field: str, message: str = "", manifests: str = "") -> None:
    """Load it, which must be refused at the line marked HERE."""
    with pytest.raises(InvalidManifest, match=field.replace("[", r"\[")) as caught:
        plan_of(tmp_path, text, manifests)
    assert caught.value.field == field
    assert message in str(caught.value)
    marked = [
        (file, number)
        for file in (tmp_path / "f" / "func.yaml", tmp_path / "m.yaml")
        if file.exists()
        for number, line in enumerate(file.read_text().splitlines(), 1)
        if HERE in line
    ]
    if marked:
        assert (caught.value.file, caught.value.line) in marked


SECRET = """\
apiVersion: v1
kind: Secret
metadata: {name: s}
stringData: {token: abc}
data: {other: ZGVm}
"""


def service(template: str = "", spec: str = "", container: str = "", name: str = "f") -> str:
    return f"""\
apiVersion: serving.knative.dev/v1
kind: Service
metadata: {{name: {name}}}
spec:
  template:
{indent(template, "    ")}
    spec:
{indent(spec, "      ")}
      containers:
      - image: example.com/f
{indent(container, "        ")}
"""


def test_a_folder_with_a_func_yaml_is_a_function_with_the_defaults_of_knative(
    tmp_path: Path,
) -> None:
    function = function_of(tmp_path, func_yaml())
    assert (function.namespace, function.name, function.invoke) == ("default", "f", "http")
    assert (function.min_replicas, function.max_replicas) == (0, 0)
    assert (function.timeout_s, function.container_concurrency) == (300, 0)
    assert function.revision == "f-00001"
    assert function.folder == tmp_path / "f"


def test_scale_and_limits_are_what_the_annotations_of_knative_are(tmp_path: Path) -> None:
    scale = "options:\n  scale: {min: 1, max: 3, metric: rps, target: 2.5, utilization: 80}\n"
    limits = "  resources:\n    limits: {cpu: 100m, memory: 64Mi, concurrency: 5}\n"
    function = function_of(
        tmp_path, func_yaml("namespace: ns", deploy=scale + limits, run="startTimeout: 20")
    )
    scaling = function.autoscaling
    assert (scaling.min_scale, scaling.max_scale, scaling.metric) == (1, 3, "rps")
    assert (scaling.target, scaling.target_utilization) == (2.5, 0.8)
    assert (function.memory_bytes, function.container_concurrency) == (64 << 20, 5)
    assert (function.namespace, function.progress_deadline_s) == ("ns", 20)
    annotations = service_document(function)["spec"]["template"]["metadata"]["annotations"]  # type: ignore[index,call-overload]
    assert annotations["autoscaling.knative.dev/target"] == "2.5"


@pytest.mark.parametrize(
    ("text", "field", "message"),
    [
        (func_yaml(f"invok: http  {HERE}"), "invok", "did you mean invoke?"),
        (func_yaml(f"invoke: grpc  {HERE}"), "invoke", "must be http or cloudevent"),
        (func_yaml().replace("python", f"go  {HERE}"), "runtime", "only python functions run here"),
        (func_yaml().replace("name: f", f"name: F_1  {HERE}"), "name", "invalid value: F_1"),
        (func_yaml().replace("name: f\n", ""), "name", "is missing"),
        (func_yaml().replace("created", "# "), "created", "is missing"),
        (func_yaml(run=f"kafka: {{}}  {HERE}"), "run.kafka", "write a Trigger"),
        (func_yaml(run=f"startTimeout: 0  {HERE}"), "run.startTimeout", "expected 1"),
        (func_yaml(run=f"envs:\n- name: A  {HERE}"), "run.envs[0].value", "needs a value"),
        (
            func_yaml(run=f"envs:\n- name: PORT  {HERE}\n  value: '1'"),
            "run.envs[0].name",
            "reserved",
        ),
        (
            func_yaml(run=f"envs:\n- name: A\n  value: '{{{{ env:NOT_SET_HERE }}}}'  {HERE}"),
            "run.envs[0].value",
            "NOT_SET_HERE is not set here",
        ),
        (
            func_yaml(run=f"envs:\n- name: A\n  value: '{{{{ secret:s }}}}'  {HERE}"),
            "run.envs[0].value",
            "{{ secret:NAME:KEY }}",
        ),
        (
            func_yaml(run=f"volumes:\n- secret: s\n  path: etc  {HERE}"),
            "run.volumes[0].path",
            "write a whole path",
        ),
        (
            func_yaml(run=f"volumes:\n- secret: s  {HERE}\n  configMap: c\n  path: /e"),
            "run.volumes[0]",
            "write one of secret, configMap and emptyDir",
        ),
        (
            func_yaml(run=f"volumes:\n- path: /e\n  persistentVolumeClaim: {{}}  {HERE}"),
            "run.volumes[0].persistentVolumeClaim",
            "write emptyDir",
        ),
        (
            func_yaml(deploy=f"options:\n  scale:\n    min: 2\n    max: 1  {HERE}"),
            "deploy.options.scale.max",
            "max-scale=1 is less than min-scale=2",
        ),
        (
            func_yaml(deploy=f"options:\n  scale:\n    utilization: 101  {HERE}"),
            "deploy.options.scale.utilization",
            "expected 1 <= 101 <= 100",
        ),
        (
            func_yaml(deploy=f"options:\n  resources:\n    limits:\n      memory: lots  {HERE}"),
            "deploy.options.resources.limits.memory",
            "no quantity of memory",
        ),
        (
            func_yaml(deploy=f"subscriptions:\n- source: nowhere  {HERE}"),
            "spec.broker",
            "no Broker default/nowhere is in these files",
        ),
    ],
)
def test_a_wrong_func_yaml_is_refused_by_file_line_and_field(
    tmp_path: Path, text: str, field: str, message: str
) -> None:
    refused(tmp_path, text, field, message)


@pytest.mark.parametrize("missing", ["pyproject.toml", "function/__init__.py"])
def test_a_folder_that_func_python_cannot_run_is_refused(tmp_path: Path, missing: str) -> None:
    folder = folder_of(tmp_path, func_yaml())
    (folder / missing).unlink()
    with pytest.raises(InvalidManifest, match="runtime: there is no"):
        load([folder])


def test_a_function_may_be_named_by_its_func_yaml_too(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, func_yaml())
    assert load([folder / "func.yaml"]) == load([folder])


def test_two_functions_of_one_name_are_refused(tmp_path: Path) -> None:
    folders = [folder_of(tmp_path, func_yaml(), name) for name in ("f", "g")]
    with pytest.raises(InvalidManifest, match=r"Service default/f is already defined at .*f/func"):
        load(folders)


def test_a_function_with_the_name_of_a_model_is_refused(tmp_path: Path) -> None:
    from .manifests import service as model

    text = func_yaml().replace("name: f", f"name: m  {HERE}")
    refused(tmp_path, text, "name", "has the same address", model())


def test_subscriptions_become_the_triggers_that_func_makes(tmp_path: Path) -> None:
    deploy = "subscriptions:\n- source: b\n  filters: {type: ask}\n- source: b\n"
    first, second = plan_of(tmp_path, func_yaml(deploy=deploy), broker()).triggers
    assert (first.name, second.name) == ("f-function-trigger-0", "f-function-trigger-1")
    assert (first.legacy_attributes, second.legacy_attributes) == ({"type": "ask"}, None)
    assert first.subscriber.ref is not None
    assert (first.subscriber.ref.kind, first.subscriber.ref.name) == ("Service", "f")


def test_variables_and_files_come_from_secrets_and_config_maps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SET_HERE", "local")
    envs = """\
envs:
- {name: PLAIN, value: plain}
- {name: LOCAL, value: "{{ env:SET_HERE }}"}
- {name: TOKEN, value: "{{ secret:s:token }}"}
- {value: "{{ configMap:c }}"}
volumes:
- {secret: s, path: /etc/secrets}
- {emptyDir: {}, path: /scratch}
"""
    config_map = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\ndata: {A: a, B: b}\n"
    plan = plan_of(tmp_path, func_yaml(run=envs), together(SECRET, config_map))
    (function,), objects = plan.functions, by_key(plan.objects)
    expected = {"PLAIN": "plain", "LOCAL": "local", "TOKEN": "abc", "A": "a", "B": "b"}
    assert variables_of(function, objects) == expected
    found = {str(path): dict(files) for path, files in files_of(function, objects).items()}
    assert found == {"/etc/secrets": {"token": b"abc", "other": b"def"}, "/scratch": {}}


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("{{ secret:t:token }}", "no Secret default/t is in these files"),
        ("{{ secret:s:tokn }}", "Secret default/s has no key tokn; did you mean token?"),
        ("{{ configMap:s:token }}", "no ConfigMap default/s is in these files"),
    ],
)
def test_an_object_or_a_key_that_is_in_no_file_is_named_at_the_variable(
    tmp_path: Path, value: str, message: str
) -> None:
    run = f'envs:\n- name: A\n  value: "{value}"\n'
    plan = plan_of(tmp_path, func_yaml(run=run), SECRET)
    with pytest.raises(InvalidManifest, match=message.replace("?", r"\?")) as caught:
        variables_of(plan.functions[0], by_key(plan.objects))
    assert (caught.value.field, caught.value.line) == ("run.envs[0].value", 9)


def test_a_knative_service_of_its_name_configures_a_function(tmp_path: Path) -> None:
    manifest = service(
        template='metadata:\n  annotations: {autoscaling.knative.dev/max-scale: "2"}',
        spec="containerConcurrency: 3\ntimeoutSeconds: 30\nidleTimeoutSeconds: 5",
        container="""\
env:
- {name: A, value: of-service}
- name: T
  valueFrom: {secretKeyRef: {name: s, key: token}}
resources: {limits: {memory: 1Gi}}""",
    )
    run = "envs:\n- {name: A, value: of-func}\n- {name: B, value: b}\n"
    plan = plan_of(tmp_path, func_yaml(run=run), together(manifest, SECRET))
    (function,) = plan.functions
    assert plan.containers == ()
    assert (function.max_replicas, function.container_concurrency) == (2, 3)
    assert (function.timeout_s, function.response_start_timeout_s) == (30, 30)
    assert (function.idle_timeout_s, function.memory_bytes) == (5, 1 << 30)
    values = variables_of(function, by_key(plan.objects))
    assert values == {"A": "of-service", "B": "b", "T": "abc"}


def test_a_knative_service_of_no_function_is_kept_for_a_cluster(tmp_path: Path) -> None:
    (tmp_path / "m.yaml").write_text(service(name="other"))
    plan = load_plan([folder_of(tmp_path, func_yaml()), tmp_path / "m.yaml"])
    (container,) = plan.containers
    assert (container.name, container.image_origin.field) == (
        "other",
        "spec.template.spec.containers[0].image",
    )


@pytest.mark.parametrize(
    ("manifest", "field"),
    [
        (service(container=f"command: [x]  {HERE}"), "spec.template.spec.containers[0].command"),
        (service(spec=f"timeoutSeconds: 601  {HERE}"), "spec.template.spec.timeoutSeconds"),
        (service(spec=f"volumes: []  {HERE}"), "spec.template.spec.volumes"),
        (service(spec=f"containerConcurency: 1  {HERE}"), "spec.template.spec.containerConcurency"),
        (SECRET.replace("ZGVm", f'"?"}}  {HERE}\n#'), "data.other"),
        (SECRET.replace("stringData", "stringdata"), "stringdata"),
    ],
)
def test_a_wrong_service_or_secret_is_refused_by_file_line_and_field(
    tmp_path: Path, manifest: str, field: str
) -> None:
    refused(tmp_path, func_yaml(), field, manifests=manifest)
