"""The ASGI application: Label Studio's ML backend protocol, authentication, limits and metrics.

Nothing computes on the event loop: `/health` must answer within a second whatever the model does
(Label Studio gives up after that). Clicks and batches have thread pools of their own, so a long
batch never keeps an annotator waiting for a thread; bodies above 256 kB are parsed by a helper
process.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hmac
import json
import logging
import multiprocessing
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TypeVar

from prometheus_client import CONTENT_TYPE_LATEST
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route

from ml_backend.admission import Admission, Full
from ml_backend.backend import Backend
from ml_backend.engines import Engine
from ml_backend.images import ImageFetcher, label_studio_client, label_studio_fetcher
from ml_backend.logs import log_event
from ml_backend.protocol import (
    PredictRequest,
    RequestError,
    read_predict,
    read_setup,
)
from ml_backend.scheduler import BusyError
from ml_backend.settings import Settings, is_loopback
from ml_backend.webhooks import WebhookEvent, read_webhook

__all__ = ["create_app"]

_LOG = logging.getLogger("ml_backend")
_PARSE_ELSEWHERE_BYTES = 256 << 10
_SETUP_BODY_BYTES = 8 << 20
_WEBHOOK_BODY_BYTES = 64 << 20
_CLICK_THREADS = 64
_BATCH_THREADS = 2
_REQUESTS = 256
_CLICKS = 128
_BATCHES = 8
_LARGE_BODIES = 4
_BODY_TIMEOUT_S = 60.0

T = TypeVar("T")
Handler = Callable[[Request], Awaitable[Response]]


class _Refusal(Exception):  # noqa: N818 - it is an answer, not a fault
    """A request that ends with a status and a sentence."""

    def __init__(self, status: int, sentence: str, retry_after_s: int = 0) -> None:
        super().__init__(sentence)
        self.status = status
        self.sentence = sentence
        self.retry_after_s = retry_after_s

    def response(self) -> Response:
        """The answer that it is."""
        response = JSONResponse({"error": self.sentence}, self.status)
        if self.status == 401:
            response.headers["WWW-Authenticate"] = 'Basic realm="segstudio"'
        if self.retry_after_s:
            response.headers["Retry-After"] = str(self.retry_after_s)
        return response


def create_app(
    settings: Settings, engine: Engine | None = None, fetch: ImageFetcher | None = None
) -> Starlette:
    """Make the application, with its model loaded: the port opens only afterwards.

    `engine` and `fetch` replace the model and the way to Label Studio's images (tests do). Raises
    EngineError where the model cannot be loaded.
    """
    if engine is None:
        from ml_backend.engines.registry import load_engine

        engine = load_engine(settings.model, settings.device)
    client = label_studio_client(settings)
    fetch = fetch or label_studio_fetcher(settings, client)
    backend = Backend(settings, engine, fetch, client=client)
    server = _Server(settings, backend)
    routes = [
        Route("/", server.endpoint("root", server.health, guarded=False), methods=["GET"]),
        Route("/health", server.endpoint("health", server.health, guarded=False), methods=["GET"]),
        Route("/setup", server.endpoint("setup", server.setup), methods=["POST"]),
        Route("/predict", server.endpoint("predict", server.predict), methods=["POST"]),
        Route("/webhook", server.endpoint("webhook", server.webhook, guarded=False),
              methods=["POST"]),
        Route("/metrics", server.endpoint("metrics", server.show_metrics), methods=["GET"]),
    ]  # fmt: skip
    app = Starlette(
        routes=[Mount(settings.prefix, routes=routes)] if settings.prefix else routes,
        lifespan=server.lifespan,
    )
    app.state.backend = backend
    return app


class _Server:
    """The endpoints, and the pools that work for them."""

    def __init__(self, settings: Settings, backend: Backend) -> None:
        self.settings = settings
        self.backend = backend
        self._clicks = ThreadPoolExecutor(_CLICK_THREADS, thread_name_prefix="click")
        self._batches = ThreadPoolExecutor(_BATCH_THREADS, thread_name_prefix="batch")
        self._parser: ProcessPoolExecutor | None = None
        self._requests_door = Admission("requests", _REQUESTS, 1)
        self._clicks_door = Admission("clicks", _CLICKS, 1)
        self._batches_door = Admission("batches", _BATCHES, 30)
        self._large_door = Admission("large bodies", _LARGE_BODIES, 2)

    @asynccontextmanager
    async def lifespan(self, _: Starlette) -> AsyncIterator[None]:
        """Stop everything when the server stops."""
        try:
            yield
        finally:
            self.backend.close()
            for pool in (self._clicks, self._batches, self._parser):
                if pool is not None:
                    pool.shutdown(wait=False, cancel_futures=True)

    def endpoint(self, name: str, handler: Handler, *, guarded: bool = True) -> Handler:
        """Wrap a handler with the guards, the sentences for refusals, and the counters."""

        async def run(request: Request) -> Response:
            started = time.perf_counter()
            try:
                self._check_host(request)
                if guarded:
                    self._check_password(request)
                response = await handler(request)
            except _Refusal as refusal:
                log_event(_LOG, logging.WARNING, name, status=refusal.status,
                          reason=refusal.sentence)  # fmt: skip
                response = refusal.response()
            except (Full, BusyError) as busy:
                log_event(_LOG, logging.WARNING, name, status=503, reason=str(busy))
                wait_s = busy.retry_after_s if isinstance(busy, Full) else 1
                response = _Refusal(503, str(busy), wait_s).response()
            except ClientDisconnect:
                response = Response(status_code=499)
            self.backend.metrics.requests.labels(name, str(response.status_code)).inc()
            self.backend.metrics.request_s.labels(name).observe(time.perf_counter() - started)
            return response

        return run

    async def health(self, _: Request) -> Response:
        """Say that the server is up; nothing here waits for anything."""
        return JSONResponse(
            {
                "status": "UP",
                "model_class": "segstudio",
                "model_version": self.backend.engine.model_version,
            }
        )

    async def setup(self, request: Request) -> Response:
        """Connect a project. Its access token is neither used nor kept."""
        async with AsyncExitStack() as inside:
            inside.enter_context(self._requests_door.enter())
            body = await self._body(request, _SETUP_BODY_BYTES, inside)
            try:
                return JSONResponse(self.backend.setup(read_setup(body)))
            except RequestError as error:
                raise _Refusal(400, str(error)) from error

    async def predict(self, request: Request) -> Response:
        """Answer a click, an opened task or a selection: one prediction a task, always."""
        async with AsyncExitStack() as inside:
            inside.enter_context(self._requests_door.enter())
            async with AsyncExitStack() as reading:
                parsed = await self._parse(
                    await self._body(request, self.settings.max_body_bytes, reading)
                )
            is_batch = parsed.prompts is None and not (
                len(parsed.tasks) == 1 and not parsed.tasks[0].boxes
            )  # an opened task: an annotator is looking, and it takes no time
            pool: Executor = self._batches if is_batch else self._clicks
            door = self._batches_door if is_batch else self._clicks_door
            inside.enter_context(door.enter())
            content = await asyncio.get_running_loop().run_in_executor(pool, self._answer, parsed)
            return Response(content, media_type="application/json")

    async def webhook(self, request: Request) -> Response:
        """Take a webhook and answer at once: it runs inside the annotator's own request.

        The one that Label Studio makes by itself carries no password, so an unauthenticated one is
        no error; but only one with the password, or under the secret path, has an effect.
        """
        settings = self.settings
        is_open = settings.basic_auth is None or settings.secret_path is not None
        is_known = is_open or self._has_password(request)
        if not is_known and "authorization" in request.headers:
            raise _Refusal(401, "The user or the password of the ML backend is wrong.")
        async with AsyncExitStack() as reading:
            reading.enter_context(self._requests_door.enter())
            body = await self._body(request, _WEBHOOK_BODY_BYTES, reading, keep=is_known)
            outcome = "unauthenticated"
            if is_known:
                event = await self._elsewhere(read_webhook, body)
                outcome = "ignored" if event is None else self._act_on(event)
        self.backend.metrics.webhooks.labels(outcome).inc()
        return JSONResponse({"status": "ok"})

    def _act_on(self, event: WebhookEvent) -> str:
        """Do what an event asks for, which never takes long; say what that was."""
        if event.action == "ANNOTATION_CREATED":
            self.backend.came_to(event.project_id, event.task_id)
            return "next tasks"
        if event.action == "PROJECT_UPDATED" and event.label_config:
            self.backend.update_interface(event.project_id, event.label_config)
            return "interface"
        if event.action == "PROJECT_DELETED":
            self.backend.forget_project(event.project_id)
            return "project forgotten"
        return "ignored"

    async def show_metrics(self, _: Request) -> Response:
        """Prometheus' text format."""
        return Response(self.backend.metrics.render(), media_type=CONTENT_TYPE_LATEST)

    def _answer(self, parsed: PredictRequest) -> bytes:
        # Answer by answer: serialising a whole batch at once would hold the interpreter.
        results = [_json(result) for result in self.backend.answer(parsed)]
        version = _json(self.backend.engine.model_version)
        return b'{"results":[' + b",".join(results) + b'],"model_version":' + version + b"}"

    async def _parse(self, body: bytes) -> PredictRequest:
        try:
            return await self._elsewhere(read_predict, body)
        except RequestError as error:
            raise _Refusal(400, str(error)) from error

    async def _elsewhere(self, read: Callable[[bytes], T], body: bytes) -> T:
        """Call `read` here for a small body, in a helper process for a large one."""
        if len(body) < _PARSE_ELSEWHERE_BYTES:
            return read(body)
        for _ in range(2):  # a helper that died (of memory, most likely) is replaced once
            if self._parser is None:
                # Spawned, not forked: this process has threads, and perhaps a GPU.
                self._parser = ProcessPoolExecutor(
                    1, mp_context=multiprocessing.get_context("spawn")
                )
            parser = self._parser
            try:
                return await asyncio.get_running_loop().run_in_executor(parser, read, body)
            except BrokenProcessPool:
                if self._parser is parser:
                    self._parser = None
        raise _Refusal(413, f"A body of {len(body)} bytes could not be read; send fewer tasks.")

    async def _body(
        self, request: Request, limit_bytes: int, inside: AsyncExitStack, *, keep: bool = True
    ) -> bytes:
        """Read the body up to a limit, whatever Content-Length claims, and not forever.

        A large one takes one of a few places until `inside` is left.
        """
        claimed = request.headers.get("content-length", "")
        chunks: list[bytes] = []
        size = int(claimed) if claimed.isdigit() else 0
        is_large = False
        try:
            async with asyncio.timeout(_BODY_TIMEOUT_S):
                if size <= limit_bytes:
                    size = 0
                    async for chunk in request.stream():
                        size += len(chunk)
                        if size > limit_bytes:
                            break
                        if keep:
                            chunks.append(chunk)
                        if keep and not is_large and size >= _PARSE_ELSEWHERE_BYTES:
                            is_large = True
                            inside.enter_context(self._large_door.enter())
        except TimeoutError as error:
            raise _Refusal(408, f"The body did not come within {_BODY_TIMEOUT_S:g} s.") from error
        if size > limit_bytes:
            raise _Refusal(413, f"A body of this request may have at most {limit_bytes} bytes.")
        return b"".join(chunks)

    def _check_host(self, request: Request) -> None:
        """Without authentication only names of this machine are answered.

        A web page can make a browser call a server on loopback under a name of its own.
        """
        if self.settings.has_auth or self.settings.no_auth:
            return
        host = request.headers.get("host", "").strip().lower()
        name = host.rsplit("]")[0].lstrip("[") if host.startswith("[") else host.partition(":")[0]
        if not is_loopback(name):
            raise _Refusal(
                421, f"This server answers on loopback names only, not as {name[:80]!r}."
            )

    def _check_password(self, request: Request) -> None:
        if self.settings.basic_auth is not None and not self._has_password(request):
            raise _Refusal(401, "The user or the password of the ML backend is wrong.")

    def _has_password(self, request: Request) -> bool:
        if self.settings.basic_auth is None:
            return False
        expected = ":".join(self.settings.basic_auth).encode()
        scheme, _, encoded = request.headers.get("authorization", "").partition(" ")
        try:
            given = base64.b64decode(encoded, validate=True) if scheme.lower() == "basic" else b""
        except (binascii.Error, ValueError):
            given = b""
        return hmac.compare_digest(given, expected)


def _json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":"), allow_nan=False).encode()
