"""The API server: JSON over the `kubernetes` client, every request bounded in time.

This is the only module that imports that client; everything else takes a `ClusterApi`. The
functions at the end read the JSON of an object, any part of which may be missing.
"""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol
from urllib.parse import urlencode

import yaml

from relume.base.errors import InvalidInput, RelumeError
from relume.base.vocabulary import Json

if TYPE_CHECKING:
    from kubernetes.client import ApiClient


_TIMEOUT_S = 15.0
_WRITE_TIMEOUT_S = 45.0  # admission webhooks may take 30 s
_PAGE = 500
_JSON = "application/json"
# What the client raises for a kubeconfig that holds something else than it expects.
_UNCHECKED = (ValueError, LookupError, TypeError, AttributeError, RecursionError)


class Unreachable(RelumeError):
    """The API server does not answer, or it does not accept the credentials."""

    reason = "unreachable"
    retryable = True


class KubeconfigInvalid(InvalidInput):
    """The kubeconfig is not YAML, or does not hold what one holds."""

    reason = "kubeconfig-invalid"


class Forbidden(RelumeError):
    """The user may not read this."""

    reason = "not-readable"


class ClientMissing(RelumeError):
    """The `kubernetes` package is not installed."""

    reason = "client-missing"


@dataclass(frozen=True, slots=True)
class ApiAnswer:
    """The code of an answer, and its JSON: the object, or a `Status` that says what is wrong."""

    code: int
    body: Json = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        return self.code < 300

    @property
    def message(self) -> str:
        """What the server says is wrong."""
        return str(self.body.get("message") or f"the API server answers {self.code}")


class ClusterApi(Protocol):
    """What is asked of a cluster. All raise Unreachable; `get` and `list` also raise Forbidden."""

    def get(self, path: str) -> Json | None:
        """The object at a path of the API; None where there is none."""

    def list(self, path: str, **query: str) -> Sequence[Json] | None:
        """Every item of a collection; None where the API is not served."""

    def allowed(self, verb: str, group: str, resource: str, namespace: str) -> bool:
        """Whether the user may do this in a namespace ("": in the whole cluster)."""

    def change(
        self, method: str, path: str, body: Json, content_type: str = _JSON, **query: str
    ) -> ApiAnswer:
        """Send a POST, PATCH or DELETE. A refusal is an answer, too."""


