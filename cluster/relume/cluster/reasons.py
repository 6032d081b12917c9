"""Every reason that a finding can have: how grave, what admission does, why, and how to fix it.

To add or change a reason, edit the table of its group below (`_DOCUMENT`: the text, the schema and
the webhooks; `_AFTER`: what admission takes and what fails later; `_BUDGET`: times and numbers that
do not fit together; `_CLAIMS`: devices; `_JOBS`: the jobs gateway and its NATS; `_CLUSTER`: a
cluster that is examined). Then write `cluster/DOCTOR.md`, which has one section for each reason,
with `python cluster/doctor_page.py > cluster/DOCTOR.md`. Code names a reason by its word.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Literal

Severity = Literal["error", "warning", "info"]
Effect = Literal["refused", "pruned", "none"]


@dataclass(frozen=True, slots=True)
class Reason:
    """What is the same for every finding with one reason; `fix` is the usual one."""

    severity: Severity
    effect: Effect
    why: str
    fix: str


_refused = partial(Reason, "error", "refused")
_pruned = partial(Reason, "error", "pruned")
_fails = partial(Reason, "error", "none")
_risk = partial(Reason, "warning", "none")
_note = partial(Reason, "info", "none")

# One card that two mechanisms offer, found in files and in a cluster.
_OFFERED_TWICE = _fails(
    "A node that serves one resource name through a device plugin and through DRA counts its "
    "devices twice.",
    "Turn the device plugin off on that node, or give the DeviceClass another name.",
)

_DOCUMENT = {
    "not-yaml": _refused(
        "Nothing after this place can be read.", "Correct the text at the line that is named."
    ),
    "not-a-manifest": _refused(
        "A manifest is a table with apiVersion, kind and metadata.", "Write a table of fields."
    ),
    "func-yaml": _refused(
        "func refuses the func.yaml, or the function cannot run: it is not deployed.",
        "Correct the field that is named.",
    ),
    "repeated-field": _pruned(
        "An API server that validates strictly, as kubectl asks it to, refuses a field that is "
        "there twice. Other clients have the last one taken without a word.",
        "Keep one of the two.",
    ),
    "no-such-kind": _refused(
        "The API server knows no such kind in that version.", "Write a kind and version it serves."
    ),
    "unknown-field": _pruned(
        "kubectl refuses a field that the API does not have. A client that does not ask for strict "
        "validation, as controllers do not, has it dropped without a word.",
        "Remove the field, or correct its name.",
    ),
    "undecodable-field": _refused(
        "The schema leaves this place open, and the webhook that reads it knows no such field.",
        "Remove the field, or correct its name.",
    ),
    "missing-field": _refused("The API requires the field.", "Add the field."),
    "wrong-type": _refused(
        "The API has another type for this field.",
        "Write a value of the type that is named; quote a string that looks like something else.",
    ),
    "unsupported-value": _refused(
        "The API takes one of a few words here, spelled exactly so.", "Write one of them."
    ),
    "invalid-value": _refused("Admission refuses the value.", "Write a value as it is described."),
    "out-of-range": _refused("Admission has bounds for the value.", "Write a value within them."),
    "invalid-name": _refused(
        "Names become parts of host names, paths and labels.",
        "Write lower case letters, digits and '-', beginning with a letter.",
    ),
    "too-many": _refused("The API bounds the length.", "Write fewer."),
    "duplicate-item": _refused("Items of this list are told apart by it.", "Rename or remove one."),
    "one-of": _refused("Exactly one of these fields may be set.", "Keep one of them."),
    "conflict": _refused("The two fields contradict each other.", "Change one of them."),
    "reserved": _refused("Knative uses it itself.", "Choose another one."),
    "not-allowed": _refused(
        "The webhook allows a part of the API only, and no setting opens this field.",
        "Remove the field.",
    ),
    "feature-off": _refused(
        "The cluster's feature flag for the field is off, as it is shipped.",
        "Remove the field, or ask for the flag to be enabled.",
    ),
    "runtime-clash": _refused(
        "KServe's webhook takes no two runtimes of one scope with one priority for the same model "
        "format and version, where both are chosen automatically and share a protocol.",
        "Give the format another priority, or none: a runtime without one is chosen last.",
    ),
    "invalid-expression": _refused("The expression does not compile.", "Correct the expression."),
}
_AFTER = {
    "claim-dropped": _pruned(
        "Knative Serving has no API for device claims: the pod would start without a device.",
        "Ask for an extended resource instead (limits: deviceclass.resource.kubernetes.io/CLASS), "
        "or let an admission policy add the claim: relume render --dra admission.",
    ),
    "no-device": _fails(
        "KServe hands the claim to a Knative Service, where it is dropped without a word: the "
        "service becomes READY and has no device.",
        "Ask for an extended resource instead (limits: deviceclass.resource.kubernetes.io/CLASS), "
        "let an admission policy add the claim (relume render --dra admission), or use the "
        "annotation serving.kserve.io/deploymentMode: Standard.",
    ),
    "reconcile-failed": _fails(
        "Admission takes the InferenceService, and Knative then refuses the Service that KServe "
        "makes of a component: PredictorReady (or TransformerReady, ExplainerReady) stays False "
        "with the reason ReconcileFailed.",
        "Change the field, or the setting of Knative that forbids it.",
    ),
    "left-empty": _fails(
        "The project's webhook reads the document into its own types and so fills in an empty "
        "value: admission takes it, and what is made of it fails later.",
        "Add the field.",
    ),
    "dry-run-refused": _refused(
        "In a dry run on the server Knative has the API server try the pod, and refuses the "
        "document with it. Without one it takes the document, and the Revision is marked as "
        "failed.",
        "Change the field.",
    ),
    "pod-refused": _fails(
        "What makes the pod is taken, and the API server then refuses the pod itself: a Revision "
        "is marked as failed, a StatefulSet stays without pods.",
        "Change the field.",
    ),
    "dropped-later": _risk(
        "KServe hands the field to a Knative Service, whose schema does not have it: it is dropped "
        "without a word.",
        "Remove the field, or use the annotation serving.kserve.io/deploymentMode: Standard.",
    ),
    "no-effect": _risk(
        "KServe builds a HorizontalPodAutoscaler or KEDA's ScaledObject in Standard mode only. In "
        "Knative mode nothing reads the field, and nothing says so. The other way round, "
        "canaryTrafficPercent is read in Knative mode only.",
        "Use scaleMetric and scaleTarget, which Knative reads, or the annotation "
        "serving.kserve.io/deploymentMode: Standard. In Standard mode, write spec.canary instead "
        "of canaryTrafficPercent.",
    ),
    "annotation-ignored": _risk(
        "Nothing reads the annotation here, and nothing says so.", "Remove or correct it."
    ),
    "unknown-mode": _risk(
        "KServe takes any word and runs the service in its default mode.",
        "Write Knative or Standard.",
    ),
    "renamed-mode": _note("KServe rewrites the old name.", "Write the new name."),
    "no-runtime": _risk(
        "Without a runtime for the model's format KServe creates nothing: modelStatus has the "
        "reason NoSupportingRuntime and the conditions stay Unknown.",
        "Apply a ServingRuntime or ClusterServingRuntime for the format first.",
    ),
    "no-broker": _risk(
        "A Trigger whose Broker does not exist stays at Ready=False with the reason "
        "BrokerDoesNotExist, and no event comes to its subscriber.",
        "Apply the Broker first, in the Trigger's namespace.",
    ),
    "no-device-class": _note(
        "A pod that asks for a DeviceClass that does not exist stays Pending, and Knative marks "
        "the Revision as failed at once.",
        "Apply the DeviceClass first.",
    ),
    "cluster-only": _note(
        "One machine runs vLLM, and huggingface models by vLLM. Other engines run on a cluster, "
        "where KServe starts them; relume render passes such a service as it is.",
        "Apply it to a cluster, or write modelFormat.name: vLLM to try the model on one machine.",
    ),
    "runtime-takes-over": _risk(
        "KServe chooses the runtime again at every look at a service that names none, and takes "
        "the one with the highest priority, then the newest.",
        "Leave the priority of the format out, set autoSelect: false, or name the runtime in the "
        "services that are to stay.",
    ),
    "wrong-image": _risk(
        "KServe chooses the GPU image of its own runtimes only for the resource names it knows.",
        "Name the resource in the annotation serving.kserve.io/gpu-resource-types.",
    ),
    "insecure-default": _note(
        "Knative warns about it at every admission; the restricted Pod Security level refuses it.",
        "Set runAsNonRoot, allowPrivilegeEscalation: false, capabilities.drop: [ALL] and "
        "seccompProfile.type: RuntimeDefault.",
    ),
    "unchecked-kind": _note(
        "There are no field tables for the kind: only its metadata was checked. The document "
        "counts as unchecked, never as accepted.",
        "Try it with: kubectl apply --dry-run=server",
    ),
    "fields-only": _note(
        "The kind's fields are known and were checked, but not the rules beyond them that its "
        "webhook or the API server has.",
        "Try it with: kubectl apply --dry-run=server",
    ),
    "status-ignored": _note(
        "The API server drops a status that a client sends.", "Remove the status."
    ),
    "namespace-ignored": _note(
        "The kind belongs to the whole cluster, and the namespace is dropped.", "Remove it."
    ),
}
_BUDGET = {
    "cold-start-over-timeout": _fails(
        "The wait for a replica counts against the request's timeout: the activator answers 504 "
        "'activator request timeout' while the model still loads.",
        "Raise timeout up to max-revision-timeout-seconds, or make the start shorter.",
    ),
    "first-byte-timeout": _risk(
        "timeoutSeconds alone leaves the time to the first byte at the default of 300 s, and the "
        "cold start counts against it.",
        "Set responseStartTimeoutSeconds to the same value.",
    ),
    "idle-timeout": _risk(
        "idleTimeoutSeconds also runs while no byte has come yet, the wait for a replica included.",
        "Raise it above the cold start, or leave it out.",
    ),
    "delivery-timeout-short": _fails(
        "The broker gives up on an attempt while the service still works on it, and sends the "
        "event again: a second generation beside the first.",
        "Set delivery.timeout above the service's timeout.",
    ),
    "lease-shorter-than-answer": _fails(
        "The NATS broker takes an event back 30 s after it was fetched, or after the Trigger's "
        "delivery.timeout. It fetches ten at a time and sends them one after the other: an "
        "inference that still runs, or waits for its turn, is started again.",
        "Set the Trigger's delivery.timeout above the service's timeout, and "
        "CONSUMER_FETCH_BATCH_SIZE to 1 in the Broker's annotation "
        "natsjetstream.eventing.knative.dev/config, as relume render --broker nats does.",
    ),
    "retries-shorter-than-start": _risk(
        "All retries are over before a replica can be ready, so an event that meets a loading "
        "service ends among the dead letters.",
        "Raise retry or backoffDelay until the waits add up to the cold start.",
    ),
    "no-retry": _risk(
        "An event that meets a loading or overloaded service is given up at once. A delivery "
        "without retry has none: on most Brokers a Trigger's delivery counts as a whole.",
        "Set delivery.retry and backoffDelay.",
    ),
    "no-dead-letter": _risk(
        "An event that cannot be delivered is dropped without a trace.",
        "Set delivery.deadLetterSink on the Trigger or its Broker.",
    ),
    "progress-deadline-short": _fails(
        "A Revision that is not ready by the progress deadline is marked as failed; 30 s later the "
        "autoscaler gives the pod up where nobody waits.",
        "Raise the annotation serving.knative.dev/progress-deadline above the cold start.",
    ),
    "reply-loop": _fails(
        "The Broker feeds replies to every Trigger: the reply matches the filter of the Trigger "
        "that caused it, which asks the model again, without end.",
        "Filter on the type of the request.",
    ),
    "groups-from-right": _risk(
        "Knative's CESQL engine groups AND, OR and XOR from the right, whatever they are: "
        "a AND b OR c is a AND (b OR c).",
        "Write brackets.",
    ),
    "second-device": _risk(
        "A new Revision starts beside the old one. With devices for one replica only it never "
        "becomes ready, and the rollout waits for ever.",
        "Keep a spare device, scale the old Revision to zero before applying, or let new ones "
        'begin at zero: autoscaling.knative.dev/initial-scale: "0", with '
        "allow-zero-initial-scale: true in the config-autoscaler map.",
    ),
    "too-few-devices": _fails(
        "vLLM and SGLang start a worker for each of tensor x pipeline x data, and end with an "
        "error where one has no device.",
        "Ask for as many devices in limits, or leave the sizes out: Relume's runtime takes them "
        "from what the pod got.",
    ),
    "idle-devices": _risk(
        "vLLM and SGLang leave devices beyond their parallel sizes idle, and nobody else gets "
        "them.",
        "Ask for fewer devices in limits, or leave the sizes out: Relume's runtime takes them from "
        "what the pod got.",
    ),
    "several-partitions": _fails(
        "CUDA gives a process one MIG device, and no other, so a model cannot be split over them.",
        "Ask for one device of a larger profile.",
    ),
    "unbounded-scale": _risk(
        "maxReplicas 0 is no bound: a burst asks for more devices than there are.",
        "Set maxReplicas to the number of devices.",
    ),
    "unbounded-concurrency": _note(
        "containerConcurrency 0 sends every waiting request at once to the first replica that is "
        "ready.",
        "Set containerConcurrency to the engine's --max-num-seqs.",
    ),
    "short-window": _note(
        "A stable window shorter than the cold start scales to zero and back between requests.",
        "Set autoscaling.knative.dev/window to twice the cold start or more.",
    ),
}
_CLAIMS = {
    "unknown-attribute": _risk(
        "A device that does not have what CEL reads makes allocation fail for the pod.",
        "Read what the driver publishes.",
    ),
    "unknown-type": _risk(
        "No device has this type, so that the class or claim is never satisfied.",
        "Compare with a type that the driver publishes.",
    ),
    "label-size-quantity": _risk(
        "A card has less memory to use than its label says, and is passed over.",
        "Ask for what it has to use: 3 to 5 % less than the label.",
    ),
    "unguarded-key": _risk(
        "A key that a device lacks is a runtime error in CEL: allocation fails for the pod instead "
        "of passing over the device.",
        "Test for it first.",
    ),
    "class-name-too-long": _fails(
        "The name of an extended resource has at most 63 characters after the domain.",
        "Rename the class, or give it an extendedResourceName.",
    ),
    "extended-resource-twice": _risk(
        "Of two DeviceClasses for one resource only the newer counts.", "Rename one of them."
    ),
    "served-twice": _OFFERED_TWICE,
    "resource-without-class": _fails(
        "Under the GPU Operator's GPUCluster the class gpu.nvidia.com has no extendedResourceName. "
        "No class answers for the resource, no device plugin runs, and the pod stays pending.",
        "Ask for deviceclass.resource.kubernetes.io/CLASS, which every DeviceClass answers for.",
    ),
    "list-attribute": _risk(
        "With the gate DRAListTypeAttributes on in Kubernetes and in the driver, numaNode is a "
        "list of numbers. A comparison with == is then never true, and no device matches.",
        "Write .includes(NUMBER) where the gate is on, or a constraint with matchAttribute, which "
        "reads both forms.",
    ),
    "fabric-partition": _fails(
        "With FabricManagerPartitioning the GPUs of a claim must be exactly one partition of the "
        "fabric. The scheduler does not know that: it gives any GPUs, and the driver then fails to "
        "prepare the claim, so that the pod never starts.",
        "Add the constraint matchAttribute: gpu.nvidia.com/partitionN, with N the number of GPUs. "
        "An extended resource has no constraints: use --dra admission or --dra standard.",
    ),
    "unhealthy-device": _risk(
        "The driver has tainted the card because it failed. New claims do not get it; a pod that "
        "holds it is not evicted, because the driver never taints with NoExecute.",
        "Move the pods that hold it, then reset or replace the card.",
    ),
    "device-told": _note(
        "The driver tells something about the card with a taint of the effect None. The card is "
        "given out as before.",
        "Look at the card.",
    ),
    "tolerates-everything": _risk(
        "A toleration without a key tolerates every taint, also those by which the driver takes a "
        "lost card or one with a fatal error out of use.",
        "Name the key of the taint that is meant.",
    ),
    "pool-stays-at-zero": _risk(
        "An autoscaler starts the first node of a pool for a pod with a claim only if it knows "
        "that the pool will have devices; at zero nodes no ResourceSlice says so.",
        "On GKE label the pool cloud.google.com/gke-nvidia-gpu-dra-driver=true; elsewhere keep one "
        "node.",
    ),
    "memory-not-divided": _fails(
        "Memory on a shared device is accounted or not even that, and never enforced. A server "
        "that is told nothing takes 0.92 of the whole device, and the next one ends at its start.",
        "Give each server its part: relume.dev/share with memory=…, or --gpu-memory-utilization.",
    ),
    "time-slicing-alone": _risk(
        "TimeSlicing sets how long a slice is, and does not oversubscribe: pods share a device "
        "only when they name one ResourceClaim. Each pod of a template gets a device of its own.",
        "Write a ResourceClaim that all these pods name: relume.dev/share: claim=NAME.",
    ),
    "tpu-part-of-node": _risk(
        "The driver sets a container up for all chips of its TPU node together (up to v6e). The "
        "scheduler allocates some of them all the same, and the rest is idle or clashes.",
        "Ask for all chips of the node: count, or allocationMode: All.",
    ),
    "mps-with-shares": _fails(
        "NVIDIA's driver refuses MPS on a device that several claims share by consumable capacity: "
        "the claim is allocated, and fails when it is prepared.",
        "Remove the MPS configuration, or share by one ResourceClaim without capacity.",
    ),
}
_JOBS = {
    "gateway-open": _fails(
        "Whoever reaches the jobs gateway may use the models, and nothing says who that is: "
        "relume gateway refuses to start on an address that others reach.",
        "Add --keys, and make keys with relume keys --nats URL, or add --oidc-issuer and "
        "--oidc-audience.",
    ),
    "events-open": _risk(
        "With --open-events the gateway takes events without a key, because a Broker's dispatcher "
        "sends none. Then only the network says who may send them.",
        "Keep the gateway's Service a ClusterIP, and its pods behind a NetworkPolicy that names "
        "the dispatchers, as relume render --gateway does.",
    ),
    "gateway-alone": _risk(
        "With one gateway nothing is accepted while it starts again, and no other one takes over "
        "its jobs.",
        "Set replicas to 2 or more.",
    ),
    "one-copy": _risk(
        "With one copy of the streams a server that is lost takes with it what was accepted.",
        "Add --replicas=3, with three nats-servers.",
    ),
    "no-nats-credentials": _risk(
        "Whoever reaches NATS without credentials reads every prompt and answer, and removes them.",
        "Give the gateway a user of its own: relume render --gateway --nats-credentials-secret "
        "NAME.",
    ),
    "connection-held": _risk(
        "The Broker holds the connection of each delivery for as long as a cold start and an "
        "answer take, although a jobs gateway would answer at once.",
        "Render with relume render --gateway, which turns the Triggers of the services that the "
        "gateway serves and gives them a short delivery.timeout.",
    ),
    "nats-unreachable": _fails(
        "Without NATS the gateway accepts nothing and answers 503.",
        "Check the URL, the network and the credentials; from outside of the cluster: kubectl "
        "port-forward.",
    ),
    "nats-server-away": _risk(
        "A server of the cluster that does not answer has no copy of what is stored meanwhile, and "
        "the next one that fails stops everything.",
        "Start it again, or correct its address.",
    ),
    "nats-no-jetstream": _fails(
        "Jobs, records and tokens lie in JetStream.",
        "Turn JetStream on (config.jetstream.enabled of the chart), and give the account limits.",
    ),
    "nats-old": _fails(
        "The gateway gives each message its own time to live, which nats-server has since 2.11.",
        "Upgrade nats-server.",
    ),
    "nats-too-few-servers": _fails(
        "Each copy lies on a server of its own: with fewer servers the streams cannot be made.",
        "Run three nats-servers in one cluster with JetStream (config.cluster of the chart), or "
        "write --replicas=1 and do without the other copies.",
    ),
    "nats-little-room": _risk(
        "When the store is full the gateway answers 503 until something is settled or removed.",
        "Give JetStream more room (config.jetstream.fileStore of the chart), or the account.",
    ),
    "nats-small-messages": _fails(
        "The largest message of the gateway does not fit: a request, a result or a part of an "
        "answer is refused.",
        "Set max_payload to 8MB (config.merge.max_payload of the chart).",
    ),
}
_CLUSTER = {
    "unreachable": _fails("The cluster did not answer.", "Check the context and the network."),
    "not-permitted": _fails(
        "Applying the manifests needs the permission.", "Ask for a role that grants it."
    ),
    "not-installed": _fails("The API is not served by the cluster.", "Install it."),
    "old-version": _risk("Older versions lack what the routes need.", "Upgrade."),
    "no-dra": _fails(
        "Without resource.k8s.io/v1 there are no DeviceClasses and claims.",
        "Use Kubernetes 1.34 or newer; extended resources through DRA need 1.36.",
    ),
    "no-slices": _risk(
        "No driver publishes a device, so that no claim can be allocated.",
        "Install the driver of the device and see: kubectl get resourceslices",
    ),
    "plugin-beside-driver": _OFFERED_TWICE,
    "flag-off": _note(
        "A manifest that needs the setting is refused, or fails after admission.",
        "Turn it on in the config map that is named, where manifests need it.",
    ),
    "not-readable": _risk(
        "Without the permission to read this, a part of the cluster stays unexamined.",
        "Ask for a role that may get and list it.",
    ),
    "no-broker-class": _fails(
        "No controller answers for the Broker's class: it never becomes ready.",
        "Install the broker, or set the annotation eventing.knative.dev/broker.class.",
    ),
    "not-schedulable": _risk(
        "A pod that waits for a node makes Knative mark the Revision as failed at once.",
        "Set pod-is-always-schedulable: true in config-deployment where nodes are added on demand.",
    ),
    "cluster-fact": _note("What was found.", "Nothing to do."),
}

REASONS: Mapping[str, Reason] = MappingProxyType(
    {**_DOCUMENT, **_AFTER, **_BUDGET, **_CLAIMS, **_JOBS, **_CLUSTER}
)
