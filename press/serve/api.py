"""OpenAI's chat completions and models, and what an operator asks: the application that an ASGI server runs."""

import asyncio
import hmac
import logging
import time
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, Request, Response
from fastapi.exceptions import HTTPException
from fastapi.openapi.utils import get_openapi
from fastapi.responses import JSONResponse
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from fastapi_offline import FastAPIOffline
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic.json_schema import models_json_schema
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.requests import ClientDisconnect

from press.serve import answering, page, replies, wire
from press.serve.adapters import Named
from press.serve.answering import Answer, Package
from press.serve.conversation import Part
from press.serve.errors import BusyError, FailedError, GoneError, LateError, RefusedError
from press.serve.observing import FIELDS, RECORD, Metrics, Observed, Record
from press.serve.scheduling import FullError, Scheduler, StoppedError, Ticket
from press.serve.writing import STREAM, Events, Outbox, Writing, unless_gone

logger = logging.getLogger(__name__)

REFERENCE = "#/components/schemas/{model}"
REFUSALS: dict[int | str, dict[str, Any]] = {
    status: {"model": replies.Error, "description": what}
    for status, what in {
        400: "The request is wrong, or the model cannot be asked that",
        401: "The API key is missing or wrong",
        403: "The server has another name",
        404: "There is no such model",
        408: "The body did not arrive in time",
        409: "The name is the bare model's",
        413: "The body is too large",
        415: "The body is not JSON by its content type",
        429: "All places are taken; Retry-After says when to try again",
        500: "The server failed",
        503: "The server stops",
        504: "The answer was not complete in time",
    }.items()
}
BEARER = HTTPBearer(auto_error=False)
# The rest of the body is not read.
CLOSE = {"Connection": "close"}


@dataclass(frozen=True)
class Limits:
    """What one request may take, and how many there may be.

    :param at_once: answers that are given at once
    :param waiting: answers that may wait beside them
    :param seconds: for one request, from its head to the end of its answer
    :param body: bytes of a request's body
    :param keys: API keys, one of which a client must have; none for no check
    :param admin_keys: keys of those who may load adapters; none for nobody
    :param hosts: the server's names, so that no page in a browser reaches it by another one; none for any
    """

    at_once: int = 8
    waiting: int = 16
    seconds: float = 120
    body: int = 512 * 1024
    keys: Sequence[str] = ()
    admin_keys: Sequence[str] = ()
    hosts: Sequence[str] = ()


