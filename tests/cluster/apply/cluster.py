"""The small API server with a memory, and a world that moves as time passes.

It knows discovery, server-side apply (strict, dry run, conflicts), lists by label and deletion. A
test scripts what controllers and the scheduler would do with `Cluster.at(seconds, what)`; time is
`Cluster.pace`, which passes only when the code under test sleeps.
"""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from relume.base.vocabulary import CLAIM_TEMPLATE
from relume.cluster.apply.waiting import Pace
from relume.cluster.render.routes import CLAIM, POLICY
from relume.cluster.schemas import known_kinds, schema
from tests.cluster.api_server import ApiServer, Object, status

POLICY_PATH = f"/apis/admissionregistration.k8s.io/v1/mutatingadmissionpolicies/{POLICY}"
_IDENTITY = {"name", "namespace"}  # who applies no more than these owns no field
_MORE = {
    "v1": (("namespaces", "Namespace", False), ("nodes", "Node", False), ("pods", "Pod", True)),
}


@dataclass
class Cluster(ApiServer):
    """`refuse`: (kind, name) to (code, Status); `inactive`: dry-run pods before the policy acts."""

    missing: set[str] = field(default_factory=set)  # groupVersions that are not served
    refuse: dict[tuple[str, str], tuple[int, Object]] = field(default_factory=dict)
    inactive: int = 0
    clock: float = 0.0
    _script: list[tuple[float, Callable[[], None]]] = field(default_factory=list)
    _count: int = 0

    def __post_init__(self) -> None:
        for name in ("default", "models"):
            self.put(f"/api/v1/namespaces/{name}", {"metadata": {"name": name}})

    @property
    def pace(self) -> Pace:
        return Pace(lambda: self.clock, self._sleep)

    def _sleep(self, seconds: float) -> None:
        self.clock += seconds
        due = [one for one in self._script if one[0] <= self.clock]
        self._script = [one for one in self._script if one[0] > self.clock]
        for _, what in sorted(due, key=lambda one: one[0]):
            what()

    def at(self, seconds: float, what: Callable[[], None]) -> None:
        self._script.append((seconds, what))

    def put(self, path: str, body: Object) -> Object:
        """Store an object as a controller would."""
        self._count += 1
        metadata = body.setdefault("metadata", {})
        metadata.setdefault("name", path.rpartition("/")[2])
        metadata.setdefault("uid", f"uid-{self._count}")
        metadata["resourceVersion"] = str(self._count)
        self.objects[path] = body
        return body

    def set_status(self, path: str, **status: Any) -> Callable[[], None]:
        """What sets the status of an object, for `at`."""
        return lambda: self.objects[path].update(status=status)

    def written(self) -> list[str]:
        """The paths that were changed for good, in order, without duplicates."""
        real = [one for one in self.asked if one.startswith("PATCH") and "dryRun" not in one]
        return [one.split()[1].partition("?")[0] for one in real]

    def change(self, path: str, request: Request, body: Object) -> Response:
        match request.method:
            case "PATCH":
                return self._apply(path, request, body)
            case "POST" if "/proxy/" in path:
                return Response(status_code=202)  # a Broker says no more
            case "POST":
                return self._pod(body, request)
        return self._delete(path, body)

    def get(self, path: str, request: Request) -> Response:
        served = self._resources(path.removeprefix("/apis/").removeprefix("/api/"))
        if served:
            return JSONResponse({"kind": "APIResourceList", "resources": served})
        if path in self.objects:
            return JSONResponse(self.objects[path])
        items = [body for known, body in self.objects.items() if _is_in(known, path)]
        selector = request.query_params.get("labelSelector")
        if selector:
            items = [one for one in items if selector in one["metadata"].get("labels", {})]
        plural = path.rpartition("/")[2]
        if items or any(plural == one["name"] for one in self._all_resources()):
            return JSONResponse(self.paged(items, request))
        return status(404, f"{path} not found")

    def _resources(self, group_version: str) -> list[Object]:
        if group_version in self.missing:
            return []
        found = [schema(v, kind) for v, kind in known_kinds() if v == group_version]
        rows = [(one.plural, one.kind, one.namespaced) for one in found if one is not None]
        rows += _MORE.get(group_version, ())
        return [{"name": p, "kind": k, "namespaced": n} for p, k, n in rows]

    def _all_resources(self) -> list[Object]:
        versions = {version for version, _ in known_kinds()} | _MORE.keys()
        return [one for version in sorted(versions) for one in self._resources(version)]

    def _apply(self, path: str, request: Request, body: Object) -> Response:
        query = request.query_params
        assert request.headers["content-type"] == "application/apply-patch+yaml"
        assert query["fieldValidation"] == "Strict" and query["fieldManager"] == "relume"
        dry = query.get("dryRun") == "All"
        refused = self.refuse.get((body["kind"], body["metadata"]["name"]))
        if refused is not None and not (refused[0] == 409 and "force" in query):
            return JSONResponse({"kind": "Status", "code": refused[0], **refused[1]}, refused[0])
        namespace = body["metadata"].get("namespace")
        if namespace and f"/api/v1/namespaces/{namespace}" not in self.objects:
            return status(404, f'namespaces "{namespace}" not found')
        before = self.objects.get(path)
        if before is not None and before.get("applied") == body:
            return JSONResponse(before)
        made = deepcopy(body)
        if body.keys() - {"apiVersion", "kind", "metadata"} or body["metadata"].keys() - _IDENTITY:
            made["metadata"]["managedFields"] = [
                {"manager": "relume", "operation": "Apply", "time": "2026-11-23T10:00:00Z"}
            ]
        if not dry:
            if before is not None:
                made["metadata"]["uid"] = before["metadata"]["uid"]
            self.put(path, made | {"applied": body})
        return JSONResponse(made, 201 if before is None else 200)

    def _pod(self, body: Object, request: Request) -> Response:
        assert request.query_params["dryRun"] == "All", "nothing may make a pod"
        if ("Pod", body["metadata"]["name"]) in self.refuse:
            code, status = self.refuse["Pod", body["metadata"]["name"]]
            return JSONResponse({"code": code, **status}, code)
        if POLICY_PATH in self.objects:
            if self.inactive <= 0:
                template = body["metadata"]["annotations"][CLAIM_TEMPLATE]
                claim = {"name": CLAIM, "resourceClaimTemplateName": template}
                body["spec"]["resourceClaims"] = [claim]
                body["spec"]["containers"][0]["resources"]["claims"] = [{"name": CLAIM}]
            self.inactive -= 1
        return JSONResponse(body, 201)

    def _delete(self, path: str, options: Object) -> Response:
        found = self.objects.get(path)
        if found is None:
            return status(404, "not found")
        if options.get("preconditions", found["metadata"])["uid"] != found["metadata"]["uid"]:
            return status(409, "the UID does not match")
        if found["metadata"].get("finalizers"):
            return JSONResponse(found)
        del self.objects[path]
        return JSONResponse({"kind": "Status", "status": "Success"})


def _is_in(known: str, collection: str) -> bool:
    """Whether the object at `known` is in a collection: of its namespace, or of all."""
    head, _, _ = known.rpartition("/")
    if head == collection:
        return True
    root, _, plural = collection.rpartition("/")
    return known.startswith(f"{root}/namespaces/") and head.endswith(f"/{plural}")
