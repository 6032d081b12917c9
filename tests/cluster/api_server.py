"""A small API server on loopback, so that the real `kubernetes` client talks to it over HTTP."""

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uvicorn
import yaml
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

GROUPS = (
    "apps/v1",
    "resource.k8s.io/v1",
    "admissionregistration.k8s.io/v1",
    "serving.knative.dev/v1",
    "eventing.knative.dev/v1",
    "serving.kserve.io/v1beta1",
)
BR_DEFAULTS = "clusterDefault:\n  brokerClass: MTChannelBasedBroker\n  kind: ConfigMap\n"


Object = dict[str, Any]


@dataclass
class ApiServer:
    """What the server answers. `objects`: path to an object, or to the list of a collection."""

    version: tuple[str, str] = ("1", "36")
    groups: tuple[str, ...] = GROUPS
    objects: dict[str, Any] = field(default_factory=dict)
    forbidden: set[str] = field(default_factory=set)  # paths
    denied: set[str] = field(default_factory=set)  # "verb resource"
    broken: int = 0  # requests that are answered with 503
    panics: bool = False  # a webhook does, at every change
    asked: list[str] = field(default_factory=list)
    page: int = 2  # items in one page of a list

    def config_map(self, namespace: str, name: str, **data: str) -> None:
        path = f"/api/v1/namespaces/{namespace}/configmaps/{name}"
        self.objects[path] = {"metadata": {"name": name}, "data": data}

    async def answer(self, request: Request) -> Response:
        path = request.url.path
        self.asked.append(f"{request.method} {path}?{request.url.query}".rstrip("?"))
        if request.headers.get("authorization") != "Bearer secret":
            return status(401, "Unauthorized")
        if self.broken > 0:
            self.broken -= 1
            return status(503, "starting")
        if path in self.forbidden:
            return status(403, "forbidden")
        if request.method == "GET":
            return self.get(path, request)
        if self.panics:
            return status(500, 'admission webhook "w" denied the request: panic: runtime error')
        return self.change(path, request, json.loads(await request.body()))

    def get(self, path: str, request: Request) -> Response:
        if path == "/version":
            return JSONResponse({"major": self.version[0], "minor": self.version[1]})
        if path == "/apis":
            return JSONResponse({"kind": "APIGroupList", "groups": self._groups()})
        found = self.objects.get(path)
        if found is None:
            return status(404, f"{path} not found")
        return JSONResponse(self.paged(found, request) if isinstance(found, list) else found)

    def change(self, path: str, request: Request, body: Object) -> Response:
        if not path.endswith("/selfsubjectaccessreviews"):
            return status(404, f"{path} not found")
        wanted = body["spec"]["resourceAttributes"]
        denied = f"{wanted['verb']} {wanted['resource']}" in self.denied
        return JSONResponse({"status": {"allowed": not denied}}, 201)

    def _groups(self) -> list[Object]:
        return [
            {"name": one.split("/")[0], "versions": [{"groupVersion": one}]} for one in self.groups
        ]

    def paged(self, items: list[Any], request: Request) -> Object:
        start = int(request.query_params.get("continue", 0))
        end = start + self.page
        more = {"continue": str(end)} if end < len(items) else {}
        return {"metadata": more, "items": items[start:end]}

    @contextmanager
    def running(self, folder: Path) -> Iterator[Path]:
        """Serve, and write a kubeconfig whose context `test` leads here."""
        listener = socket.create_server(("127.0.0.1", 0))
        port = listener.getsockname()[1]
        routes = [Route("/{path:path}", self.answer, methods=["GET", "POST", "PATCH", "DELETE"])]
        config = uvicorn.Config(Starlette(routes=routes), log_level="error", lifespan="off")
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
        thread.start()
        try:
            yield write_kubeconfig(folder, port)
        finally:
            server.should_exit = True
            thread.join(timeout=10)
            listener.close()


def status(code: int, message: str) -> Response:
    return JSONResponse({"kind": "Status", "code": code, "message": message}, code)


def write_kubeconfig(folder: Path, port: int) -> Path:
    file = folder / "kubeconfig"
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "test",
        "clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{port}"}}],
        "users": [{"name": "u", "user": {"token": "secret"}}],
        "contexts": [{"name": "test", "context": {"cluster": "c", "user": "u"}}],
    }
    file.write_text(yaml.safe_dump(config))
    return file


def healthy() -> ApiServer:
    """A cluster with everything that the routes need."""
    server = ApiServer()
    off = dict.fromkeys(("tolerations", "nodeselector", "affinity"), "enabled")
    off |= dict.fromkeys(("persistent-volume-claim", "init-containers"), "enabled")
    features = {f"kubernetes.podspec-{name}": value for name, value in off.items()}
    server.config_map("knative-serving", "config-features", **features)
    server.config_map(
        "knative-serving", "config-defaults", **{"max-revision-timeout-seconds": "1200"}
    )
    server.config_map(
        "knative-serving", "config-autoscaler", **{"allow-zero-initial-scale": "true"}
    )
    server.config_map(
        "knative-serving", "config-deployment", **{"pod-is-always-schedulable": "true"}
    )
    server.config_map("knative-eventing", "config-features")
    server.config_map(
        "knative-eventing", "config-br-defaults", **{"default-br-config": BR_DEFAULTS}
    )
    server.objects["/apis/apps/v1/namespaces/knative-eventing/deployments"] = [
        {"metadata": {"name": name}}
        for name in ("eventing-controller", "mt-broker-controller", "mt-broker-ingress")
    ]
    server.objects["/apis/resource.k8s.io/v1/resourceslices"] = [
        slice_("node-1", generation=1, devices=9),
        slice_("node-1", generation=2, devices=2),
        slice_("node-2", generation=1, devices=1),
    ]
    server.objects["/apis/resource.k8s.io/v1/deviceclasses"] = [
        {
            "metadata": {"name": "gpu.nvidia.com"},
            "spec": {
                "extendedResourceName": "nvidia.com/gpu",
                "selectors": [{"cel": {"expression": "device.driver == 'gpu.nvidia.com'"}}],
            },
        }
    ]
    server.objects["/api/v1/nodes"] = [node("node-1"), node("node-2"), node("node-3")]
    return server


def slice_(on: str, *, generation: int, devices: int) -> Object:
    return {
        "metadata": {"name": f"{on}-{generation}"},
        "spec": {
            "driver": "gpu.nvidia.com",
            "nodeName": on,
            "pool": {"name": on, "generation": generation, "resourceSliceCount": 1},
            "devices": [{"name": f"gpu-{i}"} for i in range(devices)],
        },
    }


def node(name: str, **capacity: str) -> Object:
    return {"metadata": {"name": name}, "status": {"capacity": {"cpu": "8", **capacity}}}
