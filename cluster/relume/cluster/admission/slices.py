"""ResourceSlices, as the API server judges them: what a driver, or an inventory file, publishes.

Source: kubernetes pkg/apis/resource/validation/validation.go.
"""

from relume.cluster.admission.device_parts import is_qualified_id
from relume.cluster.admission.judge import Judge, content, entries, fields, number, truth
from relume.cluster.admission.syntax import is_dns_label, is_subdomain
from relume.config.nodes import Node, Table

_MOST_DEVICES = 128
_MOST_ADVANCED = 64  # where devices have taints or consume counters
_PLACES = ("nodeName", "nodeSelector", "allNodes", "perDeviceNodeSelection")
_LONGEST_VALUE = 64


def judge_slice(document: Table, judge: Judge) -> None:
    """resource.k8s.io/v1 ResourceSlice; of v1beta1 only the schema is checked."""
    if content(document.get("apiVersion")) == "resource.k8s.io/v1beta1":
        return
    spec = document.get("spec") or document
    inside = fields(spec)
    driver = inside.get("driver")
    if driver is not None and not (len(content(driver)) <= 63 and is_subdomain(content(driver))):
        judge.invalid(driver, "must be a domain of at most 63 characters")
    pool = fields(inside.get("pool"))
    for name, least in (("generation", 0), ("resourceSliceCount", 1)):
        value, node = number(pool.get(name)), pool.get(name)
        if node is not None and value is not None and value < least:
            judge.invalid(node, f"must be at least {least}")
    chosen = [name for name in _PLACES if name in inside]
    for name in chosen:
        if name in ("allNodes", "perDeviceNodeSelection") and not truth(inside[name]):
            judge.invalid(inside[name], "must be either unset or set to true")
    if len(chosen) > 1:
        judge.several(spec, *chosen)
    elif not chosen:
        judge.missing(spec, *_PLACES, reason="one-of")
    if "devices" in inside and "sharedCounters" in inside:
        judge.several(spec, "devices", "sharedCounters")
    _judge_devices(inside.get("devices"), judge)


def _judge_devices(devices: Node | None, judge: Judge) -> None:
    listed = entries(devices)
    advanced = any({"taints", "consumesCounters"} & fields(one).keys() for one in listed)
    most = _MOST_ADVANCED if advanced else _MOST_DEVICES
    if devices is not None and len(listed) > most:
        message = f"Too many: {len(listed)}: must have at most {most} items"
        judge.say(devices, "too-many", message)
    names: set[str] = set()
    for device in listed:
        name = fields(device).get("name")
        if name is None or not is_dns_label(content(name)):
            judge.invalid(
                name or device, "a device's name is a DNS-1123 label", shown=content(name)
            )
        elif content(name) in names:
            judge.say(name, "duplicate-item", f'duplicate value: "{content(name)}"')
        names.add(content(name))
        for kind in ("attributes", "capacity"):
            for key, node in fields(fields(device).get(kind)).items():
                if not is_qualified_id(key):
                    judge.invalid(
                        node, "must be a C identifier, with or without domain/", shown=key
                    )
                if kind == "attributes":
                    _judge_attribute(node, judge)


def _judge_attribute(attribute: Node, judge: Judge) -> None:
    values = fields(attribute)
    if len(values) != 1:
        judge.say(attribute, "one-of", "exactly one value must be specified")
    text = values.get("string")
    if text is not None and len(content(text)) > _LONGEST_VALUE:
        message = f"Too long: must have at most {_LONGEST_VALUE} characters"
        judge.say(text, "too-many", message)
