"""Checks of every request, and security headers of every response.

A page of another site can make a browser send requests to this server. Three things prevent that: the host header is
checked (against DNS rebinding), the origin of requests other than GET, HEAD and OPTIONS is checked, and a content
security policy allows only the explorer's own scripts and files.
"""

from collections.abc import Iterable
from ipaddress import ip_address
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})

POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        # The report's templates set the color of a category as a variable on the element.
        "style-src-attr 'unsafe-inline'",
        "img-src 'self' blob: data:",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class Guard:
    """Refuses requests with a foreign host or origin, and adds security headers.

    Parameters
    ----------
    app
        The application.
    hosts
        Host names that are allowed.
    any_address
        Whether any IP address is allowed as a host, too.
    """

    def __init__(self, app: ASGIApp, hosts: Iterable[str], *, any_address: bool = False) -> None:
        self._app = app
        self._hosts = frozenset(name.lower() for name in hosts)
        self._any_address = any_address

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        refused = self._refusal(scope["method"], Headers(scope=scope))
        await (refused or self._app)(scope, receive, guarded)

    def _refusal(self, method: str, headers: Headers) -> JSONResponse | None:
        hosts = headers.getlist("host")
        if len(hosts) != 1 or not self._allowed(_host_name(f"//{hosts[0]}")):
            return _refused(
                400,
                f"the request names the host {', '.join(hosts)!r}. Expected one of {', '.join(sorted(self._hosts))}; "
                "open the address that 'netdissect serve' printed, or start it with --allow-host NAME.",
            )
        if method in SAFE_METHODS:
            return None
        for origin in headers.getlist("origin"):
            if origin.partition("://")[2].lower() != hosts[0].lower():
                return _refused(
                    403,
                    f"the request comes from a page of {origin!r}. Expected a page of this explorer; open it directly.",
                )
        if headers.get("sec-fetch-site", "same-origin") not in {"same-origin", "none"}:
            return _refused(403, "the request comes from a page of another site. Open the explorer directly.")
        return None

    def _allowed(self, name: str | None) -> bool:
        if name is None:
            return False
        return name in self._hosts or (self._any_address and _is_address(name))


def is_loopback(host: str) -> bool:
    """Return whether a name or address is of the loopback interface."""
    return host.lower() in LOOPBACK_NAMES or (_is_address(host) and ip_address(host).is_loopback)


def _is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


def _host_name(address: str) -> str | None:
    try:
        parts = urlsplit(address)
    except ValueError:
        return None
    return None if parts.username or parts.path or parts.query or parts.fragment else parts.hostname


def _refused(status: int, message: str) -> JSONResponse:
    return JSONResponse({"error": "RequestError", "message": message}, status_code=status)
