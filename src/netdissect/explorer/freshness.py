"""Answers speak of the runs as they were opened: none is a mixture of a run and of what has taken its place.

Tables are read when they are asked for. A run folder that was replaced, changed or removed meanwhile is noticed before
an answer is made and again before it is sent; every further question is answered by 410.
"""

from collections.abc import Sequence

from starlette.concurrency import run_in_threadpool
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from netdissect.errors import ResultError
from netdissect.explorer.run_registry import OpenRun


class FreshnessCheck:
    """Refuses to answer from runs that are no longer what was opened.

    Parameters
    ----------
    app
        What answers.
    runs
        What it answers from.
    """

    def __init__(self, app: ASGIApp, runs: Sequence[OpenRun]) -> None:
        self._app = app
        self._runs = runs

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, and its answer back, if every run is what it was all the while."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun = changed = False

        async def checked(message: Message) -> None:
            nonlocal begun, changed
            if message["type"] == "http.response.start":
                changed = await self._refused(scope, receive, send)
            if not changed:
                begun = True
                await send(message)

        if await self._refused(scope, receive, send):
            return
        try:
            await self._app(scope, receive, checked)
        except Exception:  # what a file that is gone brings about anywhere below
            if begun or not (changed or await self._refused(scope, receive, send)):
                raise

    async def _refused(self, scope: Scope, receive: Receive, send: Send) -> bool:
        """Answer in place of the application if a run has changed."""
        reason = await run_in_threadpool(self._reason)
        if reason is None:
            return False
        await JSONResponse({"error": "ResultError", "message": reason}, 410)(scope, receive, send)
        return True

    def _reason(self) -> str | None:
        for run in self._runs:
            try:
                run.result.check_unchanged()
            except ResultError as error:
                return f"{error} Start the explorer again to see what is there now."
        return None