class Api:
    """A package behind OpenAI's API."""

    def __init__(self, package: Package, limits: Limits) -> None:
        self._package = package
        self._limits = limits
        self._outbox = Outbox()
        self._scheduler = Scheduler(limits.at_once, limits.waiting, self._outbox.send)
        package.before_run = self._outbox.send
        self._metrics = Metrics(self._scheduler)
        self._created = int(time.time())

    def application(self) -> Observed:
        """Return the application."""
        app = FastAPIOffline(
            title="Olive Press",
            description="A packaged model and its adapters, by the API of OpenAI's chat completions.",
            version="1",
            lifespan=self._lifespan,
            redoc_url=None,
            separate_input_output_schemas=False,
        )
        app.add_exception_handler(RefusedError, _refused)
        app.add_exception_handler(StarletteHTTPException, _not_served)
        app.add_exception_handler(Exception, _failed)
        app.include_router(self._for_clients())
        app.include_router(self._for_operators())
        if self._limits.admin_keys:
            app.include_router(self._for_admins())
        app.openapi = lambda: _described(app)  # type: ignore[method-assign]
        return Observed(app, self._metrics)

    @asynccontextmanager
    async def _lifespan(self, _: FastAPI) -> AsyncIterator[None]:
        self._scheduler.start()
        yield
        await asyncio.to_thread(self._scheduler.stop)
        self._package.close()

    def _admitted(self, secrets: Sequence[str]) -> list[Any]:
        """Return what checks the name that a client has for the server, and its key, if there are any."""
        keys, hosts = [key.encode() for key in secrets], self._limits.hosts

        def check_host(request: Request) -> None:
            if request.url.hostname not in hosts:
                raise RefusedError(f"this server is known as {hosts[0]}, by no other name", 403, code="wrong_host")

        def check_key(given: Annotated[HTTPAuthorizationCredentials | None, Depends(BEARER)]) -> None:
            key = given.credentials.encode() if given else b""
            # All of them, so that the time does not say which one was right.
            if sum(hmac.compare_digest(key, each) for each in keys) == 0:
                raise RefusedError(
                    "the API key is missing or wrong: send `Authorization: Bearer KEY`",
                    401,
                    code="invalid_api_key",
                    headers={"WWW-Authenticate": "Bearer"},
                )

        return [Depends(check) for check, needed in ((check_host, hosts), (check_key, keys)) if needed]

    def _for_clients(self) -> APIRouter:
        router = APIRouter(prefix="/v1", dependencies=self._admitted(self._limits.keys), responses=REFUSALS)
        router.add_api_route("/models", self._models, response_model=replies.ModelList, summary="All models")
        router.add_api_route("/models/{model:path}", self._model, response_model=replies.ModelCard, summary="One model")
        data = {"type": "string", "description": "A chunk of the answer, and [DONE] at the end"}
        event = {"type": "object", "description": "An event", "properties": {"data": data}, "required": ["data"]}
        stream = {STREAM: {"schema": event}}
        router.add_api_route(
            "/chat/completions",
            self._complete,
            methods=["POST"],
            response_model=replies.Completion,
            responses={200: {"content": stream}},
            openapi_extra=_body_of(wire.ChatRequest),
            summary="Answer a conversation",
        )
        return router

    def _for_operators(self) -> APIRouter:
        router = APIRouter()
        router.add_api_route("/", self._chat, response_class=Response, include_in_schema=False)
        router.add_api_route("/health", self._health, summary="Whether the process answers")
        router.add_api_route("/ready", self._ready, summary="Whether it takes requests", responses={503: REFUSALS[503]})
        router.add_api_route(
            "/metrics",
            self._page,
            dependencies=self._admitted(self._limits.keys),
            response_class=Response,
            responses={200: {"content": {"text/plain": {}}}, 401: REFUSALS[401]},
            summary="Prometheus' metrics",
        )
        return router

    def _for_admins(self) -> APIRouter:
        admitted = self._admitted(self._limits.admin_keys)
        router = APIRouter(prefix="/v1/adapters", dependencies=admitted, responses=REFUSALS)
        router.add_api_route("", self._adapters, response_model=replies.AdapterList, summary="All adapters")
        router.add_api_route(
            "",
            self._load_adapter,
            methods=["POST"],
            response_model=replies.AdapterCard,
            openapi_extra=_body_of(wire.AdapterRequest),
            summary="Load an adapter, or another version of it",
        )
        router.add_api_route(
            "/{name:path}",
            self._unload_adapter,
            methods=["DELETE"],
            response_model=replies.Unloaded,
            summary="Unload an adapter",
        )
        return router

    async def _chat(self) -> Response:
        return page.response()

    async def _health(self) -> dict[str, str]:
        return {"status": "ok"}

    async def _ready(self) -> dict[str, str]:
        if not self._scheduler.ready:
            raise _stopping()
        return {"status": "ready"}

    async def _page(self) -> Response:
        return Response(self._metrics.page(), media_type=CONTENT_TYPE_LATEST)

    async def _models(self) -> replies.ModelList:
        return replies.ModelList(data=[self._card(name) for name in self._package.models])

    async def _model(self, model: str) -> replies.ModelCard:
        if model not in self._package.models:
            raise answering.unknown(model)
        return self._card(model)

    def _card(self, name: str) -> replies.ModelCard:
        return replies.ModelCard(id=name, created=self._created, owned_by="olive-press")

    async def _adapters(self) -> replies.AdapterList:
        adapters = self._package.adapters
        return replies.AdapterList(data=[_adapter_card(name, named) for name, named in adapters.items()])

    async def _load_adapter(self, request: Request) -> replies.AdapterCard:
        asked = wire.parse(await self._body(request), wire.AdapterRequest)
        # Beside the conversations, as compiling a schema is; one after the other.
        load = asyncio.get_running_loop().run_in_executor(
            self._package.compiling, self._package.load_adapter, asked.name, asked.folder or asked.name
        )
        named = await load
        logger.info("adapter loaded", extra={FIELDS: {"adapter": asked.name, "folder": named.folder}})
        return _adapter_card(asked.name, named)

    async def _unload_adapter(self, name: str) -> replies.Unloaded:
        self._package.unload_adapter(name)
        logger.info("adapter unloaded", extra={FIELDS: {"adapter": name}})
        return replies.Unloaded(id=name)

    async def _complete(self, request: Request) -> Response:
        record: Record = request.scope[RECORD]
        deadline = asyncio.get_running_loop().time() + self._limits.seconds
        asked = wire.parse(await self._body(request), wire.ChatRequest)
        if asked.model in self._package.models:
            record.model = asked.model
        ticket = self._enter()
        try:
            answer = await _within(deadline, self._limits.seconds, self._read(asked))
            record.prompt_tokens = len(answer.prompt)
        except BaseException:
            ticket.cancel()
            raise
        turns, seconds = self._package.turns(answer), self._limits.seconds
        writing = Writing(asked, answer, turns, ticket, self._outbox, record, self._metrics, seconds)
        if asked.stream:
            return Events(writing.events(deadline), writing.stop, deadline)
        return await unless_gone(request.receive, writing.whole(deadline), writing.stop)

    async def _body(self, request: Request) -> bytes:
        """Return the body of a request, which is bounded in type, size and time."""
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "application/json":
            raise RefusedError("the content type must be application/json", 415, code="unsupported_media_type")
        body = bytearray()
        try:
            async with asyncio.timeout(self._limits.seconds):
                async for part in request.stream():
                    body += part
                    if len(body) > self._limits.body:
                        raise RefusedError(
                            f"the body may have {self._limits.body} bytes", 413, code="request_too_large", headers=CLOSE
                        )
        except ClientDisconnect as error:
            raise GoneError from error
        except TimeoutError as error:
            raise RefusedError(
                f"the body did not arrive within {self._limits.seconds:g} s", 408, code="timeout", headers=CLOSE
            ) from error
        return bytes(body)

    def _enter(self) -> Ticket:
        try:
            return self._scheduler.enter()
        except FullError as error:
            raise BusyError(error.seconds) from error
        except StoppedError as error:
            raise _stopping() from error

    async def _read(self, asked: wire.ChatRequest) -> Answer:
        loop = asyncio.get_running_loop()
        if asked.own_schema() is not None:
            await loop.run_in_executor(self._package.compiling, self._package.check_schema, asked)
        return await loop.run_in_executor(self._package.reading, self._package.read, asked)


