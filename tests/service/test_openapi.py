"""The API's description of itself: complete, and true."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html.parser import HTMLParser
from typing import Any

import httpx
import pytest

from service.protocol.problems import MEDIA_TYPE

CONTRACT = {
    "/v1/jobs": {"get", "post"},
    "/v1/jobs/{job_id}": {"get", "delete"},
    "/v1/jobs/{job_id}/cancel": {"post"},
    "/v1/jobs/{job_id}/pause": {"post"},
    "/v1/jobs/{job_id}/resume": {"post"},
    "/v1/jobs/{job_id}/retry": {"post"},
    "/v1/jobs/{job_id}/metrics": {"get"},
    "/v1/jobs/{job_id}/logs": {"get"},
    "/v1/jobs/{job_id}/artifacts": {"get"},
    "/v1/jobs/{job_id}/artifacts/{name}": {"get"},
    "/v1/jobs/{job_id}/plot.svg": {"get"},
    "/v1/jobs/{job_id}/plot.png": {"get"},
    "/v1/sweeps/{sweep_id}/table": {"get"},
    "/v1/sweeps/{sweep_id}/plot.svg": {"get"},
    "/v1/sweeps/{sweep_id}/plot.png": {"get"},
    "/v1/sweeps": {"get", "post"},
    "/v1/sweeps/{sweep_id}": {"get", "delete"},
    "/v1/sweeps/{sweep_id}/cancel": {"post"},
    "/v1/sweeps/{sweep_id}/retry": {"post"},
    "/v1/sweeps/{sweep_id}/extend": {"post"},
    "/v1/estimators": {"get"},
    "/v1/tasks": {"get"},
    "/v1/datasets": {"get"},
    "/v1/presets": {"get"},
    "/v1/workers": {"get"},
    "/livez": {"get"},
    "/readyz": {"get"},
    "/metrics": {"get"},
}


@pytest.fixture(scope="module")
def document(api_url: str) -> dict[str, Any]:
    found: dict[str, Any] = httpx.get(f"{api_url}/openapi.json", timeout=30).json()
    return found


def operations(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield f"{method} {path}", operation


def test_every_route_of_the_contract_exists(document: dict[str, Any]) -> None:
    assert document["openapi"].startswith("3.1")
    for path, methods in CONTRACT.items():
        assert methods <= set(document["paths"][path]), path


def test_every_field_is_described(document: dict[str, Any]) -> None:
    undescribed = [
        f"{name}.{field}"
        for name, schema in document["components"]["schemas"].items()
        for field, about in schema.get("properties", {}).items()
        if not about.get("description")
    ]
    assert undescribed == []


def test_a_submission_needs_no_more_than_task_and_estimator(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    assert schemas["Submission"]["required"] == ["task", "estimator"]
    assert "tau" in schemas["Submission"]["properties"]
    assert {"steps", "log_every"} <= set(schemas["RunSpec"]["required"])
    assert "tau" not in schemas["RunSpec"]["properties"]


@pytest.mark.parametrize(
    ("path", "parts"),
    [
        ("/v1/jobs", {"Submission", "ReinMax", "CategoricalVae", "Adam", "Hardware"}),
        ("/v1/sweeps", {"SweepRequest", "Range", "Choice"}),
        ("/v1/sweeps/{sweep_id}/extend", {"Extension"}),
    ],
)
def test_every_number_that_a_request_may_hold_is_bounded(document: dict[str, Any], path: str, parts: set[str]) -> None:
    (body,) = (operation["requestBody"] for name, operation in operations(document) if name == f"post {path}")
    schemas = document["components"]["schemas"]
    seen: set[str] = set()
    unbounded = list(_unbounded(body["content"]["application/json"]["schema"], "", schemas, seen))
    assert unbounded == []
    assert parts <= seen


def _unbounded(schema: dict[str, Any], place: str, schemas: dict[str, Any], seen: set[str]) -> Iterator[str]:
    """Places of numbers without a smallest and a largest value."""
    if reference := schema.get("$ref"):
        name = reference.rpartition("/")[2]
        if name not in seen:
            seen.add(name)
            yield from _unbounded(schemas[name], name, schemas, seen)
    is_free = schema.get("type") in ("number", "integer") and not {"const", "enum"} & set(schema)
    is_bounded = {"minimum", "exclusiveMinimum"} & set(schema) and {"maximum", "exclusiveMaximum"} & set(schema)
    if is_free and not is_bounded:
        yield place
    for name, field in schema.get("properties", {}).items():
        yield from _unbounded(field, f"{place}.{name}", schemas, seen)
    for key in ("items", "additionalProperties"):
        if isinstance(schema.get(key), dict):
            yield from _unbounded(schema[key], place, schemas, seen)
    for key in ("anyOf", "oneOf", "prefixItems"):
        for member in schema.get(key, ()):
            yield from _unbounded(member, place, schemas, seen)


def test_every_operation_is_described(document: dict[str, Any]) -> None:
    ids = [operation["operationId"] for _, operation in operations(document)]
    assert len(ids) == len(set(ids))
    known_tags = {tag["name"] for tag in document["tags"]}
    for name, operation in operations(document):
        assert re.fullmatch("[a-z]+([A-Z][a-z]+)+", operation["operationId"]), name
        assert operation["summary"], name
        assert operation["description"], name
        assert set(operation["tags"]) <= known_tags, name
        assert operation["tags"], name
        for parameter in operation.get("parameters", ()):
            assert parameter.get("description"), f"{name} {parameter['name']}"


def test_every_problem_is_declared_as_one(document: dict[str, Any]) -> None:
    for name, operation in operations(document):
        for status, answer in operation["responses"].items():
            assert answer["description"], name
            if int(status) >= 400:
                assert list(answer["content"]) == [MEDIA_TYPE], f"{name} {status}"
        if name != "get /livez":
            assert {"500", "503"} <= set(operation["responses"]), name


@pytest.mark.parametrize("action", ["cancel", "retry", "extend"])
def test_changes_of_a_sweep_declare_what_they_may_be_refused_for(document: dict[str, Any], action: str) -> None:
    answers = document["paths"][f"/v1/sweeps/{{sweep_id}}/{action}"]["post"]["responses"]
    assert {"200", "401", "403", "404", "409", "503"} <= set(answers)
    assert answers["200"]["content"]["application/json"]["schema"] == {"$ref": "#/components/schemas/Sweep"}


@pytest.mark.parametrize("action", ["cancel", "pause", "resume", "retry"])
def test_changes_of_a_job_declare_what_they_may_be_refused_for(document: dict[str, Any], action: str) -> None:
    answers = document["paths"][f"/v1/jobs/{{job_id}}/{action}"]["post"]["responses"]
    assert {"200", "401", "403", "404", "409", "503"} <= set(answers)
    assert answers["200"]["content"]["application/json"]["schema"] == {"$ref": "#/components/schemas/Job"}


def test_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    for reference in set(re.findall(r'"#/components/schemas/([^"]+)"', httpx.Response(200, json=document).text)):
        assert reference in document["components"]["schemas"]


@pytest.mark.parametrize(
    ("path", "names"), [("/v1/jobs", {"short", "full"}), ("/v1/sweeps", {"grid", "grids", "coupled", "preset"})]
)
def test_every_example_is_accepted(document: dict[str, Any], http: httpx.Client, path: str, names: set[str]) -> None:
    examples = document["paths"][path]["post"]["requestBody"]["content"]["application/json"]["examples"]
    assert names <= set(examples)
    for example in examples.values():
        answer = http.post(path, params={"dry_run": True}, json=example["value"])
        assert answer.status_code == 200, answer.text


class _Addresses(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.found += [value or "" for name, value in attributes if name in ("src", "href")]


@pytest.mark.parametrize("path", ["/", "/docs"])
def test_pages_are_complete_in_themselves(http: httpx.Client, path: str) -> None:
    answer = http.get(path)
    page = _Addresses()
    page.feed(answer.text)
    assert page.found
    assert all(address.startswith(("/", "#", "data:")) for address in page.found)
    assert "https://" not in answer.text
    policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert len(re.findall("'sha256-", policy)) == 2
