"""Run the application under uvicorn: load, warm up, bind, then serve until told to stop."""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable

import numpy as np
import uvicorn

from ml_backend.app import create_app
from ml_backend.engines import Engine, Prompt
from ml_backend.engines.registry import load_engine
from ml_backend.logs import configure_logging
from ml_backend.settings import Settings
from segstudio.errors import SegstudioError

__all__ = ["bind", "run_server", "warm_up"]

_SWITCH_INTERVAL_S = 0.001  # how long a computing thread may keep the interpreter from /health
_DRAIN_S = 10


def run_server(settings: Settings, log_level: str, say: Callable[[str], None]) -> None:
    """Serve until SIGINT or SIGTERM. Raises SegstudioError for a taken port or an absent model."""
    listener = bind(settings.host, settings.port)
    try:
        configure_logging(log_level)
        sys.setswitchinterval(_SWITCH_INTERVAL_S)
        engine = load_engine(settings.model, settings.device)
        warm_up(engine)
        app = create_app(settings, engine)
        host, port = listener.getsockname()[:2]
        shown = f"[{host}]" if ":" in host else host
        say(f"Serving {engine.model_version} on http://{shown}:{port}")
        if settings.secret_path:
            say("Connect Label Studio to that address followed by / and your secret path.")
        if engine.notice:
            say(engine.notice)
        if not settings.label_studio_url:
            say("Without --label-studio-url only images of --allow-host and --local-root open.")
        config = uvicorn.Config(
            app, log_config=None, access_log=False, server_header=False,
            timeout_graceful_shutdown=_DRAIN_S, limit_concurrency=512,
        )  # fmt: skip
        listener.listen(512)
        uvicorn.Server(config).run(sockets=[listener])
    finally:
        listener.close()


def bind(host: str, port: int) -> socket.socket:
    """Reserve the address before the slow part, without listening yet.

    A caller who waits for the port finds it closed until the model is loaded. Raises SegstudioError
    with a sentence for a taken port or an address that is not this machine's.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, socket.SOCK_STREAM)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
        except OSError:
            listener.close()
            raise
    except OSError as error:
        raise SegstudioError(
            f"The server cannot listen on {host}:{port} ({error.strerror or error}). "
            f"Choose another --port, or --port 0 for any free one."
        ) from error
    return listener


def warm_up(engine: Engine) -> None:
    """Run one encoding and one click, so that the first annotator does not pay for lazy set-up."""
    image = np.full((64, 96, 3), 128, np.uint8)
    image[16:48, 24:72] = 200
    engine.predict(engine.encode(image), Prompt(((48.0, 32.0),), (True,)))
