"""Every response is computed from the runs as they were opened, never from a mixture of old and new files.

Tables are read on request. Before a response is computed and again before it is sent, all run folders are checked; if
one was replaced, changed or removed, this and all later requests get status 410.
"""

from collections.abc import Sequence

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from netdissect.errors import ResultError
from netdissect.explorer.html_pages import problem_page
from netdissect.explorer.run_registry import OpenRun


class FreshnessCheck:
    """Refuses requests when a run has changed since it was opened.

    Parameters
    ----------
    app
        The application.
    runs
        The runs that it reads.
    """

    def __init__(self, app: ASGIApp, runs: Sequence[OpenRun]) -> None:
        self._app = app
        self._runs = runs

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, and its response back, if no run changes meanwhile."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = changed = False

        async def checked(message: Message) -> None:
            nonlocal started, changed
            if message["type"] == "http.response.start":
                changed = await self._refused(scope, receive, send)
            if not changed:
                started = True
                await send(message)

        if await self._refused(scope, receive, send):
            return
        try:
            await self._app(scope, receive, checked)
        except Exception:  # a removed file can cause any error below
            if started or not (changed or await self._refused(scope, receive, send)):
                raise

    async def _refused(self, scope: Scope, receive: Receive, send: Send) -> bool:
        """Send status 410 in place of the application's response if a run has changed."""
        reason = await run_in_threadpool(self._reason)
        if reason is None:
            return False
        page = await run_in_threadpool(problem_page, Request(scope), "A run has changed", reason)
        answer = (
            JSONResponse({"error": "ResultError", "message": reason}, 410) if page is None else HTMLResponse(page, 410)
        )
        await answer(scope, receive, send)
        return True

    def _reason(self) -> str | None:
        for run in self._runs:
            try:
                run.result.check_unchanged()
            except ResultError as error:
                return f"{error} Restart the explorer to load the current files."
        return None
