"""Who may ask: foreign names and pages are refused, and every answer carries the policy."""

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
def test_this_machine_s_names_are_answered(host: str) -> None:
    assert browser().get("/", headers={"host": host}).text == "here"


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:8461", "127.0.0.1.evil.example", "localhost@evil.example", "localhost/x", "",
     "[::1", "192.0.2.7", "localhost evil.example"],
)  # fmt: skip
def test_foreign_names_are_refused(host: str) -> None:
    answer = browser().get("/", headers={"host": host})
    assert answer.status_code == 400
    assert "Expected one of 127.0.0.1, ::1, localhost" in answer.json()["message"]


def test_a_public_server_answers_to_addresses_but_to_no_foreign_name() -> None:
    public = browser(("example.org",), any_address=True)
    assert public.get("/", headers={"host": "192.0.2.7:8461"}).text == "here"
    assert public.get("/", headers={"host": "evil.example"}).status_code == 400


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "null", "http://127.0.0.1:9999", "http://localhost:8461", "127.0.0.1:8461"]
)
def test_what_changes_something_must_come_from_the_explorer_s_own_page(origin: str) -> None:
    asked = browser()
    assert asked.post("/", headers={"origin": origin}).status_code == 403
    assert asked.get("/", headers={"origin": origin}).status_code == 200
    assert asked.post("/", headers={"origin": HOME}).status_code == 200
    assert asked.post("/").status_code == 200  # a program, no page


def test_what_the_browser_says_of_the_site_counts_too() -> None:
    asked = browser()
    assert asked.post("/", headers={"sec-fetch-site": "cross-site"}).status_code == 403
    assert asked.post("/", headers={"sec-fetch-site": "same-origin"}).status_code == 200


@pytest.mark.parametrize("path", ["/", "/nothing"])
@pytest.mark.parametrize("host", ["localhost", "evil.example"])
def test_every_answer_carries_the_policy(path: str, host: str) -> None:
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
def test_loopback_is_known(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected
