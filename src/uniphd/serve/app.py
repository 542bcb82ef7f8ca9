"""The ASGI app: the page, the JSON service and its description."""

from __future__ import annotations

import asyncio
import base64
import json
import re
from collections.abc import Awaitable, Callable, Iterable
from hashlib import sha256
from http import HTTPStatus
from importlib.resources import files
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

import uniphd
from uniphd.errors import UniPHDError, printable
from uniphd.serve.guard import Guard
from uniphd.serve.limits import RequestError
from uniphd.serve.requests import read_predict_request, too_large
from uniphd.serve.service import Service

_MAX_DIGITS = 18  # of Content-Length


def create_app(
    service: Service, model: str, note: str = "", hosts: Iterable[str] = ()
) -> Starlette:
    """The page and the service.

    Args:
        service: computes.
        model: the network's name, for the page.
        note: a sentence about the network, for the page.
        hosts: names by which clients may call this machine, beside its addresses and `localhost`.
    """
    page = files("uniphd.serve").joinpath("page.html").read_text(encoding="utf-8")
    about = {"name": model, "note": note, **_describe(service)}
    description = read_description()

    async def show_page(request: Request) -> Response:
        return HTMLResponse(page)

    async def show_description(request: Request) -> Response:
        return JSONResponse(description)

    async def show_model(request: Request) -> Response:
        return JSONResponse(about)

    async def show_health(request: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def add_image(request: Request) -> Response:
        _require_type(request, "image/", "application/octet-stream")
        with service.admit():
            content = await read_body(request, service.limits.upload, "An image")
            return JSONResponse(await run_in_threadpool(service.add_image, content))

    async def predict(request: Request) -> Response:
        _require_type(request, "application/json")
        with service.admit():
            body = await read_body(request, service.limits.json, "A request")
            asked = await run_in_threadpool(read_predict_request, body, service.limits)
            return JSONResponse(await run_in_threadpool(service.predict, asked))

    async def read_body(request: Request, limit: int, what: str) -> bytes:
        try:
            reading = _read_at_most(request, limit, what)
            return await asyncio.wait_for(reading, service.limits.seconds)
        except asyncio.TimeoutError:  # not Python's own before 3.11
            raise RequestError(
                HTTPStatus.REQUEST_TIMEOUT,
                f"{what} did not arrive within {service.limits.seconds:g} s; send it faster.",
            ) from None

    return Starlette(
        routes=[
            Route("/", show_page),
            Route("/health", show_health),
            Route("/model", show_model),
            Route("/openapi.json", show_description),
            Route("/images", add_image, methods=["POST"]),
            Route("/predict", predict, methods=["POST"]),
        ],
        middleware=[Middleware(Guard, hosts=hosts, content_policy=_content_policy(page))],
        exception_handlers=_HANDLERS,
    )


def read_description() -> dict[str, Any]:
    """The service in OpenAPI's form."""
    text = files("uniphd.serve").joinpath("openapi.json").read_text(encoding="utf-8")
    description: dict[str, Any] = json.loads(text)
    description["info"]["version"] = uniphd.__version__
    return description


def _describe(service: Service) -> dict[str, Any]:
    """What the page has to know of the network and the limits."""
    schema = service.predictor.schema
    return {
        "device": str(service.predictor.device),
        "keypoint_names": list(schema.names),
        "skeleton": [list(edge) for edge in schema.edges],
        "limits": {"upload": service.limits.upload, "pixels": service.limits.pixels},
    }


def _content_policy(page: str) -> str:
    """What the page may load: its own script and styles, images that it was given, this service."""
    sources = {
        name: " ".join(f"'sha256-{_digest(text)}'" for text in _inline(page, name))
        for name in ("script", "style")
    }
    return (
        f"default-src 'none'; script-src {sources['script']}; style-src {sources['style']}; "
        "img-src blob: data:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    )


def _inline(page: str, element: str) -> list[str]:
    return re.findall(rf"<{element}>(.*?)</{element}>", page, re.DOTALL)


def _digest(text: str) -> str:
    return base64.b64encode(sha256(text.encode()).digest()).decode()


def _require_type(request: Request, *accepted: str) -> None:
    """Refuse types of content that another site's form can send without asking the browser."""
    given = request.headers.get("content-type", "").lower()
    if not given.startswith(accepted):
        wanted = " or ".join(accepted).replace("image/", "image/jpeg")
        raise RequestError(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            f"The content type is '{given:.80}'; send {wanted}.",
        )


async def _read_at_most(request: Request, limit: int, what: str) -> bytes:
    declared = request.headers.get("content-length", "0")
    if len(declared) > _MAX_DIGITS or (declared.isdecimal() and int(declared) > limit):
        raise too_large(what, limit)
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit:
            raise too_large(what, limit)
    return bytes(body)


def _error(status: int, sentence: str) -> JSONResponse:
    return JSONResponse({"error": printable(sentence)}, status)


async def _user_error(request: Request, error: Exception) -> Response:
    status = getattr(error, "status", HTTPStatus.UNPROCESSABLE_ENTITY)
    return _error(status, str(error))


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    answer = _error(error.status_code, f"{error.detail}; see /openapi.json.")
    answer.headers.update(error.headers or {})
    return answer


async def _client_left(request: Request, error: Exception) -> Response:
    return _error(HTTPStatus.BAD_REQUEST, "The request ended early; send it again.")


async def _own_error(request: Request, error: Exception) -> Response:
    return _error(
        HTTPStatus.INTERNAL_SERVER_ERROR,
        "The service failed; the terminal of uniphd-serve has the reason.",
    )


_HANDLERS: dict[Any, Callable[[Request, Exception], Awaitable[Response]]] = {
    UniPHDError: _user_error,
    HTTPException: _http_error,
    ClientDisconnect: _client_left,
    Exception: _own_error,
}