class KubernetesApi:
    """The API server of a kubeconfig context, through the `kubernetes` client."""

    def __init__(self, client: "ApiClient", namespace: str = "default") -> None:
        self._client = client
        self.namespace = namespace

    @classmethod
    def of_context(cls, context: str | None, kubeconfig: Path | None = None) -> "KubernetesApi":
        """The context's API server; in a pod without a kubeconfig the pod's own.

        Raises Unreachable for a context that no kubeconfig has, and ClientMissing.
        """
        try:
            from kubernetes import config
        except ImportError as error:
            raise ClientMissing(
                "talking to a cluster needs the Kubernetes client: pip install 'relume[cluster]'"
            ) from error

        file = None if kubeconfig is None else str(kubeconfig)
        try:
            if context is None and kubeconfig is None and _in_cluster():
                return cls._of_pod()
            client = config.new_client_from_config(  # type: ignore[no-untyped-call]
                config_file=file, context=context
            )
            contexts, current = config.list_kube_config_contexts(file)  # type: ignore[no-untyped-call]
        except (config.ConfigException, OSError) as error:
            raise Unreachable(f"{context or 'current context'}: {error}") from error
        except (yaml.YAMLError, *_UNCHECKED) as error:
            where = file or os.environ.get("KUBECONFIG") or "~/.kube/config"
            words = " ".join(f"{type(error).__name__}: {error}".split())
            raise KubeconfigInvalid(f"{where}: not a kubeconfig: {words}") from error
        client.configuration.retries = 1
        chosen = next((one for one in contexts if one["name"] == context), current)
        return cls(client, chosen.get("context", {}).get("namespace") or "default")

    @classmethod
    def _of_pod(cls) -> "KubernetesApi":
        from kubernetes import client, config

        config.load_incluster_config()  # type: ignore[no-untyped-call]
        file = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
        return cls(client.ApiClient(), file.read_text().strip() or "default")

    def get(self, path: str) -> Json | None:
        return self._read(path)

    def list(self, path: str, **query: str) -> Sequence[Json] | None:
        found: list[Json] = []
        again = ""
        while True:
            page_of = query | {"limit": str(_PAGE)} | ({"continue": again} if again else {})
            page = self._read(f"{path}?{urlencode(page_of)}")
            if page is None:
                return None
            items, metadata = page.get("items"), page.get("metadata")
            found += items if isinstance(items, list) else []
            again = str(metadata.get("continue") or "") if isinstance(metadata, dict) else ""
            if not again:
                return found

    def allowed(self, verb: str, group: str, resource: str, namespace: str) -> bool:
        wanted = {"verb": verb, "group": group, "resource": resource, "namespace": namespace}
        review = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": wanted},
        }
        path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
        answer = self.change("POST", path, review)
        if answer.code not in (403, 404) and not answer.ok:
            raise Unreachable(f"{path}: {answer.message}")
        status = answer.body.get("status")
        return answer.ok and isinstance(status, dict) and bool(status.get("allowed"))

    def change(
        self, method: str, path: str, body: Json, content_type: str = _JSON, **query: str
    ) -> ApiAnswer:
        address = f"{path}?{urlencode(query)}" if query else path
        answer = self._ask(method, address, body, content_type, _WRITE_TIMEOUT_S)
        # A webhook that panics refuses with 500.
        refused = answer.code == 500 and "denied the request" in answer.message
        if answer.code == 401 or (answer.code >= 500 and not refused):
            raise Unreachable(f"{path}: {answer.message}")
        return answer

    def _read(self, path: str) -> Json | None:
        answer = self._ask("GET", path, None, _JSON, _TIMEOUT_S)
        if answer.code == 404:
            return None
        if answer.code == 403:
            raise Forbidden(f"{path}: may not be read")
        if not answer.ok:
            raise Unreachable(f"{path}: the API server answers {answer.code}")
        return answer.body

    def _ask(
        self, method: str, path: str, body: Json | None, content_type: str, timeout_s: float
    ) -> ApiAnswer:
        from kubernetes.client.exceptions import ApiException, OpenApiException
        from urllib3.exceptions import HTTPError

        try:
            request = self._client.param_serialize(
                method,
                path,
                header_params={"Accept": _JSON, "Content-Type": content_type},
                body=body,
                auth_settings=["BearerToken"],
            )
            response = self._client.call_api(*request, _request_timeout=timeout_s)
            content = response.read()  # type: ignore[no-untyped-call]
        except (ApiException, OpenApiException, HTTPError, OSError) as error:
            raise Unreachable(f"{path}: {error}") from error
        if method != "GET" and not content:
            # A Broker behind the API server's proxy answers an event with 202 and no body.
            return ApiAnswer(response.status)
        try:
            answer = json.loads(content)
        except ValueError as error:
            if response.status < 400:
                raise Unreachable(f"{path}: the answer is no JSON") from error
            answer = {}
        return ApiAnswer(response.status, answer if isinstance(answer, dict) else {})


def _in_cluster() -> bool:
    """Whether this runs in a pod that was given no kubeconfig."""
    file = Path(os.path.expanduser("~/.kube/config"))  # noqa: PTH111 (without a home it stays as it is)
    known = os.environ.get("KUBECONFIG") or file.exists()
    return not known and "KUBERNETES_SERVICE_HOST" in os.environ


def part(value: object, *path: str) -> object:
    """What is at a path of tables; None where there is nothing."""
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    return value


def text(value: object, *path: str) -> str:
    """The value at a path as text, "" where there is none."""
    found = part(value, *path)
    return "" if found is None or isinstance(found, dict | list) else str(found)


def table(value: object, *path: str) -> Json:
    """The table at a path, empty where there is none."""
    found = part(value, *path)
    return found if isinstance(found, dict) else {}


def objects(value: object, *path: str) -> list[Json]:
    """The tables of the list at a path."""
    found = part(value, *path)
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []


def condition(value: object, kind: str) -> Json:
    """The condition of that type in an object's status, empty where there is none."""
    found = objects(value, "status", "conditions")
    return next((one for one in found if one.get("type") == kind), {})


def is_ready(value: object) -> bool:
    """Whether the object is Ready, according to a status that is of its newest generation."""
    seen, wanted = (
        part(value, "status", "observedGeneration"),
        part(value, "metadata", "generation"),
    )
    stale = isinstance(seen, int) and isinstance(wanted, int) and seen < wanted
    return not stale and text(condition(value, "Ready"), "status") == "True"
