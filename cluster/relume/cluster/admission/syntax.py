"""What Kubernetes takes as names, keys and values (apimachinery `util/validation`)."""

import re

_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_LABEL_1035 = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
_SUBDOMAIN = re.compile(rf"{_LABEL.pattern}(\.{_LABEL.pattern})*")
_NAME = re.compile(r"([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]")
_C_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_REPOSITORY = re.compile(r"[a-z0-9_\-./]{2,255}")
_TAG = re.compile(r"[A-Za-z0-9_\-.]{1,128}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_REGISTRY = re.compile(r"(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._~-]*)(:\d*)?")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*")
_HOST = re.compile(r"(\[[^\]]*\]|[^\[\]:]*)(:\d*)?")

RULE_1123 = "lower case letters, digits and '-', with a letter or digit at both ends"
RULE_1035 = f"at most 63 {RULE_1123}, beginning with a letter"


def is_dns_label(text: str) -> bool:
    """RFC 1123: at most 63 lower case letters, digits and '-'."""
    return len(text) <= 63 and _LABEL.fullmatch(text) is not None


def is_dns1035_label(text: str) -> bool:
    """RFC 1035: the same, beginning with a letter."""
    return len(text) <= 63 and _LABEL_1035.fullmatch(text) is not None


def is_subdomain(text: str) -> bool:
    """RFC 1123: labels joined by dots, at most 253 characters."""
    return len(text) <= 253 and _SUBDOMAIN.fullmatch(text) is not None


def is_qualified_name(text: str) -> bool:
    """A name of at most 63 characters, with or without `domain/` before it."""
    domain, slash, name = text.rpartition("/")
    if slash and not is_subdomain(domain):
        return False
    return len(name) <= 63 and _NAME.fullmatch(name) is not None


def is_label_value(text: str) -> bool:
    """At most 63 letters, digits, '-', '_' and '.', or nothing."""
    return text == "" or (len(text) <= 63 and _NAME.fullmatch(text) is not None)


def is_c_identifier(text: str) -> bool:
    """A letter or _, then letters, digits and _."""
    return _C_IDENTIFIER.fullmatch(text) is not None


def is_environment_name(text: str) -> bool:
    """Printable ASCII without '=' (the relaxed rule, on since Kubernetes 1.34)."""
    return bool(text) and all(" " <= c <= "~" and c != "=" for c in text)


def is_extended_resource(text: str) -> bool:
    """`domain/name` outside of kubernetes.io, and still a resource name in a quota."""
    domain, slash, _ = text.partition("/")
    if not slash or "kubernetes.io/" in text or text.startswith("requests."):
        return False
    return is_qualified_name(text) and is_qualified_name(f"requests.{text}") and bool(domain)


def is_implicit_resource(text: str) -> bool:
    """The name under which every DeviceClass is an extended resource."""
    prefix = "deviceclass.resource.kubernetes.io/"
    return text.startswith(prefix) and is_qualified_name(text)


def is_image(text: str) -> bool:
    """An image reference: [registry/]repository[:tag][@digest].

    As google/go-containerregistry reads it (pkg/name): a repository has 2 to 255 characters, an
    empty tag is none, only sha256 is a digest, and a first part with a dot or colon is a registry.
    """
    name, at, digest = text.partition("@")
    if at and not _DIGEST.fullmatch(digest):
        return False
    colon = name.rfind(":")
    if colon > name.rfind("/"):
        name, tag = name[:colon], name[colon + 1 :]
        if tag and not _TAG.fullmatch(tag):
            return False
    registry, slash, rest = name.partition("/")
    if slash and ("." in registry or ":" in registry):
        if not _REGISTRY.fullmatch(registry):
            return False
        name = rest
    return _REPOSITORY.fullmatch(name) is not None


def url_error(text: str) -> str | None:
    """Why Go's net/url takes a text for no URL; None where it takes it."""
    if any(character < " " or character == "\x7f" for character in text):
        return "invalid control character in URL"
    before, colon, _ = re.split(r"([/?#])", text, maxsplit=1)[0].partition(":")
    scheme = _SCHEME.fullmatch(before) if colon else None
    if colon and scheme is None:
        return "missing protocol scheme" if not before else "first path segment contains a colon"
    rest = text[len(before) + 1 :] if scheme else text
    path, _, fragment = rest.partition("#")
    path = path.partition("?")[0]
    if path.startswith("//"):
        host, _, path = path[2:].partition("/")
        host = host.rpartition("@")[2]
        if re.search(r"[ <>\"{}|\\^`]", host) or ("%" in host and "[" not in host):
            return f"invalid character or escape in host name {host}"
        if not _HOST.fullmatch(host):
            return f"invalid host or port {host}"
    if re.search(r"%(?![0-9A-Fa-f]{2})", path + fragment):
        return "invalid URL escape"
    return None
