"""Servers on one device that want more of its memory than there is.

A claim with capacity is accounted by the scheduler, one that several services name by nobody; what
a server takes is what its arguments say. vLLM takes 0.92 of the device where they say nothing, and
ends at its start where less is free (vllm/v1/worker/utils.py, request_memory).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from relume.cluster.claims.claim import claim_of
from relume.cluster.claims.documents import Document
from relume.cluster.claims.findings import Found, found
from relume.cluster.claims.pods import CLAIM_KINDS, PodSpec, Server, pods, server_of

_KINDS = ("InferenceService", "LLMInferenceService")
_FIX = (
    "give each server its part: relume.dev/share with memory=…, or --gpu-memory-utilization in "
    "args; relume claims size says how much it needs"
)


@dataclass(frozen=True, slots=True)
class _User:
    """A service that uses a claim, and what its server says of memory."""

    document: Document
    path: tuple[str | int, ...]
    server: Server


def memory_lints(documents: Sequence[Document]) -> Iterator[Found]:
    """A finding for each claim whose servers cannot all start, at the service that is too much."""
    claims = {one.title: one for one in documents if one.kind in CLAIM_KINDS}
    users: dict[str, list[_User]] = {}
    for document in documents:
        if document.kind not in _KINDS:
            continue
        for pod in pods(document):
            user = _User(document, pod.spec.path, server_of(pod.spec))
            for title in _claims_of(pod, document):
                users.setdefault(title, []).append(user)
    for title, those in users.items():
        if title.startswith("ResourceClaim ") and len(those) > 1:
            yield from _of_one_claim(title, those)
        elif title in claims and _has_capacity(claims[title]):
            yield from _of_shares(those)


def _claims_of(pod: PodSpec, document: Document) -> Iterator[str]:
    """The titles of the claims that a Pod names, by itself or through a policy."""
    for kind, named in pod.added.items():
        yield f"{kind} {document.namespace}/{named.text()}"
    for entry in pod.spec.get("resourceClaims").items() if pod.honoured else ():
        for kind in CLAIM_KINDS:
            name = entry.get(f"{kind[0].lower()}{kind[1:]}Name").text()
            if name:
                yield f"{kind} {document.namespace}/{name}"


def _has_capacity(document: Document) -> bool:
    return any(ask.capacity for request in claim_of(document).requests for ask in request.asks)


def _of_one_claim(title: str, users: Sequence[_User]) -> Iterator[Found]:
    total = 0.0
    for number, user in enumerate(users, 1):
        said = user.server
        if said.share is None and said.mebibytes is None:
            message = (
                f"{number} of {len(users)} services that share {title}, and nothing says what its "
                "server takes: vLLM takes 0.92 of the device, so that not all of them start"
            )
            yield _found(user, message)
            continue
        total += said.share or 0.0
        if total > 1:
            message = (
                f"the services that share {title} want {total:g} of one device up to this one: the "
                "last to start ends with too little free memory"
            )
            yield _found(user, message)


def _of_shares(users: Sequence[_User]) -> Iterator[Found]:
    for user in users:
        if user.server == Server():
            message = (
                "its claim is for a part of a device, which is accounted and not enforced, and "
                "nothing says what its server takes: vLLM takes 0.92 of the whole device"
            )
            yield _found(user, message)


def _found(user: _User, message: str) -> Found:
    return found(user.document, user.path, "memory-not-divided", "error", message, _FIX)
