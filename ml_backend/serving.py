"""Run the application under uvicorn: load, warm up, bind, then serve until told to stop."""

from __future__ import annotations

import signal
import socket
import sys
from collections.abc import Callable
from io import BytesIO

import numpy as np
import uvicorn
from PIL import Image

from ml_backend.app import create_app
from ml_backend.engines import Engine, Prompt
from ml_backend.engines.registry import load_engine
from ml_backend.images import load_pixels
from ml_backend.logs import configure_logging
from ml_backend.predictions import region_of_mask
from ml_backend.settings import Settings
from segstudio.errors import SegstudioError
from segstudio.label_config import parse_label_config

__all__ = ["bind", "limit_threads", "run_server", "warm_up"]

_SWITCH_INTERVAL_S = 0.001  # how long a computing thread may keep the interpreter from /health
_KEEP_ALIVE_S = 75
_DRAIN_S = 25  # an encoding of a large model on a CPU takes up to that long


def run_server(settings: Settings, log_level: str, say: Callable[[str], None]) -> None:
    """Serve until SIGINT or SIGTERM, then answer what is running and return.

    To be called from the main thread. Raises SegstudioError for a taken port or an absent model.
    """
    listener = bind(settings.host, settings.port)
    try:
        configure_logging(log_level)
        sys.setswitchinterval(_SWITCH_INTERVAL_S)
        engine = load_engine(settings.model, settings.device)
        limit_threads(settings)
        warm_up(engine)
        app = create_app(settings, engine)
        config = uvicorn.Config(
            app, log_config=None, access_log=False, server_header=False,
            timeout_graceful_shutdown=_DRAIN_S, timeout_keep_alive=_KEEP_ALIVE_S,
        )  # fmt: skip
        server = uvicorn.Server(config)

        def stop(*_: object) -> None:
            server.should_exit = True

        # uvicorn answers what is running, then raises the signal again for whoever came before it:
        # that is here, where the work is done and the status is 0.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, stop)
        listener.listen(512)
        host, port = listener.getsockname()[:2]
        shown = f"[{host}]" if ":" in host else host
        say(f"Serving {engine.model_version} on http://{shown}:{port}")
        if settings.secret_path:
            say("Connect Label Studio to that address followed by / and your secret path.")
        if engine.notice:
            say(engine.notice)
        if not settings.label_studio_url:
            say("Without --label-studio-url only images of --allow-host and --local-root open.")
        server.run(sockets=[listener])
    finally:
        listener.close()


def limit_threads(settings: Settings) -> None:
    """Choose how many threads torch computes with; to be called before anything computes.

    The small model is done in milliseconds: threads that wait for each other on a busy machine
    would cost it many times what they save.
    """
    wanted = settings.threads or (1 if settings.model == "tiny" else None)
    if wanted is not None and "torch" in sys.modules:
        import torch

        torch.set_num_threads(wanted)


def bind(host: str, port: int) -> socket.socket:
    """Reserve the address before the slow part, without listening yet.

    A caller who waits for the port finds it closed until the model is loaded. Raises SegstudioError
    with a sentence for a taken port or an address that is not this machine's.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        # With the protocol named asyncio turns Nagle's algorithm off; else answers wait 40 ms.
        listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
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
    """Run one encoding, one click and one answer of each kind.

    The first annotator must not pay for lazy imports and compilation, and `/health` neither: both
    hold the interpreter.
    """
    image = np.full((64, 96, 3), 128, np.uint8)
    image[16:48, 24:72] = 200
    buffer = BytesIO()
    Image.fromarray(image).save(buffer, "JPEG")
    pixels = load_pixels(buffer.getvalue(), max_pixels=image.size)
    engine.predict(engine.encode(pixels), Prompt(((48.0, 32.0),), (True,)))
    for tag in ("BrushLabels", "BitmaskLabels", "PolygonLabels", "RectangleLabels"):
        config = parse_label_config(
            f'<View><Image name="i" value="$i"/><{tag} name="c" toName="i"><Label value="l"/>'
            f"</{tag}></View>"
        )
        region_of_mask(
            image[..., 0] > 150,
            config.controls[0],
            ["l"],
            to_name="i",
            size_px=(64, 96),
            score=1.0,
        )