async def _within(deadline: float, seconds: float, work: Coroutine[Any, Any, Answer]) -> Answer:
    try:
        async with asyncio.timeout_at(deadline):
            return await work
    except TimeoutError as error:
        raise LateError(seconds) from error


def _adapter_card(name: str, named: Named) -> replies.AdapterCard:
    manifest = named.manifest
    return replies.AdapterCard(
        id=name, folder=named.folder, file_sha256=manifest.get("file_sha256"), base_sha256=manifest["base_sha256"]
    )


def _body_of(kind: type[Part]) -> dict[str, Any]:
    """Return the description of a body that is read here, and not by the framework."""
    schema = {"$ref": REFERENCE.format(model=kind.__name__)}
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


def _stopping() -> RefusedError:
    return RefusedError("the server stops", 503, code="server_stopping", headers={"Retry-After": "5"})


async def _refused(_: Request, error: Exception) -> Response:
    assert isinstance(error, RefusedError)
    return JSONResponse(error.body(), error.status, error.headers)


async def _not_served(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException | StarletteHTTPException)
    what = f"{request.method} {request.url.path[: wire.LONGEST]}: {error.detail}"
    headers = dict(error.headers or {})
    described = request.app.openapi()["paths"].get(getattr(request.scope.get("route"), "path_format", ""))
    if error.status_code == 405 and described:
        # The framework names the methods of the first route alone that has the path.
        headers["Allow"] = ", ".join(sorted(method.upper() for method in described))
    return await _refused(request, RefusedError(what, error.status_code, code="not_served", headers=headers))


async def _failed(request: Request, _: Exception) -> Response:
    return await _refused(request, FailedError())


def _described(app: FastAPI) -> dict[str, Any]:
    """Return the OpenAPI description, with the types of the requests whose bodies are read here."""
    if not app.openapi_schema:
        described = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
        _, more = models_json_schema(
            [(kind, "validation") for kind in (wire.ChatRequest, wire.AdapterRequest)], ref_template=REFERENCE
        )
        described["components"]["schemas"] |= more["$defs"]
        app.openapi_schema = described
    return app.openapi_schema
