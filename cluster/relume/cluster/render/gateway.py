"""The jobs gateway for a cluster: the program, who reaches it, and which services it serves.

Any number of its pods work on the jobs that lie in NATS. A pod keeps nothing, so it may go at any
time: another one takes its jobs over when their leases run out, and goes on from the tokens that
are stored. `gateway_door` turns the Triggers, `nats_values` says what NATS needs.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from relume.base.vocabulary import CORE_V1, KSERVE_V1BETA1, JsonValue
from relume.cluster.admission.judge import content
from relume.cluster.render import rules
from relume.cluster.render.draft import LABELS, Book, Draft
from relume.cluster.render.folder import yaml_text
from relume.cluster.render.gateway_network import add_network_policy
from relume.cluster.render.options import GatewayOptions, Options
from relume.cluster.render.originals import BASE, CLUSTER_WIDE, MODEL, PREDICTOR, Original
from relume.cluster.render.runtimes import GATEWAY_IMAGE, PLACEHOLDER

NAME, PORT = GATEWAY_IMAGE, 8082
REPLICAS = 2
#: Copies of everything in NATS: with three, one server may be away.
COPIES = 3
CREDENTIALS_KEY = "nats.creds"
POD_LABELS: dict[str, JsonValue] = {"app.kubernetes.io/name": NAME}
#: KServe's own addresses of a predictor, in Knative mode and in Standard mode.
SERVICE_URL = "http://{name}-predictor.{namespace}.svc.cluster.local"
_GRACE_S = 60
# After the grace: what is left of a stop, and before it: endpoints forget the pod.
_LEFT_S, _FORGET_S = 10, 5
_CREDENTIALS_FOLDER = "/etc/relume/nats"
_SERVICES_FOLDER = "/etc/relume/services"
_SERVICES_FILE = "services.yaml"
_ENFORCE = "pod-security.kubernetes.io/enforce"


@dataclass(frozen=True, slots=True)
class ServedService:
    """A service that the gateway serves, and the document from which the gateway reads it."""

    namespace: str
    name: str
    document: dict[str, JsonValue]


def served_service(original: Original, book: Book) -> ServedService | None:
    """What the gateway needs to know of an arranged service; None for one that it cannot serve."""
    for front in ("transformer", "explainer"):
        if (node := original.node("spec", front)) is not None:
            book.note(
                node,
                "the jobs gateway does not serve it, because it would go past this to the "
                "predictor: its Triggers stay as they are",
            )
            return None
    (draft,) = (
        one
        for one in book.drafts
        if one.file == original.file and one.get("kind") == "InferenceService"
    )
    document: dict[str, JsonValue] = {
        "apiVersion": KSERVE_V1BETA1,
        "kind": "InferenceService",
        "metadata": {"name": original.name, "namespace": original.namespace},
        "spec": {"predictor": _predictor(draft, original)},
    }
    if not original.written_namespace:
        book.note(
            original.at("metadata", "name"),
            f"the jobs gateway looks for it in the namespace {original.namespace}: write "
            "metadata.namespace where it goes to another one",
        )
    return ServedService(original.namespace, original.name, document)


def _predictor(draft: Draft, original: Original) -> dict[str, JsonValue]:
    """How many requests it takes at once, and the names under which it is asked for.

    Its storage and environment are not copied: the gateway loads no model, and a ConfigMap is no
    place for what may be secret.
    """
    written: dict[str, JsonValue] = {
        name: draft.get(*PREDICTOR, name)
        for name in ("minReplicas", "maxReplicas", "containerConcurrency")
    }
    found: dict[str, JsonValue] = {
        name: value for name, value in written.items() if value is not None
    }
    form = content(original.node(*MODEL, "modelFormat", "name"))
    model: dict[str, JsonValue] = {"modelFormat": {"name": form}}
    # The gateway loads nothing from it; a reader of manifests asks for one.
    model["storageUri"] = f"hf://{original.namespace}/{original.name}"
    if names := _served_names(draft.get(*MODEL, "args")):
        model["args"] = ["--served-model-name", *names]
    return {**found, "model": model}


def _served_names(args: JsonValue) -> list[JsonValue]:
    """The values of --served-model-name, without templates that the cluster fills in."""
    words = [word for one in args for word in str(one).split()] if isinstance(args, list) else []
    names: list[str] = []
    listing = False
    for word in words:
        flag, equals, value = word.partition("=")
        if word.startswith("--"):
            listing = flag in ("--served-model-name", "--served_model_name")
            word = value if equals else ""
        if listing and word:
            names.append(word)
    return [name for name in names if "{{" not in name and "$(" not in name]


def render_gateway(
    services: Sequence[ServedService],
    read: Sequence[Original],
    triggers: Sequence[tuple[str, str]],
    broker_url: str,
    options: Options,
    book: Book,
) -> None:
    """Put the gateway into `book`.

    `triggers` are the namespaces and the classes of the Brokers whose Triggers deliver to it.
    """
    chosen = options.gateway
    assert chosen is not None
    if not any(one.namespace == chosen.namespace for one in read if one.namespaced):
        _add_namespace(chosen.namespace, read, book)
    text = _services_text(services)
    maker = _Maker(chosen, book)
    config = maker.begin(CORE_V1, "ConfigMap", rules.GATEWAY_SERVICES)
    config.set(("data",), {_SERVICES_FILE: text}, rules.GATEWAY_SERVICES)
    image = options.images.by_runtime.get(GATEWAY_IMAGE)
    maker.deployment(image, list(_arguments(chosen, broker_url)), text)
    maker.service()
    maker.budget()
    add_network_policy(
        maker.file, services, triggers, POD_LABELS, PORT, chosen, options.route, book
    )
    _tell(chosen, image, book)


def _add_namespace(name: str, read: Sequence[Original], book: Book) -> None:
    """The gateway's own namespace, unless the user's files make it."""
    if any(one.kind == "Namespace" and one.name == name for one in read):
        return
    draft = book.begin(CLUSTER_WIDE, CORE_V1, "Namespace", name, rules.GATEWAY)
    reason = "the gateway's pods keep to the strictest Pod Security level"
    draft.set(("metadata", "labels", _ENFORCE), "restricted", rules.GATEWAY, reason)


def _services_text(services: Sequence[ServedService]) -> str:
    ordered = sorted(services, key=lambda one: (one.namespace, one.name))
    return yaml_text([one.document for one in ordered], head="")


def _arguments(chosen: GatewayOptions, broker_url: str) -> Iterator[str]:
    """What follows `relume gateway` in the container."""
    yield f"{_SERVICES_FOLDER}/{_SERVICES_FILE}"
    yield from (f"--nats={url}" for url in chosen.nats_urls)
    if chosen.nats_credentials_secret is not None:
        yield f"--nats-creds={_CREDENTIALS_FOLDER}/{CREDENTIALS_KEY}"
    yield "--host=0.0.0.0"
    yield f"--port={PORT}"
    yield f"--service-url={chosen.service_url or SERVICE_URL}"
    yield f"--broker-url={broker_url}"
    yield f"--public-url=http://{NAME}.{chosen.namespace}.svc.cluster.local"
    if chosen.sink is not None:
        yield f"--sink={chosen.sink}"
    yield f"--replicas={COPIES}"
    yield f"--grace={_GRACE_S}s"
    yield "--keys"
    if chosen.oidc_issuer is not None:
        yield f"--oidc-issuer={chosen.oidc_issuer}"
        yield f"--oidc-audience={chosen.oidc_audience}"
    yield "--open-events"


def _tell(chosen: GatewayOptions, image: str | None, book: Book) -> None:
    where = f"-n {chosen.namespace}"
    if image is None:
        book.note(
            None,
            f"Deployment {NAME} has no image yet: --image {NAME}=REPOSITORY@sha256:…",
        )
    if (secret := chosen.nats_credentials_secret) is not None:
        book.note(
            None,
            f"Secret {chosen.namespace}/{secret} must have the gateway's credentials for NATS: "
            f"kubectl create secret generic {secret} {where} --from-file={CREDENTIALS_KEY}=FILE",
        )


@dataclass(frozen=True, slots=True)
class _Maker:
    """Makes the gateway's documents, all in one file and namespace, with one name."""

    chosen: GatewayOptions
    book: Book

    @property
    def file(self) -> str:
        return f"{BASE}/{self.chosen.namespace}/gateway.yaml"

    def begin(
        self,
        version: str,
        kind: str,
        rule: rules.RenderRule,
        spec: Mapping[str, JsonValue] | None = None,
        reasons: Mapping[str, str] | None = None,
    ) -> Draft:
        namespace = self.chosen.namespace
        return self.book.begin(
            self.file, version, kind, NAME, rule, spec, reasons, namespace=namespace
        )

    def deployment(self, image: str | None, arguments: list[str], services: str) -> None:
        spec: dict[str, JsonValue] = {
            "replicas": REPLICAS,
            "selector": {"matchLabels": POD_LABELS},
            "strategy": {
                "type": "RollingUpdate",
                "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1},
            },
        }
        draft = self.begin(
            "apps/v1",
            "Deployment",
            rules.GATEWAY,
            spec,
            {
                "replicas": "one takes over the jobs of the other",
                "strategy": "a new pod is ready before an old one goes",
            },
        )
        template = ("spec", "template")
        digest = hashlib.sha256(services.encode()).hexdigest()
        reason = "other services make other pods, because the list is read once at the start"
        notes = {"relume.dev/services": digest[:16]}
        draft.set((*template, "metadata", "annotations"), {**notes}, rules.GATEWAY_SERVICES, reason)
        draft.set((*template, "metadata", "labels"), {**LABELS, **POD_LABELS}, rules.GATEWAY)
        pod = (*template, "spec")
        for name, (value, why) in self._pod().items():
            draft.set((*pod, name), value, rules.GATEWAY, why)
        draft.set((*pod, "containers"), [self._container(image, arguments)], rules.GATEWAY)
        path = (*pod, "containers", 0, "image")
        draft.set(path, draft.get(*path), rules.IMAGE if image else rules.PLACEHOLDER)

    def _pod(self) -> dict[str, tuple[JsonValue, str]]:
        """The fields of the pod, each with its reason."""
        return {
            "automountServiceAccountToken": (False, "it asks nothing of the API server"),
            "enableServiceLinks": (False, "it reads no address from the environment"),
            "securityContext": (
                {
                    "runAsNonRoot": True,
                    "runAsUser": 1000,
                    "runAsGroup": 1000,
                    "fsGroup": 1000,
                    "seccompProfile": {"type": "RuntimeDefault"},
                },
                "not root; the group may read the credentials",
            ),
            "terminationGracePeriodSeconds": (
                _FORGET_S + _GRACE_S + _LEFT_S,
                f"{_FORGET_S} s until no new request comes, {_GRACE_S} s for the jobs that run, "
                "and a rest; another pod goes on with a job that takes longer",
            ),
            "topologySpreadConstraints": (
                [_spread("kubernetes.io/hostname"), _spread("topology.kubernetes.io/zone")],
                "one node or zone that fails does not take both",
            ),
            "volumes": (self._volumes(), "the services, the credentials, and a place to write"),
        }

    def _volumes(self) -> list[JsonValue]:
        volumes: list[JsonValue] = [
            {"name": "services", "configMap": {"name": NAME}},
            {"name": "tmp", "emptyDir": {"sizeLimit": "256Mi"}},
        ]
        if (secret := self.chosen.nats_credentials_secret) is not None:
            volumes.append({"name": "nats", "secret": {"secretName": secret, "defaultMode": 0o440}})
        return volumes

    def _container(self, image: str | None, arguments: list[str]) -> dict[str, JsonValue]:
        mounts: list[JsonValue] = [
            {"name": "services", "mountPath": _SERVICES_FOLDER, "readOnly": True},
            {"name": "tmp", "mountPath": "/tmp"},
        ]
        if self.chosen.nats_credentials_secret is not None:
            mounts.append({"name": "nats", "mountPath": _CREDENTIALS_FOLDER, "readOnly": True})
        return {
            "name": "gateway",
            "image": image or PLACEHOLDER.format(name=GATEWAY_IMAGE),
            "args": [*arguments],
            "env": [{"name": "HOME", "value": "/tmp"}],
            "ports": [{"name": "http", "containerPort": PORT, "protocol": "TCP"}],
            # Bodies on their way in take up to 256 MiB; jobs that wait lie in NATS.
            "resources": {
                "requests": {"cpu": "250m", "memory": "256Mi"},
                "limits": {"memory": "1Gi"},
            },
            "readinessProbe": _probe("/readyz", 5, 2),
            "livenessProbe": _probe("/healthz", 10, 6),
            "lifecycle": {"preStop": {"sleep": {"seconds": _FORGET_S}}},
            "securityContext": {
                "allowPrivilegeEscalation": False,
                "capabilities": {"drop": ["ALL"]},
                "readOnlyRootFilesystem": True,
            },
            "terminationMessagePolicy": "FallbackToLogsOnError",
            "volumeMounts": mounts,
        }

    def service(self) -> None:
        spec: dict[str, JsonValue] = {
            "selector": POD_LABELS,
            "ports": [{"name": "http", "port": 80, "targetPort": PORT, "protocol": "TCP"}],
        }
        self.begin(CORE_V1, "Service", rules.GATEWAY, spec)

    def budget(self) -> None:
        spec: dict[str, JsonValue] = {
            "minAvailable": 1,
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
            "selector": {"matchLabels": POD_LABELS},
        }
        reasons = {
            "minAvailable": "jobs are accepted and answered while nodes are drained",
            "unhealthyPodEvictionPolicy": "a pod that is not ready must not hold up a drain",
        }
        self.begin("policy/v1", "PodDisruptionBudget", rules.DISRUPTION, spec, reasons)


def _spread(key: str) -> dict[str, JsonValue]:
    return {
        "maxSkew": 1,
        "topologyKey": key,
        "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": {"matchLabels": POD_LABELS},
    }


def _probe(path: str, period_s: int, failures: int) -> dict[str, JsonValue]:
    return {
        "httpGet": {"path": path, "port": PORT},
        "periodSeconds": period_s,
        "timeoutSeconds": 2,
        "failureThreshold": failures,
    }
