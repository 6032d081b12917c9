"""Which names Kubernetes takes (apimachinery `util/validation`)."""

import re

#: The characters of an RFC 1035 label, of any length.
DNS_1035 = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_SUBDOMAIN = re.compile(rf"{_LABEL.pattern}(\.{_LABEL.pattern})*")
LONGEST_LABEL, LONGEST_SUBDOMAIN = 63, 253  # characters


def is_dns_label(text: str) -> bool:
    """RFC 1123: at most 63 lower case letters, digits and '-'."""
    return len(text) <= LONGEST_LABEL and _LABEL.fullmatch(text) is not None


def is_dns1035_label(text: str) -> bool:
    """RFC 1035: the same, beginning with a letter."""
    return len(text) <= LONGEST_LABEL and DNS_1035.fullmatch(text) is not None


def is_subdomain(text: str) -> bool:
    """RFC 1123: labels joined by dots, at most 253 characters."""
    return len(text) <= LONGEST_SUBDOMAIN and _SUBDOMAIN.fullmatch(text) is not None
