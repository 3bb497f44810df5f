"""Keys, other sites, and host names."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from tests.service.processes import running_api

KEYS = ("first-secret-key", "second-secret-key")
BODY = {"task": "polynomial", "estimator": "reinmax"}


@pytest.fixture(scope="module")
def guarded_url(redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An API with keys, on all addresses of this machine."""
    settings = {"redis_url": redis_url, "api_keys": ",".join(KEYS), "host": "0.0.0.0"}
    with running_api(tmp_path_factory.mktemp("guarded"), **settings) as url:
        yield url


@pytest.mark.parametrize(
    "header", [None, "Bearer", "Bearer wrong-secret-key", "Basic Zmlyc3Q=", f"Basic {KEYS[0]}", f"Bearer {KEYS[0]}x"]
)
def test_without_a_known_key_nothing_is_told(guarded_url: str, header: str | None) -> None:
    headers = {"Authorization": header} if header else {}
    for method, path in (("GET", "/v1/jobs"), ("POST", "/v1/jobs"), ("GET", "/metrics"), ("GET", "/v1/nothing")):
        answer = httpx.request(method, f"{guarded_url}{path}", headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (401, "unauthorized")
        assert answer.headers["WWW-Authenticate"].startswith("Bearer")
        assert not any(key in answer.text for key in KEYS)


@pytest.mark.parametrize("key", KEYS)
def test_each_key_opens_everything(guarded_url: str, redis_database: str, key: str) -> None:
    with httpx.Client(base_url=guarded_url, headers={"Authorization": f"bearer {key}"}) as client:
        assert client.post("/v1/jobs", json=BODY).status_code == 202
        assert client.get("/v1/jobs").status_code == 200
        assert client.get("/metrics").status_code == 200
        assert client.get("/v1/jobs", headers={"Host": "training.example.org"}).status_code == 200


def test_callers_do_not_share_idempotency_keys(guarded_url: str, redis_database: str) -> None:
    ids = {
        httpx.post(
            f"{guarded_url}/v1/jobs",
            json=BODY,
            headers={"Authorization": f"Bearer {key}", "Idempotency-Key": '"same"'},
        ).json()["id"]
        for key in KEYS
    }
    assert len(ids) == 2


@pytest.mark.parametrize("path", ["/", "/livez", "/readyz", "/docs", "/openapi.json"])
def test_probes_and_pages_need_no_key(guarded_url: str, path: str) -> None:
    assert httpx.get(f"{guarded_url}{path}").status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://[::1"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Origin": "http://localhost:1"},
    ],
)
def test_changes_from_pages_of_other_sites_are_refused(http: httpx.Client, headers: dict[str, str]) -> None:
    for method, path in (("POST", "/v1/jobs"), ("POST", "/v1/jobs/job_x/cancel"), ("DELETE", "/v1/jobs/job_x")):
        answer = http.request(method, path, headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (403, "cross_site")


def test_changes_from_our_own_pages_are_accepted(http: httpx.Client, api_url: str) -> None:
    headers = {"Origin": api_url, "Sec-Fetch-Site": "same-origin"}
    assert http.post("/v1/jobs", json=BODY, headers=headers).status_code == 202


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "localhost.evil.example"])
def test_names_that_others_may_point_here_are_refused_without_keys(http: httpx.Client, host: str) -> None:
    answer = http.get("/v1/jobs", headers={"Host": host})
    assert (answer.status_code, answer.json()["code"]) == (421, "unknown_host")


@pytest.mark.parametrize("path", ["/v1/jobs", "/v1/nothing", "/v1/jobs/"])
def test_a_host_that_is_none_is_refused_with_and_without_keys(http: httpx.Client, guarded_url: str, path: str) -> None:
    for address in (str(http.base_url), guarded_url):
        headers = {"Host": "[::1", "Authorization": f"Bearer {KEYS[0]}"}
        answer = httpx.get(f"{address}{path}", headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (421, "unknown_host")


@pytest.mark.parametrize("host", ["localhost:8000", "127.0.0.1", "[::1]:8000", "reinmax.localhost"])
def test_names_of_this_machine_are_known(http: httpx.Client, host: str) -> None:
    assert http.get("/v1/jobs", headers={"Host": host}).status_code == 200


def test_no_other_site_may_read_answers(http: httpx.Client) -> None:
    answer = http.get("/v1/jobs", headers={"Origin": "https://evil.example"})
    assert not [name for name in answer.headers if name.startswith("access-control")]
