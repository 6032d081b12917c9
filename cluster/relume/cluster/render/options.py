"""The choices that a user has when rendering."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import urlsplit

from relume.base.errors import InvalidInput

DeviceRoute = Literal["extended-resource", "admission", "standard"]
BrokerClass = Literal["kafka", "rabbitmq", "nats", "mt"]
ROUTES: tuple[DeviceRoute, ...] = ("extended-resource", "admission", "standard")
BROKERS: tuple[BrokerClass, ...] = ("kafka", "rabbitmq", "nats", "mt")

#: Seconds from no replica to a ready one, where the user names no budget. With KServe's 300 s for
#: the answer this makes 600 s, the longest timeout that an unchanged Knative allows.
DEFAULT_COLD_START_S = 300
LONGEST_COLD_START_S = 3600

#: Where the official chart puts NATS, as release `nats` in the namespace `nats`.
DEFAULT_NATS_URL = "nats://nats.nats.svc.cluster.local:4222"
DEFAULT_GATEWAY_NAMESPACE = "relume"

_DIGEST = re.compile(r"[^@\s]+@sha256:[0-9a-f]{64}")
_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_SUBDOMAIN = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?")
_BASE_URL = re.compile(r"https?://[A-Za-z0-9.-]+(:[0-9]{1,5})?")
_TAGGED = re.compile(r"[^@\s]+:[\w][\w.-]{0,127}")


@dataclass(frozen=True, slots=True)
class Images:
    """The image of each runtime, by the runtime's name; `every` is for those without one."""

    by_runtime: Mapping[str, str] = field(default_factory=dict)
    every: str | None = None

    def image_of(self, runtime: str) -> str | None:
        """The image that was chosen for `runtime`."""
        return self.by_runtime.get(runtime, self.every)


class WrongGatewayOption(InvalidInput):
    """An option of the jobs gateway cannot work; the message names it."""

    reason = "wrong-gateway-option"


@dataclass(frozen=True, slots=True)
class GatewayOptions:
    """How the jobs gateway is rendered. Raises WrongGatewayOption for a value that cannot work.

    `nats_credentials_secret` names a Secret in `namespace` whose key `nats.creds` is a NATS
    credentials file. `service_url` and `broker_url` are templates with {namespace} and {name}; None
    takes the addresses that KServe and the class of the Brokers give. `sink` gets the usage of each
    job; None: nobody gets it.
    """

    nats_urls: tuple[str, ...] = (DEFAULT_NATS_URL,)
    nats_credentials_secret: str | None = None
    oidc_issuer: str | None = None
    oidc_audience: str | None = None
    namespace: str = DEFAULT_GATEWAY_NAMESPACE
    service_url: str | None = None
    broker_url: str | None = None
    sink: str | None = None

    def __post_init__(self) -> None:
        for url in self.nats_urls:
            _check_nats_url(url)
        if (self.oidc_issuer is None) != (self.oidc_audience is None):
            raise WrongGatewayOption("--oidc-issuer and --oidc-audience go together: write both")
        if self.oidc_issuer is not None and urlsplit(self.oidc_issuer).scheme != "https":
            raise WrongGatewayOption(f"--oidc-issuer {self.oidc_issuer}: write an https:// URL")
        if self.sink is not None and not self.sink.startswith(("http://", "https://")):
            raise WrongGatewayOption(f"--sink {self.sink}: write an http:// or https:// URL")
        names = (
            ("--gateway-namespace", self.namespace, _LABEL),
            ("--nats-credentials-secret", self.nats_credentials_secret, _SUBDOMAIN),
        )
        for option, name, form in names:
            if name is not None and not form.fullmatch(name):
                raise WrongGatewayOption(
                    f"{option} {name}: not a name of Kubernetes: write lower case letters, digits "
                    "and '-', beginning and ending with a letter or digit"
                )
        for option, template in (
            ("--service-url", self.service_url),
            ("--broker-url", self.broker_url),
        ):
            if template is not None:
                _check_template(option, template)


def _check_nats_url(url: str) -> None:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise WrongGatewayOption(f"--nats-url {url}: {error}") from error
    if parts.username is not None or parts.password is not None:
        # The URL is not repeated: it holds a password or a token.
        raise WrongGatewayOption(
            "--nats-url: a manifest is no place for a password or a token: put a credentials file "
            "into a Secret, and name it with --nats-credentials-secret"
        )
    if parts.scheme not in ("nats", "tls", "ws", "wss") or not parts.hostname or port == 0:
        raise WrongGatewayOption(f"--nats-url {url}: write nats://HOST:4222 or tls://HOST:4222")


def _check_template(option: str, template: str) -> None:
    missing = [name for name in ("{namespace}", "{name}") if name not in template]
    if missing or urlsplit(template).scheme not in ("http", "https"):
        raise WrongGatewayOption(
            f"{option} {template}: write an http:// URL with {{namespace}} and {{name}}"
        )


class WrongLlmDOption(InvalidInput):
    """An option of llm-d's pools cannot work; the message names it."""

    reason = "wrong-llm-d-option"


@dataclass(frozen=True, slots=True)
class LlmDOptions:
    """How services become pools of llm-d. Raises WrongLlmDOption for a value that cannot work.

    `gateway` is the namespace and name of the Gateway of the HTTPRoutes; KServe's own by default.
    `url` is where it is reached inside the cluster, without a path; only Triggers need it.
    """

    gateway: str = "kserve/kserve-ingress-gateway"
    url: str | None = None

    def __post_init__(self) -> None:
        namespace, _, name = self.gateway.partition("/")
        if not (_LABEL.fullmatch(namespace) and _SUBDOMAIN.fullmatch(name)):
            raise WrongLlmDOption(
                f"--llm-d-gateway {self.gateway}: write NAMESPACE/NAME of a Gateway"
            )
        if self.url is not None and not _BASE_URL.fullmatch(self.url):
            raise WrongLlmDOption(f"--llm-d-url {self.url}: write http://HOST or http://HOST:PORT")


@dataclass(frozen=True, slots=True)
class Options:
    """`broker` None leaves each Broker the class that it names, or the cluster's default.

    With `gateway` a jobs gateway is rendered, and Triggers deliver to it. With `llm_d` each service
    is a pool of llm-d's router, too.
    """

    route: DeviceRoute = "extended-resource"
    broker: BrokerClass | None = None
    cold_start_s: int = DEFAULT_COLD_START_S
    images: Images = Images()
    gateway: GatewayOptions | None = None
    llm_d: LlmDOptions | None = None


class ImageNotPinned(InvalidInput):
    """An image is named by something that can change."""

    reason = "image-without-digest"


def check_image(image: str, *, allow_tags: bool) -> str:
    """The image, if it is pinned by its digest (or has a tag, where tags are allowed).

    A tag can mean another image tomorrow, and KServe rewrites tags: it appends `-gpu`, or puts
    `-cpu` behind the repository, by what it takes for a GPU (kserve UpdateImageTag).
    """
    if _DIGEST.fullmatch(image) or (allow_tags and _TAGGED.fullmatch(image)):
        return image
    hint = "" if allow_tags else "; --allow-tags takes a tag"
    raise ImageNotPinned(
        f"image {image}: name it by its digest, REPOSITORY@sha256: and 64 hex digits in lower"
        f" case, as the registry told when it was pushed{hint}"
    )
