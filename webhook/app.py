"""The HTTP application: POST /mutate, and one line for everything else."""

import asyncio
import time
from http import HTTPStatus
from typing import cast

from fastapi import FastAPI, Request, Response
from fastapi.responses import PlainTextResponse
from starlette.exceptions import HTTPException

from webhook import log
from webhook.decide import decide, needs_namespace
from webhook.decision import Decision, Result, unavailable
from webhook.metrics import Metrics
from webhook.namespace import Namespace
from webhook.namespaces import Namespaces
from webhook.request import AdmissionRequest, BadRequest
from webhook.review import MAX_BYTES, allowed, parse, rejected
from webhook.sidecar import Settings
from webhook.subject import Subject, subject
from webhook.unavailable import Unavailable

PATH = "/mutate"
# The API server waits 5 s for the whole answer (the chart's timeoutSeconds): nobody reads one that comes later.
_BODY_TIMEOUT = 5.0
_LATE = "the body did not come in time"


def create(settings: Settings, namespaces: Namespaces, metrics: Metrics) -> FastAPI:
    """The application that injects the sidecar of `settings`, and counts what it does in `metrics`."""
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False)

    async def mutate(request: Request) -> Response:
        began = time.perf_counter()
        try:
            asked = parse(await _body(request))
            decision = await _decision(asked, settings, namespaces)
        except BadRequest as error:
            metrics.refused(error.status)
            log.event("review", result="bad request", reason=str(error))
            return PlainTextResponse(f"{error}\n", error.status)
        about = subject(asked)
        _log(asked, about, decision)
        answer = _answer(asked["uid"], decision)
        metrics.reviewed(about.kind, decision, time.perf_counter() - began)
        return Response(answer, media_type="application/json")

    # Not @app.post: there is nothing in a review for FastAPI to check, and its look for it costs as much as a decision.
    app.add_route(PATH, mutate, methods=["POST"])

    @app.exception_handler(HTTPException)
    async def elsewhere(_: Request, error: HTTPException) -> Response:
        return PlainTextResponse(f"{error.detail}: only POST {PATH} is served\n", error.status_code, error.headers)

    return app


async def _decision(request: AdmissionRequest, settings: Settings, namespaces: Namespaces) -> Decision:
    """Inline in the event loop: a decision takes less than a hop to a thread. Raises BadRequest."""
    name = request.get("namespace") or "default"
    if not needs_namespace(request):
        return decide(request, settings, Namespace(name))
    try:
        return decide(request, settings, await namespaces.get(name))
    except Unavailable as error:
        return unavailable(name, error)


def _log(request: AdmissionRequest, about: Subject, decision: Decision) -> None:
    log.event(
        "review",
        namespace=request.get("namespace") or "",
        name=about.name,
        owner=about.owner,
        operation=request["operation"],
        result=decision.result,
        reason=decision.reason,
        line=decision.line,
    )


def _answer(uid: str, decision: Decision) -> bytes:
    if decision.result is Result.REJECTED:
        return rejected(uid, decision.line, decision.audit, decision.status)
    return allowed(uid, decision.patch, decision.warnings, decision.audit)


async def _body(request: Request) -> bytes:
    """The body, read no further than MAX_BYTES and for no longer than _BODY_TIMEOUT. Raises BadRequest."""
    body, more = bytearray(), True
    task = cast("asyncio.Task[None]", asyncio.current_task())
    # Not asyncio.timeout: it is the same in more steps, and with cold caches they take as long as half a decision.
    timer = asyncio.get_running_loop().call_later(_BODY_TIMEOUT, task.cancel, _LATE)
    try:
        while more:
            message = await request.receive()
            if message["type"] == "http.disconnect":
                raise BadRequest("the connection ended before the body did")
            body += message.get("body", b"")
            if len(body) > MAX_BYTES:
                raise BadRequest(f"the body is larger than {MAX_BYTES} bytes", HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
            more = message.get("more_body", False)
    except asyncio.CancelledError as error:
        if error.args != (_LATE,) or task.uncancel():  # the server's end
            raise
        raise BadRequest(_LATE, HTTPStatus.REQUEST_TIMEOUT) from None
    finally:
        timer.cancel()
    return bytes(body)
