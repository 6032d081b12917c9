"""Which service a Host, a path or a model names."""

import pytest

from relume.serving.addresses import by_host, by_path
from relume.serving.errors import ModelUnknown
from relume.serving.openai import ModelNames, openai_path, served_names
from relume.serving.predictor import ServiceKey

SUMMARIZE = ServiceKey("default", "summarize")
EMBED = ServiceKey("prod", "embed")
KNOWN = [SUMMARIZE, EMBED]


@pytest.mark.parametrize(
    ("host", "key"),
    [
        ("summarize.default.example.com", SUMMARIZE),
        ("summarize.default.example.com:8080", SUMMARIZE),
        ("summarize.default.svc.cluster.local", SUMMARIZE),
        ("Summarize.Default.localhost", SUMMARIZE),
        ("summarize-predictor.default.example.com", SUMMARIZE),
        ("embed.prod", EMBED),
        ("summarize.prod.example.com", None),
        ("localhost:8080", None),
        ("127.0.0.1:8080", None),
        ("[::1]:8080", None),
        ("summarize", None),
        ("", None),
    ],
    ids=[
        "a service and a domain",
        "a port after it",
        "a cluster's own domain",
        "capital letters",
        "the predictor's own host",
        "no domain at all",
        "another namespace",
        "localhost",
        "an IPv4 address",
        "an IPv6 address",
        "a single label",
        "an empty host",
    ],
)
def test_a_host_names_a_service_and_its_namespace(host: str, key: ServiceKey | None) -> None:
    assert by_host(host, KNOWN) == key


def test_a_service_whose_name_ends_like_a_predictor_s_is_found_by_its_own_name() -> None:
    odd = ServiceKey("default", "summarize-predictor")
    assert by_host("summarize-predictor.default.x", [SUMMARIZE, odd]) == odd


@pytest.mark.parametrize(
    ("path", "found"),
    [
        (b"/serving/default/summarize/v1/models", (SUMMARIZE, b"/v1/models")),
        (b"/serving/default/summarize/", (SUMMARIZE, b"/")),
        (b"/serving/default/summarize", (SUMMARIZE, b"/")),
        (b"/serving/default/summarize/a%2Fb//c", (SUMMARIZE, b"/a%2Fb//c")),
        (b"/serving/default", None),
        (b"/serving//summarize/x", None),
        (b"/v1/models", None),
    ],
    ids=[
        "a path below the service",
        "a slash after the service",
        "the service alone",
        "an encoded slash and an empty segment",
        "a namespace alone",
        "an empty namespace",
        "another path",
    ],
)
def test_kserve_s_path_template_names_a_service_and_is_taken_off(
    path: bytes, found: tuple[ServiceKey, bytes] | None
) -> None:
    assert by_path(path) == found


@pytest.mark.parametrize(
    ("path", "inner"),
    [
        (b"/openai/v1/chat/completions", b"/v1/chat/completions"),
        (b"/openai/v1", b"/v1"),
        (b"/openai/v10/x", None),
        (b"/v1/models", None),
    ],
    ids=["a path below it", "the prefix alone", "a longer word", "another path"],
)
def test_openai_s_prefix_is_taken_off(path: bytes, inner: bytes | None) -> None:
    assert openai_path(path) == inner


def test_a_service_is_a_model_by_its_name_and_by_its_namespace_and_name() -> None:
    models = ModelNames([(SUMMARIZE, ()), (EMBED, ())])
    assert [m.id for m in models.listed] == ["summarize", "embed"]
    named = models.find("default/summarize")
    assert (named.service, named.served_as) == (SUMMARIZE, "summarize")
    with pytest.raises(ModelUnknown):
        models.find("nosuch")


def test_the_same_name_in_two_namespaces_is_listed_with_the_namespace() -> None:
    other = ServiceKey("prod", "summarize")
    models = ModelNames([(SUMMARIZE, ()), (other, ())])
    assert [m.id for m in models.listed] == ["default/summarize", "prod/summarize"]
    with pytest.raises(ModelUnknown):
        models.find("summarize")


def test_a_model_is_also_found_by_the_name_that_its_server_gives_it() -> None:
    models = ModelNames(
        [(SUMMARIZE, ("--served-model-name", "smol", "small", "--max-model-len=512"))]
    )
    named, alias, service = models.find("smol"), models.find("small"), models.find("summarize")
    assert (named.served_as, alias.served_as, service.served_as) == ("smol", "small", "smol")


@pytest.mark.parametrize(
    ("args", "names"),
    [
        (("--served-model-name=a",), ["a"]),
        (("--served-model-name", "a", "b"), ["a", "b"]),
        (("--model_name=a", "--dtype", "bfloat16"), ["a"]),
        (("--served-model-name a --dtype bfloat16",), ["a"]),
        (("--served-model-name",), []),
        (("--dtype", "bfloat16"), []),
    ],
    ids=[
        "one name after an equals sign",
        "two names as arguments of their own",
        "KServe's spelling of the flag",
        "a flag and its name in one argument",
        "a flag without a name",
        "no such flag",
    ],
)
def test_served_names_are_read_as_vllm_reads_them(args: tuple[str, ...], names: list[str]) -> None:
    assert served_names(args) == names
