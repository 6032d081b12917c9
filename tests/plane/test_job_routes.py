"""Which service and route a request for a job is for, whatever its address tries."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from relume.config import Function, InferenceService
from relume.eventing.jobs.answers import Unroutable
from relume.eventing.jobs.door import Target
from relume.eventing.jobs.job import ServiceName
from relume.plane.job_routes import JobRoutes

SERVICES = (InferenceService("ns", "it", model_format="vLLM", storage_uri="hf://org/it"),)


def scope(path: str, host: str = "127.0.0.1", query: str = "") -> dict[str, Any]:
    return {
        "type": "http",
        "method": "POST",
        "path": path,
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "headers": [(b"host", host.encode())],
    }


def target(path: str, **more: str) -> Target | None:
    return JobRoutes(SERVICES)(scope(path, **more), None)


def test_the_route_is_what_follows_the_service_with_its_query() -> None:
    it = ServiceName("ns", "it")
    assert target("/serving/ns/it/v1/embeddings", query="a=1") == Target(it, "/v1/embeddings?a=1")
    assert target("/v2/x%2Fy", host="it.ns.example") == Target(it, "/v2/x%2Fy")
    assert target("/serving/ns/it/v1/..x/.y") == Target(it, "/v1/..x/.y")
    assert target("/other") is None


@pytest.mark.parametrize(
    "rest", ["../../../v1/queues", "v1/%2e%2e/%2E%2E/x", ".%2e/other", "v1/./x", "v1/.."]
)
def test_a_route_cannot_leave_its_service(rest: str) -> None:
    for address in ({"path": f"/serving/ns/it/{rest}"}, {"path": f"/{rest}", "host": "it.ns"}):
        with pytest.raises(Unroutable, match=r"without \. and \.\.") as refused:
            target(**address)
        assert refused.value.status == 400


def test_a_route_that_is_no_path_does_not_become_a_part_of_the_predictors_host() -> None:
    with pytest.raises(Unroutable, match="with / in front") as refused:
        target("*", host="it.ns")
    assert (refused.value.status, refused.value.reason) == (400, "bad-path")


@pytest.mark.parametrize(
    "address", [{"path": "/", "host": "sort.ns"}, {"path": "/serving/ns/sort/", "host": "x"}]
)
def test_a_job_for_a_function_is_refused_and_not_passed_on(address: dict[str, str]) -> None:
    function = cast(Function, SimpleNamespace(namespace="ns", name="sort"))
    with pytest.raises(Unroutable, match="ns/sort is a function, and jobs are for mod") as refused:
        JobRoutes(SERVICES, [function])(scope(**address), None)
    assert (refused.value.status, refused.value.reason) == (501, "no-jobs-for-functions")
