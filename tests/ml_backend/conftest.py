"""A real HTTP server over an engine that draws what it was asked for."""

from __future__ import annotations

import io
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import numpy as np
import pytest
import uvicorn
from numpy.typing import NDArray
from PIL import Image

from ml_backend.app import create_app
from ml_backend.engines import Embedding, MaskProposal, Prompt
from ml_backend.settings import Settings

CONFIG = """<View><Image name="image" value="$image"/>
<KeyPointLabels name="kp" toName="image" smart="true"><Label value="Car"/><Label value="Road"/>
  <Label value="Nowhere"/></KeyPointLabels>
<RectangleLabels name="rect" toName="image" smart="true"><Label value="Car"/></RectangleLabels>
<BrushLabels name="brush" toName="image"><Label value="Car"/></BrushLabels>
<PolygonLabels name="poly" toName="image"><Label value="Car"/><Label value="Road"/></PolygonLabels>
</View>"""


class DrawingEngine:
    """Draws a 20 px square about the last positive point, or the box; remembers its prompts."""

    name = "drawing"
    model_version = "drawing 1"
    cache_key = "drawing-1"
    notice = None

    def __init__(self) -> None:
        self.encoded: list[tuple[int, ...]] = []
        self.prompts: list[Prompt] = []
        self.encode_s = 0.0
        self.predict_s = 0.0

    def encode(self, image_rgb: NDArray[np.uint8]) -> Embedding:
        time.sleep(self.encode_s)
        self.encoded.append(image_rgb.shape)
        return Embedding(
            {"mean": image_rgb.mean(axis=(0, 1)).astype(np.float32)}, *image_rgb.shape[:2]
        )

    def predict(self, embedding: Embedding, prompt: Prompt) -> MaskProposal:
        time.sleep(self.predict_s)
        self.prompts.append(prompt)
        mask = np.zeros((embedding.height_px, embedding.width_px), bool)
        if prompt.box_px is not None:
            x0, y0, x1, y1 = (round(side) for side in prompt.box_px)
            mask[y0 : y1 + 1, x0 : x1 + 1] = True
        else:
            x, y = next(
                point
                for point, good in zip(prompt.points_px[::-1], prompt.positive[::-1], strict=True)
                if good
            )
            row, column = round(y), round(x)
            mask[max(0, row - 10) : row + 10, max(0, column - 10) : column + 10] = True
        return MaskProposal(mask, 1.2, np.full((1, 8, 8), len(prompt.points_px), np.float32))


def make_picture(width_px: int = 120, height_px: int = 80, orientation: int | None = None) -> bytes:
    """A JPEG of the given stored size."""
    image = Image.fromarray(np.full((height_px, width_px, 3), 90, np.uint8))
    exif = Image.Exif()
    if orientation is not None:
        exif[0x0112] = orientation
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", exif=exif)
    return buffer.getvalue()


def make_click(
    x: float, y: float, label: str = "Car", *, positive: bool | None = True, **changes: Any
) -> dict[str, Any]:
    """A key point as Label Studio sends it."""
    region = {
        "original_width": 120,
        "original_height": 80,
        "image_rotation": 0,
        "value": {"x": x, "y": y, "width": 0.5, "labels": [label], "keypointlabels": [label]},
        "is_positive": positive,
        "id": "k1",
        "from_name": "kp",
        "to_name": "image",
        "type": "keypointlabels",
    }
    if positive is None:
        del region["is_positive"]
    return {**region, **changes}


def make_box(
    x: float, y: float, width: float, height: float, label: str = "Car", **changes: Any
) -> dict[str, Any]:
    """A rectangle as Label Studio sends it (without `is_positive`)."""
    return {
        "original_width": 120,
        "original_height": 80,
        "image_rotation": 0,
        "value": {"x": x, "y": y, "width": width, "height": height, "rotation": 0,
                  "rectanglelabels": [label]},
        "id": "r1",
        "from_name": "rect",
        "to_name": "image",
        "type": "rectanglelabels",
        **changes,
    }  # fmt: skip


class Server:
    """A running server, its engine, and the images it can fetch."""

    def __init__(self, settings: Settings, images: dict[str, bytes | Exception]) -> None:
        self.engine = DrawingEngine()
        self.images = images
        self.fetched: list[str] = []
        self.app = create_app(settings, self.engine, self._fetch)
        self.backend = self.app.state.backend
        listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        self._uvicorn = uvicorn.Server(uvicorn.Config(self.app, log_config=None))
        self._thread = threading.Thread(
            target=self._uvicorn.run, kwargs={"sockets": [listener]}, daemon=True
        )
        self._thread.start()
        self.http = httpx.Client(base_url=self.url, timeout=30)

    def _fetch(self, reference: str, task_id: int | None) -> bytes:
        self.fetched.append(reference)
        found = self.images[reference]
        if isinstance(found, Exception):
            raise found
        return found

    def predict(
        self,
        result: list[Any] | None,
        *,
        tasks: list[dict[str, Any]] | None = None,
        config: str = CONFIG,
    ) -> list[dict[str, Any]]:
        """Post as Label Studio does; the answer must be openable."""
        response = self.http.post(
            "/predict",
            json={
                "tasks": tasks or [{"id": 1, "data": {"image": "/data/upload/1/a.jpg"}}],
                "project": "1.1795208019",
                "label_config": config,
                "params": {
                    "login": None,
                    "password": None,
                    "context": None if result is None else {"result": result},
                },
            },
        )
        assert response.status_code == 200, response.text
        results: list[dict[str, Any]] = response.json()["results"]
        for answer in filter(None, results):  # [] is "no prediction to store"
            assert isinstance(answer["result"], list)
            assert isinstance(answer["model_version"], str)
        return results

    def stop(self) -> None:
        self.http.close()
        self._uvicorn.should_exit = True
        self._thread.join(10)


@pytest.fixture
def serve() -> Iterator[Callable[..., Server]]:
    """Starts servers, `serve(images=..., **settings)`, and stops them after the test."""
    running: list[Server] = []

    def start(images: dict[str, bytes | Exception] | None = None, **settings: Any) -> Server:
        known = {"/data/upload/1/a.jpg": make_picture()} if images is None else images
        server = Server(Settings(**settings), dict(known))
        running.append(server)
        return server

    yield start
    for server in running:
        server.stop()


@pytest.fixture
def click() -> Callable[..., dict[str, Any]]:
    """Makes a key point as Label Studio sends it."""
    return make_click


@pytest.fixture
def box() -> Callable[..., dict[str, Any]]:
    """Makes a rectangle as Label Studio sends it."""
    return make_box


@pytest.fixture
def picture() -> Callable[..., bytes]:
    """Makes a JPEG."""
    return make_picture


@pytest.fixture
def drawing_engine() -> DrawingEngine:
    """An engine that draws what it was asked for."""
    return DrawingEngine()


@pytest.fixture
def config_xml() -> str:
    """The interface that the servers of these tests are asked with."""
    return CONFIG
