"""Documents of Knative Eventing's and KServe's other kinds that admission accepts."""

from typing import Any

SINK = {"ref": {"apiVersion": "eventing.knative.dev/v1", "kind": "Broker", "name": "b"}}


def source(kind: str, spec: dict[str, Any], version: str = "v1") -> dict[str, Any]:
    return {
        "apiVersion": f"sources.knative.dev/{version}",
        "kind": kind,
        "metadata": {"name": "s"},
        "spec": {"sink": SINK, **spec},
    }


PING = source("PingSource", {"schedule": "*/5 * * * *", "data": "hello"})
API = source("ApiServerSource", {"resources": [{"apiVersion": "v1", "kind": "Event"}]})
CONTAINER = source("ContainerSource", {"template": {"spec": {"containers": [{"image": "app"}]}}})
BINDING = source("SinkBinding", {"subject": {"apiVersion": "apps/v1", "kind": "Job", "name": "a"}})
TIMER = source("IntegrationSource", {"timer": {"period": 1000, "message": "hello"}}, "v1alpha1")
KAFKA = source("KafkaSource", {"bootstrapServers": ["k:9092"], "topics": ["t"]})
AWS = {
    "apiVersion": "sinks.knative.dev/v1alpha1",
    "kind": "IntegrationSink",
    "metadata": {"name": "s"},
    "spec": {
        "aws": {"sqs": {"arn": "a", "region": "r"}, "auth": {"secret": {"ref": {"name": "x"}}}}
    },
}
KAFKA_SINK = {
    "apiVersion": "eventing.knative.dev/v1alpha1",
    "kind": "KafkaSink",
    "metadata": {"name": "s"},
    "spec": {"topic": "t", "bootstrapServers": ["k:9092"]},
}


def channel(kind: str, **spec: object) -> dict[str, Any]:
    return {
        "apiVersion": "messaging.knative.dev/v1",
        "kind": kind,
        "metadata": {"name": "c", "namespace": "n", "annotations": {}},
        "spec": spec,
    }


CHANNEL, IN_MEMORY = channel("Channel"), channel("InMemoryChannel")
KAFKA_CHANNEL = channel("KafkaChannel", numPartitions=3)
EVENTING = (
    *(PING, API, CONTAINER, BINDING, TIMER, KAFKA, AWS, KAFKA_SINK),
    *(CHANNEL, IN_MEMORY, KAFKA_CHANNEL),
)

GROUP = "serving.kserve.io"
GRAPH = {
    "apiVersion": f"{GROUP}/v1alpha1",
    "kind": "InferenceGraph",
    "metadata": {"name": "g"},
    "spec": {
        "nodes": {
            "root": {
                "routerType": "Splitter",
                "steps": [
                    {"serviceName": "a", "weight": 20, "name": "x"},
                    {"serviceName": "b", "weight": 80},
                ],
            }
        }
    },
}
TRAINED = {
    "apiVersion": f"{GROUP}/v1alpha1",
    "kind": "TrainedModel",
    "metadata": {"name": "m"},
    "spec": {
        "inferenceService": "i",
        "model": {"storageUri": "gs://a/b", "framework": "sklearn", "memory": "1Gi"},
    },
}
CACHE = {
    "apiVersion": f"{GROUP}/v1alpha1",
    "kind": "LocalModelCache",
    "metadata": {"name": "c"},
    "spec": {"sourceModelUri": "hf://a/b", "modelSize": "10Gi", "nodeGroups": ["gpu"]},
}
STORAGE = {
    "apiVersion": f"{GROUP}/v1alpha1",
    "kind": "ClusterStorageContainer",
    "metadata": {"name": "s"},
    "spec": {
        "container": {"name": "storage-initializer", "image": "app"},
        "supportedUriFormats": [{"prefix": "model-registry://"}],
    },
}


def llm(version: str = "v1alpha2", kind: str = "LLMInferenceService") -> dict[str, Any]:
    return {
        "apiVersion": f"{GROUP}/{version}",
        "kind": kind,
        "metadata": {"name": "l", "annotations": {}},
        "spec": {"model": {"uri": "hf://a/b"}},
    }


LLM, OLD = llm(), llm("v1alpha1")
CONFIG = llm(kind="LLMInferenceServiceConfig")
RICH = {
    **LLM,
    "spec": {
        "model": {
            "uri": "hf://a/b",
            "name": "m",
            "lora": {"maxRank": 8, "adapters": [{"name": "x", "uri": "hf://a/c"}]},
        },
        "parallelism": {"tensor": 2, "data": 2, "dataLocal": 1},
        "worker": {"containers": [{"name": "main"}]},
        "kvCacheOffloading": {
            "cpu": "1Gi",
            "secondary": [{"fileSystem": {"pvc": {"ref": {"name": "c"}}}}],
        },
        "rolloutStrategy": {"maxSurge": "25%", "maxUnavailable": 1},
        "scaling": {
            "minReplicas": 1,
            "maxReplicas": 3,
            "wva": {"variantCost": "1.5", "keda": {"idleReplicaCount": 0}},
        },
        "prefill": {"scaling": {"maxReplicas": 2, "wva": {"keda": {}}}},
        "router": {
            "route": {"group": "g", "weight": 5, "http": {}},
            "gateway": {"refs": [{"name": "gw", "namespace": "n"}]},
            "scheduler": {"replicas": 1, "config": {"ref": {"name": "c", "key": "k"}}},
        },
    },
}
KSERVE = (GRAPH, TRAINED, CACHE, STORAGE, LLM, OLD, CONFIG, RICH)
