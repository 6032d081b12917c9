"""What the doctor asks of a cluster: plain JSON, read only, but for questions about permissions."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol
from urllib.parse import urlencode

from relume.config.errors import RelumeError

if TYPE_CHECKING:
    from kubernetes.client import ApiClient

Json = Mapping[str, object]
_TIMEOUT_S = 15.0
_PAGE = 500


class Unreachable(RelumeError):
    """The API server does not answer, or its credentials are not taken."""

    reason = "unreachable"
    retryable = True


class Forbidden(RelumeError):
    """The user may not read this."""

    reason = "not-readable"


class ClusterApi(Protocol):
    """Three questions; both raise Unreachable, and `get` and `list` Forbidden."""

    def get(self, path: str) -> Json | None:
        """The object at a path of the API; None where there is none."""

    def list(self, path: str) -> Sequence[Json] | None:
        """Every item of a collection; None where the API is not served."""

    def allowed(self, verb: str, group: str, resource: str, namespace: str) -> bool:
        """Whether the user may do this ("" is the whole cluster)."""


class KubernetesApi:
    """The API server of a kubeconfig context, through the `kubernetes` client."""

    def __init__(self, client: "ApiClient") -> None:
        self._client = client

    @classmethod
    def of_context(cls, context: str | None, kubeconfig: Path | None = None) -> "KubernetesApi":
        """Raises Unreachable for a context that no kubeconfig has."""
        from kubernetes import config

        try:
            file = None if kubeconfig is None else str(kubeconfig)
            client = config.new_client_from_config(  # type: ignore[no-untyped-call]
                config_file=file, context=context
            )
        except (config.ConfigException, OSError) as error:
            raise Unreachable(f"{context or 'current context'}: {error}") from error
        client.configuration.retries = 1
        return cls(client)

    def get(self, path: str) -> Json | None:
        return self._ask("GET", path)

    def list(self, path: str) -> Sequence[Json] | None:
        found: list[Json] = []
        again = ""
        while True:
            query = urlencode({"limit": _PAGE} | ({"continue": again} if again else {}))
            page = self._ask("GET", f"{path}?{query}")
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
        answer = self._ask("POST", path, review)
        status = answer.get("status") if answer is not None else None
        return isinstance(status, dict) and bool(status.get("allowed"))

    def _ask(self, method: str, path: str, body: object = None) -> Json | None:
        from kubernetes.client.exceptions import ApiException, OpenApiException
        from urllib3.exceptions import HTTPError

        try:
            request = self._client.param_serialize(
                method,
                path,
                header_params={"Accept": "application/json", "Content-Type": "application/json"},
                body=body,
                auth_settings=["BearerToken"],
            )
            response = self._client.call_api(*request, _request_timeout=_TIMEOUT_S)
            content = response.read()  # type: ignore[no-untyped-call]
        except (ApiException, OpenApiException, HTTPError, OSError) as error:
            raise Unreachable(f"{path}: {error}") from error
        if response.status == 404:
            return None
        if response.status == 403:
            raise Forbidden(f"{path}: may not be read")
        if response.status >= 400:
            raise Unreachable(f"{path}: the API server answers {response.status}")
        try:
            answer = json.loads(content)
        except ValueError as error:
            raise Unreachable(f"{path}: the answer is no JSON") from error
        return answer if isinstance(answer, dict) else {}
