"""DRA's CEL, case by case: what matches, what does not, what is an error, what does not compile."""

from dataclasses import replace

import pytest

from relume.cluster.claims import quantity
from relume.cluster.claims.devices import Device, DeviceAttribute, DeviceCapacity, Placement
from relume.cluster.claims.expressions import CelError, SelectorOutcome, compile_expression
from relume.cluster.claims.matching import conjuncts, why_not

DOMAIN = "dra.example.com"
A = f"device.attributes['{DOMAIN}']"
C = f"device.capacity['{DOMAIN}']"


def capacity(text: str) -> DeviceCapacity:
    return DeviceCapacity(quantity.parse(text))


DEVICE = Device(
    driver=DOMAIN,
    pool="pool",
    name="device",
    attributes={
        f"{DOMAIN}/type": DeviceAttribute("string", "gpu"),
        f"{DOMAIN}/index": DeviceAttribute("int", 3),
        f"{DOMAIN}/ready": DeviceAttribute("bool", True),
        f"{DOMAIN}/version": DeviceAttribute("version", "1.10.0-rc.1"),
        f"{DOMAIN}/names": DeviceAttribute("string", ("a", "b")),
        f"{DOMAIN}/numbers": DeviceAttribute("int", (1, 2)),
        f"{DOMAIN}/versions": DeviceAttribute("version", ("1.0.0", "2.0.0")),
        "other.example.com/type": DeviceAttribute("string", "nic"),
    },
    capacity={
        f"{DOMAIN}/memory": capacity("81559Mi"),
        f"{DOMAIN}/cores": capacity("1500m"),
    },
    counters={},
    taints=(),
    shareable=True,
    placement=Placement("node"),
)


def outcome(expression: str, device: Device = DEVICE) -> SelectorOutcome:
    return compile_expression(expression).evaluate(device)


@pytest.mark.parametrize(
    "expression",
    [
        f"device.driver == '{DOMAIN}'",
        "device.allowMultipleAllocations",
        f"{A}.type == 'gpu'",
        f"{A}['type'] == 'gpu'",
        f'device.attributes["{DOMAIN}"].type == "gpu"',
        f"{A}.index > 2 && {A}.ready",
        "device.attributes['other.example.com'].type == 'nic'",
        "device.attributes[device.driver].type == 'gpu'",
        f"{A}.type.upperAscii() == 'GPU' && {A}.type.matches('^g.u$')",
        f"{A}.type in ['gpu', 'mig']",
        f"{A}.names.exists(name, name == 'b')",
        f"cel.bind(dra, {A}, dra.type == 'gpu' && dra.index == 3)",
        f"{A}.?missing.orValue('x') == 'x'",
        f"!{A}.?missing.hasValue()",
        f"!has({A}.missing)",
        "!has(device.attributes['unknown.example.com'].missing)",
        "!has(device.capacity['unknown.example.com'].missing)",
        f"'type' in {A}",
        f"{C}.memory.compareTo(quantity('79Gi')) > 0",
        f"{C}.memory.isLessThan(quantity('80Gi'))",
        f"{C}.memory == quantity('81559Mi')",
        f"{C}.memory == quantity('85520809984')",
        f"{C}.cores.isGreaterThan(quantity('1')) && {C}.cores.isLessThan(quantity('2'))",
        f"{C}.cores == quantity('1.5') && !{C}.cores.isInteger()",
        f"{C}.cores.add(quantity('500m')) == quantity('2')",
        f"{C}.cores.sub(1) == quantity('500m')",
        f"{C}.cores.asApproximateFloat() == 1.5",
        f"{C}.memory.asInteger() == 85520809984 && {C}.memory.sign() == 1",
        f"{C}.?disk.orValue(quantity('0')) == quantity('0')",
        "isQuantity('20Mi') && !isQuantity('20 Mi')",
        f"{A}.version.isLessThan(semver('1.10.0')) && {A}.version.isGreaterThan(semver('1.9.9'))",
        f"{A}.version.major() == 1 && {A}.version.minor() == 10 && {A}.version.patch() == 0",
        f"{A}.version == semver('1.10.0-rc.1')",
        "semver('1.0.0-alpha').compareTo(semver('1.0.0-alpha.1')) == -1",
        "semver('1.0.0-2').isLessThan(semver('1.0.0-11'))",
        "semver('1.0.0-11').isLessThan(semver('1.0.0-a'))",
        "semver('v1.2', true) == semver('1.2.0')",
        "isSemver('1.0.0') && !isSemver('v1.0') && isSemver('v1.0', true)",
        f"{A}.names.includes('a') && !{A}.names.includes('c')",
        f"{A}.type.includes('gpu') && {A}.index.includes(3) && {A}.numbers.includes(2)",
        f"{A}.version.includes(semver('1.10.0-rc.1'))",
        f"{A}.versions.includes(semver('2.0.0')) && !{A}.versions.includes(semver('3.0.0'))",
        f"{A}.missing == 'x' || true",
    ],
)
def test_it_matches(expression: str) -> None:
    assert outcome(expression) == SelectorOutcome("match")
    negated = outcome(f"!({expression})").verdict
    assert negated == "no match"


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        (f"{A}.missing == 'x'", "no such key: missing"),
        ("device.attributes['unknown.example.com'].type == 'x'", "no such key: type"),
        (f"{C}.missing.isInteger()", "no such key: missing"),
        (f"{A}.type.compareTo(quantity('1')) == 0", "no such overload"),
        (f"{A}.type", "the result is of type string, not bool"),
        (f"{A}.version.isLessThan(quantity('1'))", "cannot be compared"),
        ("quantity('many') == quantity('1')", "not a quantity"),
        ("semver('1.0') == semver('1.0.0')", "not a semantic version"),
    ],
)
def test_it_is_a_runtime_error(expression: str, message: str) -> None:
    found = outcome(expression)
    assert found.verdict == "error"
    assert message in found.message


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        (f"{A}.type ==", "line 1, column 45: Syntax error"),
        ("true &&\n  nosuch", "line 2, column 3: undeclared reference to 'nosuch'"),
        ("device.nosuch == 'x'", "undeclared reference to 'device.nosuch'"),
        (f"{C}.memory > quantity('1')", "no matching overload for '_>_'"),
        (f"{C}.memory == '80Gi'", "no matching overload"),
        (f"{C}.memory >= 80", "no matching overload"),
        (f"{C}.memory", "must evaluate to bool, not to a quantity or version"),
        ("'text'", "must evaluate to bool, not to string"),
    ],
)
def test_it_does_not_compile(expression: str, message: str) -> None:
    with pytest.raises(CelError) as caught:
        compile_expression(expression)
    assert message in str(caught.value)


