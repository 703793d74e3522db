"""Tasks that nobody clicked on, answered with masks of everything in their images."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from functools import partial
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from ml_backend.automatic_masks import AutomaticMasks, AutomaticSettings, Crop, generate_masks
from ml_backend.batch_modes import AutomaticJobs, automatic_label, image_places, in_pieces
from ml_backend.confidence import automatic_confidence
from ml_backend.embeddings import EmbeddingStore, embedding_key
from ml_backend.engines import Embedding, Engine
from ml_backend.engines.point_batches import PointBatch, PointBatchEngine
from ml_backend.image_cache import CachedImage
from ml_backend.images import image_reference, load_pixels
from ml_backend.metrics import Metrics
from ml_backend.predictions import (
    AnswerError,
    choose_control,
    prediction,
    region_items,
    region_of_mask,
)
from ml_backend.project_settings import ProjectSettings
from ml_backend.protocol import PredictTask
from ml_backend.scheduler import BusyError, DeviceScheduler, Priority
from ml_backend.settings import Settings
from segstudio.label_config import LabelConfig

__all__ = ["AutomaticAnswers"]

_BUSY_PAUSE_S = 0.2
T = TypeVar("T")


class AutomaticAnswers:
    """Automatic masks on the server's own queue and caches. Safe for several threads.

    `fetch` brings an image by reference and task; `encode` its embedding as clicks use it.
    """

    def __init__(
        self,
        settings: Settings,
        engine: Engine,
        scheduler: DeviceScheduler,
        embeddings: EmbeddingStore,
        metrics: Metrics,
        fetch: Callable[[str, int | None], CachedImage],
        encode: Callable[[CachedImage], Embedding],
    ) -> None:
        self._settings = settings
        self._engine = engine
        self._scheduler = scheduler
        self._embeddings = embeddings
        self._metrics = metrics
        self._fetch = fetch
        self._encode = encode
        self._jobs = AutomaticJobs()

    def close(self) -> None:
        """Start no more images."""
        self._jobs.close()

    def check(self, config: LabelConfig, wishes: ProjectSettings) -> None:
        """Raise AnswerError where the model or the interface cannot have automatic masks."""
        self._point_engine()
        preferred = wishes.answer or self._settings.answer_kind
        for tag in config.images:
            automatic_label(config, tag.name, wishes.label, preferred)

    def answer(
        self,
        task: PredictTask,
        config: LabelConfig,
        wishes: ProjectSettings,
        deadline: float,
        facts: dict[str, Any],
    ) -> dict[str, Any]:
        """Answer a task; `facts` are for the log.

        Raises TimeoutError at the deadline (`time.monotonic`): the work goes on, and a later
        request finds it done. Raises AnswerError, BusyError and whatever fetching raises.
        """
        self._point_engine()
        places = image_places(task.data, config)
        if not places:
            image_reference(task.data, config)  # says what the task lacks
        preferred = wishes.answer or self._settings.answer_kind
        items: list[dict[str, Any]] = []
        point_ious: list[NDArray[np.float32]] = []
        for to_name, page in places:
            labels = automatic_label(config, to_name, wishes.label, preferred)
            control = choose_control(config, labels, to_name, preferred)
            image = self._fetch(image_reference(task.data, config, to_name, page), task.id)
            work = partial(self._find, image, wishes.automatic)
            found = self._jobs.get((image.sha256, wishes.automatic), work).result(
                timeout=max(0.0, deadline - time.monotonic())
            )
            point_ious.append(found.point_ious)
            facts["regions"] = facts.get("regions", 0) + len(found.masks)
            facts["left_out"] = facts.get("left_out", 0) + found.found - len(found.masks)
            for one in found.masks:
                region, _ = region_of_mask(
                    one.mask,
                    control,
                    labels,
                    to_name=to_name,
                    size_px=(one.mask.height_px, one.mask.width_px),
                    score=one.predicted_iou,
                    item_index=page,
                    tolerance_px=self._settings.polygon_tolerance_px,
                )
                items += region_items(region, config) if region is not None else []
        version = wishes.model_version(self._engine.model_version)
        return prediction(items, automatic_confidence(np.concatenate(point_ious)), version)

    def _find(self, image: CachedImage, settings: AutomaticSettings) -> AutomaticMasks:
        """Run grids of clicks over an image, in pieces between which annotators' clicks pass."""
        whole = self._encode(image)

        def decode(
            crop: Crop, points: NDArray[np.float64]
        ) -> Iterator[tuple[NDArray[np.float64], PointBatch]]:
            embedding = whole if crop.layer == 0 else self._encode_crop(image, crop)
            return in_pieces(points, partial(self._decode, embedding))

        with self._metrics.stage_s.labels("automatic").time():
            return generate_masks(whole.height_px, whole.width_px, settings, decode)

    def _decode(
        self, embedding: Embedding, points: NDArray[np.float64]
    ) -> tuple[PointBatch, float]:
        engine = self._point_engine()

        def work() -> tuple[PointBatch, float]:
            started = time.perf_counter()
            return engine.predict_points(embedding, points), time.perf_counter() - started

        return self._submit(work).result()

    def _encode_crop(self, image: CachedImage, crop: Crop) -> Embedding:
        """The embedding of a part of an image, kept as those of whole images are."""
        variant = f"crop {crop.x0} {crop.y0} {crop.x1} {crop.y1}"
        key = embedding_key(image.sha256, self._engine.cache_key, variant)
        found = self._embeddings.get(key)
        if found is None:

            def work() -> Embedding:
                pixels = load_pixels(image.content, max_pixels=self._settings.max_image_pixels)
                part = np.ascontiguousarray(pixels[crop.y0 : crop.y1, crop.x0 : crop.x1])
                return self._engine.encode(part)

            found = self._submit(work).result()
            self._embeddings.put(key, found)
        return found

    def _submit(self, work: Callable[[], T]) -> Future[T]:
        """Queue work that nobody waits for: a full queue is waited for, a closed one raises."""
        while True:
            try:
                return self._scheduler.submit(work, priority=Priority.BATCH)
            except BusyError:
                time.sleep(_BUSY_PAUSE_S)

    def _point_engine(self) -> PointBatchEngine:
        if not isinstance(self._engine, PointBatchEngine):
            raise AnswerError(
                f"Automatic masks need a Segment Anything model, which {self._engine.name!r} is "
                f'not: serve another --model, or set the project\'s mode to "box-to-instance" or '
                f'"off".'
            )
        return self._engine
