"""Where an InferenceService's component gets its model from.

Source: kserve/kserve pkg/apis/serving/v1beta1/{inference_service_validation,component,
predictor_custom,explainer}.go, pkg/validation/confidential.go.
"""

import re
from collections.abc import Sequence

from relume.cluster.admission.judge import Judge, content, entries, fields, truth
from relume.config.nodes import Node, Table

URI_VARIABLE = "STORAGE_URI"
_MOUNT = "/mnt/models"  # what the CRD fills in
_RESOURCE = re.compile(r"kbs:///[A-Za-z0-9_.-]+/[A-Za-z0-9_.-]+/[A-Za-z0-9_.-]+")


def judge_storage(component: Table, model: Node | None, judge: Judge) -> None:
    """`model` is what of the component has a `storageUri`; without one a container may have it."""
    several, single = component.get("storageUris"), storage_uri(component, model)
    if several is not None and single is not None:
        message = "Setting both StorageURI and StorageURIs is not supported."
        judge.say(several, "one-of", message)
    _judge_several(entries(several), judge)
    _judge_confidential(model, judge)


def judge_beside(containers: Sequence[Node], judge: Judge) -> None:
    """A transformer beside the predictor, in its pod, loads no model."""
    for container in containers:
        if content(fields(container).get("name")) != "transformer-container":
            continue
        for variable in entries(fields(container).get("env")):
            name = fields(variable).get("name")
            if name is not None and content(name) == URI_VARIABLE:
                message = "storage uri should not be specified in transformer container"
                judge.say(name, "not-allowed", message)
        return


def storage_uri(component: Table, model: Node | None) -> Node | None:
    """What says where the model is: a field of `model`, or a variable of a container."""
    if model is not None:
        return fields(model).get("storageUri")
    containers = entries(component.get("containers"))
    named = [c for c in containers if content(fields(c).get("name")) == "kserve-container"]
    for container in (*named, *containers)[:1]:
        for variable in entries(fields(container).get("env")):
            if content(fields(variable).get("name")) == URI_VARIABLE:
                return variable
    return None


def _judge_several(several: Sequence[Node], judge: Judge) -> None:
    paths: list[str] = []
    claims: list[tuple[str, Node]] = []
    for one in several:
        inside = fields(one)
        node = inside.get("mountPath", one)
        path = content(inside["mountPath"]) if "mountPath" in inside else _MOUNT
        if not content(inside.get("uri")):
            judge.missing(one, "uri")
        if not path.startswith("/") or path == "/" or ".." in path:
            judge.invalid(node, "must be an absolute path below / without ..", shown=path)
        elif content(inside.get("uri")).startswith("pvc://"):
            claims.append((path, node))
        else:
            paths.append(path)
    if len(paths) < 2:  # the webhook asks no more then
        return
    for number, (path, node) in enumerate(claims):
        if path in [other for other, _ in claims[:number]]:
            judge.say(node, "duplicate-item", f"PVC storage paths must be unique: {path}")
    if len({path.strip("/").split("/")[0] for path in paths}) > 1:
        where = several[0].path.rpartition("[")[0]
        message = f"storage paths must have a common parent directory: {', '.join(paths)}"
        judge.say(several[0], "conflict", message, "Mount all below one.", field=where)


def _judge_confidential(model: Node | None, judge: Judge) -> None:
    confidential = fields(fields(model).get("confidential"))
    if model is None or not truth(confidential.get("enabled")):
        return
    if not content(fields(model).get("storageUri")):
        judge.missing(model, "storageUri")
    resource = confidential.get("resourceId")
    if resource is not None and content(resource) and not _RESOURCE.fullmatch(content(resource)):
        judge.invalid(resource, "must be in the format kbs:///<repo>/<type>/<tag>")
