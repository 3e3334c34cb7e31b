"""Security: foreign hosts and origins are refused, and every response has the security headers."""

import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from netdissect.explorer.security import HEADERS, Guard, is_loopback

HOME = "http://127.0.0.1:8461"


def browser(hosts: tuple[str, ...] = ("127.0.0.1", "localhost", "::1"), *, any_address: bool = False) -> TestClient:
    async def page(_request: object) -> PlainTextResponse:
        return PlainTextResponse("here")

    app = Starlette(routes=[Route("/", page, methods=["GET", "POST"])])
    return TestClient(Guard(app, hosts, any_address=any_address), base_url=HOME)


@pytest.mark.parametrize("host", ["127.0.0.1:8461", "localhost", "LOCALHOST:99", "[::1]:8461"])
def test_loopback_host_names_are_allowed(host: str) -> None:
    assert browser().get("/", headers={"host": host}).text == "here"


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:8461", "127.0.0.1.evil.example", "localhost@evil.example", "localhost/x", "",
     "[::1", "192.0.2.7", "localhost evil.example"],
)  # fmt: skip
def test_foreign_host_names_are_refused(host: str) -> None:
    answer = browser().get("/", headers={"host": host})
    assert answer.status_code == 400
    assert "Expected one of 127.0.0.1, ::1, localhost" in answer.json()["message"]


def test_a_public_server_allows_ip_addresses_but_no_foreign_host_name() -> None:
    public = browser(("example.org",), any_address=True)
    assert public.get("/", headers={"host": "192.0.2.7:8461"}).text == "here"
    assert public.get("/", headers={"host": "evil.example"}).status_code == 400


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "null", "http://127.0.0.1:9999", "http://localhost:8461", "127.0.0.1:8461"]
)
def test_a_post_request_must_have_the_origin_of_the_explorer(origin: str) -> None:
    client = browser()
    assert client.post("/", headers={"origin": origin}).status_code == 403
    assert client.get("/", headers={"origin": origin}).status_code == 200
    assert client.post("/", headers={"origin": HOME}).status_code == 200
    assert client.post("/").status_code == 200  # a program, no page


def test_a_post_request_from_another_site_is_refused_by_its_fetch_metadata() -> None:
    client = browser()
    assert client.post("/", headers={"sec-fetch-site": "cross-site"}).status_code == 403
    assert client.post("/", headers={"sec-fetch-site": "same-origin"}).status_code == 200


@pytest.mark.parametrize("path", ["/", "/nothing"])
@pytest.mark.parametrize("host", ["localhost", "evil.example"])
def test_every_response_has_the_security_headers(path: str, host: str) -> None:
    headers = browser().get(path, headers={"host": host}).headers
    for name, value in HEADERS.items():
        assert headers[name] == value
    assert "script-src 'self';" in headers["Content-Security-Policy"]
    assert "unsafe-inline'; img" in headers["Content-Security-Policy"]  # of style attributes alone
    assert headers["Content-Security-Policy"].count("unsafe") == 1


@pytest.mark.parametrize(
    ("host", "expected"),
    [("127.0.0.1", True), ("127.8.8.8", True), ("::1", True), ("localhost", True), ("0.0.0.0", False),  # noqa: S104
     ("192.0.2.7", False), ("example.org", False), ("::", False)],
)  # fmt: skip
def test_loopback_names_and_addresses_are_recognized(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected
