"""What a cluster lacks for scale to zero, events and devices, and for a given set of files.

Everything is read through a `ClusterApi`, so the checks know nothing of HTTP.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from relume.base.vocabulary import (
    BROKER_CLASS,
    EVENTING_NAMESPACE,
    KNATIVE_EVENTING_V1,
    KNATIVE_SERVING_V1,
    KSERVE_V1BETA1,
    RESOURCE_V1,
    SERVING_NAMESPACE,
)
from relume.cluster.admission import Cluster
from relume.cluster.admission.judge import child, content, fields
from relume.cluster.apply.api import ClusterApi, Forbidden, objects, table, text
from relume.cluster.apply.devices import classes_of
from relume.cluster.claims.yaml_files import KubernetesLoader
from relume.cluster.doctor.files import read_files
from relume.cluster.doctor.online_devices import check_devices
from relume.cluster.doctor.online_runtimes import check_runtimes
from relume.cluster.findings import Finding
from relume.cluster.reasons import REASONS
from relume.cluster.schemas import schema
from relume.config.head import DEFAULT_NAMESPACE
from relume.config.nodes import Table

ROUTES_SINCE = (1, 36)
_APIS = {
    KNATIVE_SERVING_V1: "Knative Serving",
    KNATIVE_EVENTING_V1: "Knative Eventing",
    KSERVE_V1BETA1: "KServe",
}
# What a model on a GPU usually asks for.
_FLAGS = ("tolerations", "nodeselector", "affinity", "persistent-volume-claim", "init-containers")
# A Deployment of the broker's controller, by the class that it answers for.
_CONTROLLERS = {
    "MTChannelBasedBroker": "mt-broker-controller",
    "Kafka": "kafka-controller",
    "KafkaNamespaced": "kafka-controller",
    "RabbitMQBroker": "rabbitmq-broker-controller",
    "NatsJetStreamBroker": "jetstream",
}
AccessNeed = tuple[str, str, str]  # group, resource, namespace


@dataclass(frozen=True, slots=True)
class ClusterReport:
    """One cluster: its version, its settings as Knative has them, and what was found."""

    version: str
    settings: Cluster
    findings: tuple[Finding, ...]


def examine_cluster(
    api: ClusterApi,
    *,
    needs: Sequence[AccessNeed] = (),
    broker_classes: Sequence[str] = (),
    runtimes: Sequence[Table] = (),
) -> ClusterReport:
    """Examine a cluster. `needs`: what will be applied; `broker_classes`: those of the manifests.

    `runtimes` are the documents of the runtimes among them.

    Raises Unreachable where the API server does not answer.
    """
    version, served = _version(api), _served(api)
    findings: list[Finding] = [_say("cluster-fact", "version", f"Kubernetes {version}")]
    settings: dict[str, str] = {}
    for check in (
        lambda: _check_version(version),
        lambda: _check_apis(served),
        lambda: _check_settings(api, settings),
        lambda: check_devices(api, RESOURCE_V1 in served),
        lambda: _check_brokers(api, served, broker_classes),
        lambda: check_runtimes(api, runtimes, KSERVE_V1BETA1 in served),
        lambda: _check_permissions(api, needs),
    ):
        findings += _careful(check)
    has = Cluster(settings, classes_of(api), _brokers(api, served), frozenset(served))
    return ClusterReport(version, has, tuple(findings))


def _careful(check: Callable[[], Iterator[Finding]]) -> list[Finding]:
    """What a check finds, up to the first thing that may not be read."""
    found: list[Finding] = []
    try:
        found.extend(check())
    except Forbidden as error:
        found.append(_say("not-readable", "", str(error)))
    return found


def _say(reason: str, field: str, message: str, fix: str = "") -> Finding:
    return Finding(reason, field, message, fix or REASONS[reason].fix)


def _version(api: ClusterApi) -> str:
    answer = api.get("/version") or {}
    return f"{answer.get('major', '?')}.{answer.get('minor', '?')}"


def _number(version: str) -> tuple[int, int]:
    match = re.match(r"(\d+)\.(\d+)", version)
    return (int(match[1]), int(match[2])) if match else (0, 0)


def _served(api: ClusterApi) -> set[str]:
    groups = objects(api.get("/apis"), "groups")
    return {text(one, "groupVersion") for group in groups for one in objects(group, "versions")}


def _check_version(version: str) -> Iterator[Finding]:
    if _number(version) < ROUTES_SINCE:
        needed = ".".join(map(str, ROUTES_SINCE))
        message = f"Kubernetes {version}: extended resources through DRA, and admission policies "
        message += f"that change pods, are on by default since {needed}"
        yield _say(
            "old-version", "version", message, f"Upgrade to {needed}, or use --dra standard."
        )


def _check_apis(served: set[str]) -> Iterator[Finding]:
    for group, name in _APIS.items():
        if group not in served:
            yield _say("not-installed", group, f"{name} is not there", f"Install {name}.")
    if RESOURCE_V1 not in served:
        older = sorted(one for one in served if one.startswith("resource.k8s.io/"))
        has = f"; it serves {', '.join(older)}" if older else ""
        yield _say("no-dra", RESOURCE_V1, f"the API of DRA is not served{has}")


def _data(api: ClusterApi, namespace: str, name: str) -> Mapping[str, str]:
    found = table(api.get(f"/api/v1/namespaces/{namespace}/configmaps/{name}"), "data")
    return {key: str(value) for key, value in found.items()}


def _check_settings(api: ClusterApi, settings: dict[str, str]) -> Iterator[Finding]:
    for name in ("config-features", "config-defaults", "config-autoscaler"):
        settings |= _data(api, SERVING_NAMESPACE, name)
    settings |= _data(api, EVENTING_NAMESPACE, "config-features")
    settings.pop("_example", None)
    cluster = Cluster(settings)
    for flag in _FLAGS:
        key = f"kubernetes.podspec-{flag}"
        if not cluster.open(key):
            yield _say("flag-off", key, f"config-features: {key} is off")
    if not cluster.switch("allow-zero-initial-scale"):
        message = (
            "config-autoscaler: allow-zero-initial-scale is off: creating a service starts a pod"
        )
        yield _say("flag-off", "allow-zero-initial-scale", message)
    most = cluster.number("max-revision-timeout-seconds")
    message = f"config-defaults: a request lasts at most {most} s"
    yield _say("cluster-fact", "max-revision-timeout-seconds", message)
    deployment = _data(api, SERVING_NAMESPACE, "config-deployment")
    if deployment.get("pod-is-always-schedulable", "false").lower() != "true":
        message = "config-deployment: pod-is-always-schedulable is false"
        yield _say("not-schedulable", "pod-is-always-schedulable", message)


def _check_brokers(api: ClusterApi, served: set[str], classes: Sequence[str]) -> Iterator[Finding]:
    if KNATIVE_EVENTING_V1 not in served:
        return
    default = _default_class(_data(api, EVENTING_NAMESPACE, "config-br-defaults"))
    yield _say("cluster-fact", "config-br-defaults", f"the default broker class is {default}")
    deployments = api.list(f"/apis/apps/v1/namespaces/{EVENTING_NAMESPACE}/deployments") or ()
    running = [text(one, "metadata", "name") for one in deployments]
    for wanted in dict.fromkeys(name or default for name in (*classes, default)):
        controller = _CONTROLLERS.get(wanted)
        if controller is None or not any(controller in name for name in running):
            message = f"nothing in {EVENTING_NAMESPACE} answers for Brokers of class {wanted}"
            yield _say("no-broker-class", wanted, message)


def _brokers(api: ClusterApi, served: set[str]) -> frozenset[tuple[str, str]] | None:
    """The Brokers of the cluster by namespace and name; None where they cannot be read."""
    if KNATIVE_EVENTING_V1 not in served:
        return None
    try:
        found = api.list(f"/apis/{KNATIVE_EVENTING_V1}/brokers")
    except Forbidden:
        return None
    return frozenset(
        (text(one, "metadata", "namespace"), text(one, "metadata", "name")) for one in found or ()
    )


def _default_class(data: Mapping[str, str]) -> str:
    try:
        found = yaml.load(data.get("default-br-config", ""), KubernetesLoader) or {}
    except yaml.YAMLError:
        found = {}
    return text(found, "clusterDefault", "brokerClass") or "MTChannelBasedBroker"


def _check_permissions(api: ClusterApi, needs: Sequence[AccessNeed]) -> Iterator[Finding]:
    for group, resource, namespace in dict.fromkeys(needs):
        missing = [
            verb
            for verb in ("get", "create", "patch")
            if not api.allowed(verb, group, resource, namespace)
        ]
        if missing:
            name = f"{resource}.{group}" if group else resource
            place = f" in {namespace}" if namespace else ""
            message = f"you may not {', '.join(missing)} {name}{place}"
            yield _say("not-permitted", name, message)


def needs_of(files: Sequence[Path]) -> tuple[list[AccessNeed], list[str]]:
    """The resources that will be written, and the classes of the Brokers ("" is the default)."""
    needs: list[AccessNeed] = []
    classes: list[str] = []
    for one in read_files(files) if files else ():
        known = schema(one.api_version, one.kind)
        if known is None:
            continue
        namespace = (one.namespace or DEFAULT_NAMESPACE) if known.namespaced else ""
        needs.append((one.api_version.rpartition("/")[0], known.plural, namespace))
        if one.kind == "Broker":
            annotations = fields(child(one.root, "metadata", "annotations"))
            classes.append(content(annotations.get(BROKER_CLASS)))
    return needs, classes


def runtimes_of(files: Sequence[Path]) -> list[Table]:
    """The documents of the runtimes in `files`."""
    read = read_files(files) if files else ()
    kinds = ("ServingRuntime", "ClusterServingRuntime")
    return [one.root for one in read if one.kind in kinds and isinstance(one.root, Table)]
