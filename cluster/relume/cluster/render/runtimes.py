"""Relume's ClusterServingRuntimes: vLLM on NVIDIA, AMD and Intel GPUs and on a CPU.

They differ in few fields, so they are built here, and runtimes/manifests holds what this makes
(`python -m relume.cluster.render.published`). They have no `serving.kserve.io/server-type`
annotation and none of KServe's own runtime names, because KServe rewrites the image by those.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from relume.base.errors import InvalidInput
from relume.base.vocabulary import (
    EXPECT_DEVICES,
    KSERVE_V1ALPHA1,
    SERVING_CONTAINER,
    JsonValue,
)
from relume.cluster.render.draft import LABELS
from relume.cluster.render.options import ImageNotPinned, Images, check_image
from relume.config.fields import did_you_mean
from relume.config.model import MODEL_FORMATS
from relume.config.resources import MODELS_FOLDER
from relume.config.yaml_source import documents

#: Pulls nothing anywhere (RFC 2606), so that a forgotten --image is an error and not a surprise.
NO_IMAGE = "registry.invalid/"
PLACEHOLDER = NO_IMAGE + "relume/{name}@sha256:" + 64 * "0"
HOST, PORT = "0.0.0.0", 8080
PROTOCOLS = ("v1", "v2")
_LONGEST_START_S = 3600
_CACHE = "/cache"


@dataclass(frozen=True, slots=True)
class Runtime:
    """One runtime. `cpu` and `memory` are what a predictor gets that asks for nothing."""

    name: str
    vendor: str | None
    cpu: str
    memory: str
    shared_memory: str

    def manifest(self, image: str | None = None) -> dict[str, JsonValue]:
        """The ClusterServingRuntime document (serving.kserve.io/v1alpha1)."""
        formats: list[JsonValue] = [
            {"name": name, "version": "1", "autoSelect": True} for name in MODEL_FORMATS
        ]
        metrics: dict[str, JsonValue] = {
            "prometheus.kserve.io/port": str(PORT),
            "prometheus.kserve.io/path": "/metrics",
        }
        return {
            "apiVersion": KSERVE_V1ALPHA1,
            "kind": "ClusterServingRuntime",
            "metadata": {
                "name": self.name,
                "labels": dict(LABELS),
            },
            "spec": {
                "annotations": metrics,
                "supportedModelFormats": formats,
                "protocolVersions": list(PROTOCOLS),
                "containers": [self._container(image or PLACEHOLDER.format(name=self.name))],
                "volumes": [
                    _memory_volume("shm", self.shared_memory),
                    {"name": "cache", "emptyDir": {}},
                    {"name": "tmp", "emptyDir": {}},
                ],
            },
        }

    def _container(self, image: str) -> dict[str, JsonValue]:
        return {
            "name": SERVING_CONTAINER,
            "image": image,
            "command": ["python", "-m", "relume.runtimes.launcher"],
            "args": [
                f"--host={HOST}",
                f"--model={MODELS_FOLDER}",
                "--served-model-name={{.Name}}",
            ],
            "env": self._environment(),
            "ports": [{"name": "http1", "containerPort": PORT, "protocol": "TCP"}],
            "resources": {"requests": {"cpu": self.cpu, "memory": self.memory}},
            # Ready is what the engine says; the port itself is open from the first second.
            "startupProbe": _probe("/v2/health/ready", 1, _LONGEST_START_S),
            "readinessProbe": _probe("/v2/health/ready", 2, 3),
            "livenessProbe": _probe("/livez", 10, 6),
            "securityContext": {
                "allowPrivilegeEscalation": False,
                "capabilities": {"drop": ["ALL"]},
                "readOnlyRootFilesystem": True,
                "runAsNonRoot": True,
                "runAsUser": 1000,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            # The runtime's last words, such as "no device", become the pod's status.
            "terminationMessagePolicy": "FallbackToLogsOnError",
            "volumeMounts": [
                {"name": "shm", "mountPath": "/dev/shm"},
                {"name": "cache", "mountPath": _CACHE},
                {"name": "tmp", "mountPath": "/tmp"},
            ],
        }

    def _environment(self) -> list[JsonValue]:
        variables = {
            "RELUME_NAMESPACE": "{{.Namespace}}",
            "HOME": _CACHE,
            "XDG_CACHE_HOME": _CACHE,
            "USER": "relume",  # PyTorch asks for the user's name, and the image knows no uid 1000
            "HF_HUB_OFFLINE": "1",
        }
        if self.vendor is not None:
            variables[EXPECT_DEVICES] = "1"
        return [{"name": name, "value": value} for name, value in variables.items()]


# They have no priority. KServe refuses two runtimes with one priority for one format, and its own
# have 1 and 2. Of several it takes the highest, at every look at a service that names no runtime,
# so that a higher one of ours would take over services that run on another runtime.
RUNTIMES = (
    Runtime("relume-vllm", "NVIDIA", cpu="4", memory="16Gi", shared_memory="8Gi"),
    Runtime("relume-vllm-amd", "AMD", cpu="4", memory="16Gi", shared_memory="8Gi"),
    Runtime("relume-vllm-intel", "Intel", cpu="4", memory="16Gi", shared_memory="8Gi"),
    Runtime("relume-vllm-cpu", None, cpu="2", memory="4Gi", shared_memory="1Gi"),
)


def runtime_named(name: str) -> Runtime | None:
    """Our runtime of that name."""
    return next((runtime for runtime in RUNTIMES if runtime.name == name), None)


def runtime_for(vendor: str | None) -> Runtime | None:
    """Our runtime for a vendor's devices; None is the CPU's."""
    return next((runtime for runtime in RUNTIMES if runtime.vendor == vendor), None)


def _probe(path: str, period_s: int, failures: int) -> dict[str, JsonValue]:
    return {
        "httpGet": {"path": path, "port": PORT},
        "periodSeconds": period_s,
        "timeoutSeconds": 5 if period_s > 1 else 1,
        "failureThreshold": failures,
    }


def _memory_volume(name: str, size: str) -> dict[str, JsonValue]:
    return {"name": name, "emptyDir": {"medium": "Memory", "sizeLimit": size}}


#: The image of the jobs gateway, which is no runtime.
GATEWAY_IMAGE = "relume-gateway"
_NAMES = (*(runtime.name for runtime in RUNTIMES), GATEWAY_IMAGE)


def read_images(file: Path | None, chosen: Sequence[str], *, allow_tags: bool) -> Images:
    """The images of a file of `RUNTIME: IMAGE` lines, then those of `[RUNTIME=]IMAGE` arguments.

    Raises InvalidInput for a runtime that is not ours and an image without a digest.
    """
    by_runtime: dict[str, str] = {}
    for document in documents(file) if file is not None else ():
        for name, node in document.table():
            if name not in _NAMES:
                raise node.wrong(_unknown(name))
            try:
                by_runtime[name] = check_image(node.filled(), allow_tags=allow_tags)
            except ImageNotPinned as error:
                raise node.wrong(str(error)) from error
    every: str | None = None
    for argument in chosen:
        name, equals, image = argument.partition("=")
        if not equals:
            every = check_image(argument, allow_tags=allow_tags)
        elif name in _NAMES:
            by_runtime[name] = check_image(image, allow_tags=allow_tags)
        else:
            raise InvalidInput(f"--image {argument}: {_unknown(name)}", reason="no-such-runtime")
    return Images(by_runtime, every)


def _unknown(name: str) -> str:
    return f"no runtime has that name; ours are {', '.join(_NAMES)}{did_you_mean(name, _NAMES)}"