def test_a_device_that_differs_only_in_what_is_not_read_is_evaluated_once() -> None:
    program = compile_expression(f"{A}.type == 'gpu' && {A}.index == 3")
    uuids = (f"GPU-{i}" for i in range(3))
    shapes = {
        program.reads.shape(
            replace(
                DEVICE,
                attributes={**DEVICE.attributes, f"{DOMAIN}/uuid": DeviceAttribute("string", uuid)},
            )
        )
        for uuid in uuids
    }
    assert len(shapes) == 1


@pytest.mark.parametrize("code", [f"{A}.all(key, key != 'uuid')", f"size({A}) == 7"])
def test_code_that_can_see_every_key_is_evaluated_for_every_device(code: str) -> None:
    assert compile_expression(code).reads.names is None


@pytest.mark.parametrize(
    ("expression", "parts"),
    [
        ("a && b", ["a", "b"]),
        ("a && (b && c)", ["a", "(b && c)"]),
        ("a && x == '&&' && c", ["a", "x == '&&'", "c"]),
        ("a && b || c", ["a && b || c"]),
        ("x.?y.orValue('a') == 'b' && c", ["x.?y.orValue('a') == 'b'", "c"]),
        ("a && b ? c : d", ["a && b ? c : d"]),
        ("x == 'it\\'s' && b", ["x == 'it\\'s'", "b"]),
    ],
)
def test_an_expression_is_parted_at_its_outermost_ands(expression: str, parts: list[str]) -> None:
    assert conjuncts(expression) == parts


@pytest.mark.parametrize(
    ("clause", "words"),
    [
        (f"{C}.memory.compareTo(quantity('80Gi')) >= 0", "memory 79.6Gi < 80Gi"),
        (f"{C}.memory.isGreaterThan(quantity('80Gi'))", "memory 79.6Gi <= 80Gi"),
        (f"{A}.type == 'mig'", "type is gpu, not mig"),
        (f"{A}.index == 4", "index is 3, not 4"),
        ("device.driver == 'gpu.nvidia.com'", f"driver is {DOMAIN}, not gpu.nvidia.com"),
        (f"has({A}.missing)", "has no missing"),
        (f"{A}.version.compareTo(semver('2.0.0')) >= 0", "version 1.10.0-rc.1 < 2.0.0"),
        (f"{A}.type.startsWith('m') || {A}.index > 4", "type=gpu, index=3"),
        ("false", "is false"),
    ],
)
def test_why_a_clause_does_not_hold_is_said_in_values(clause: str, words: str) -> None:
    assert why_not(clause, DEVICE) == words
