"""What the server does for a request, free of HTTP: prompts in, predictions out.

`Backend.answer` never raises for a task: whatever goes wrong becomes an empty prediction and a log
line with the reason, because Label Studio shows an error of the backend to nobody.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, TypeVar

from ml_backend.automatic_answers import AutomaticAnswers
from ml_backend.confidence import prompted_confidence
from ml_backend.embeddings import EmbeddingStore, embedding_key
from ml_backend.engines import Embedding, Engine, MaskProposal
from ml_backend.image_cache import CachedImage, ImageCache
from ml_backend.images import (
    ImageError,
    ImageFetcher,
    image_reference,
    is_turned,
    load_pixels,
)
from ml_backend.logs import log_event
from ml_backend.metrics import Metrics
from ml_backend.predictions import (
    AnswerError,
    choose_control,
    empty_prediction,
    prediction,
    region_items,
    region_of_mask,
)
from ml_backend.prewarm import Prewarmer
from ml_backend.project_settings import (
    BatchMode,
    ExtraParamsError,
    ProjectSettings,
    read_project_settings,
)
from ml_backend.prompts import PromptGroup, group_prompts, prompt_sizes
from ml_backend.protocol import PredictRequest, PredictTask, SetupRequest
from ml_backend.refinement import RefinementMemory
from ml_backend.scheduler import BusyError, DeviceScheduler, Priority
from ml_backend.settings import Settings
from segstudio.client import Client
from segstudio.errors import SegstudioError
from segstudio.label_config import LabelConfig, LabelConfigError, parse_label_config

__all__ = ["Backend"]

_LOG = logging.getLogger("ml_backend")
_MAX_PROJECTS = 10_000
T = TypeVar("T")
Answer = dict[str, Any] | list[Any]
"""A prediction, or the empty list where there is none to store."""


@dataclass(frozen=True, slots=True)
class _Project:
    """What /setup said of a project."""

    label_config: str = ""
    settings: ProjectSettings = field(default_factory=ProjectSettings)


@lru_cache(maxsize=256)
def _parsed(label_config: str) -> LabelConfig:
    return parse_label_config(label_config)


class Backend:
    """One engine with its queue, its caches and the projects it serves. Safe for many threads."""

    def __init__(
        self,
        settings: Settings,
        engine: Engine,
        fetch: ImageFetcher,
        metrics: Metrics | None = None,
        client: Client | None = None,
    ) -> None:
        self.settings = settings
        self.engine = engine
        self.metrics = metrics or Metrics()
        self.scheduler = DeviceScheduler(settings.device, settings.queue_limit)
        self.embeddings = EmbeddingStore(
            settings.memory_limit_bytes, settings.embeddings_dir, settings.disk_limit_bytes
        )
        self.images = ImageCache(settings.image_cache_bytes, settings.image_cache_ttl_s)
        self.refinements = RefinementMemory()
        self._fetch = fetch
        self.prewarmer = Prewarmer(
            self._warm,
            is_loaded=lambda: self.scheduler.waiting * 4 >= settings.queue_limit,
            client=client,
            count=lambda outcome: self.metrics.prewarmed.labels(outcome).inc(),
        )
        self.automatic = AutomaticAnswers(
            settings,
            engine,
            self.scheduler,
            self.embeddings,
            self.metrics,
            fetch=self._image,
            encode=lambda image: self._encode(image, "", Priority.BATCH, math.inf)[1],
        )
        self._projects: dict[str, _Project] = {}
        self.metrics.watch("queue_waiting", "Jobs in the queue.", lambda: self.scheduler.waiting)
        self.metrics.watch(
            "embeddings_bytes", "Memory of embeddings.", lambda: self.embeddings.memory_bytes
        )
        self.metrics.watch("images_bytes", "Memory of images.", lambda: self.images.size_bytes)
        for place in self.embeddings.hits:
            self.metrics.watch(
                f"embedding_lookups_{place}",
                f"Embedding look-ups answered from {place}.",
                lambda place=place: self.embeddings.hits[place],  # type: ignore[misc]
            )

    def close(self) -> None:
        """Stop the queue; running work ends, waiting work is cancelled."""
        self.prewarmer.close()
        self.automatic.close()
        self.scheduler.close()

    def setup(self, request: SetupRequest) -> dict[str, Any]:
        """Remember a project's interface and parameters; name the model.

        Raises ExtraParamsError where the parameters mean nothing, or ask for what the model or the
        interface does not have.
        """
        settings = read_project_settings(request.extra_params, self.engine.name)
        if settings.mode is BatchMode.AUTOMATIC:
            try:
                self.automatic.check(_parsed(request.label_config), settings)
            except (AnswerError, LabelConfigError) as error:
                raise ExtraParamsError(str(error)) from error
        if len(self._projects) >= _MAX_PROJECTS:
            self._projects.pop(next(iter(self._projects)))
        self._projects[request.project_id] = _Project(request.label_config, settings)
        return {"model_version": settings.model_version(self.engine.model_version)}

    def update_interface(self, project_id: str, label_config: str) -> None:
        """Take a project's new interface; its parameters stay as /setup said."""
        known = self._projects.get(project_id)
        if known is not None:
            self._projects[project_id] = replace(known, label_config=label_config)

    def forget_project(self, project_id: str) -> None:
        """Forget what /setup said of a project."""
        self._projects.pop(project_id, None)

    def came_to(self, project_id: str, task_id: int | None) -> None:
        """Encode ahead what an annotator who has finished this task will see next."""
        known = self._projects.get(project_id)
        if known is not None:
            self.prewarmer.came_to(project_id, task_id, known.label_config)

    def answer(self, request: PredictRequest) -> list[Answer]:
        """Answer every task of a request, in order: a prediction each, or `[]` for no prediction.

        A click is always answered with a prediction, empty where nothing was found. A task without
        a click ("Retrieve predictions", opening a task) gets `[]` instead of an empty one: Label
        Studio would store that, show it as a tab of 0.00%, and never ask for this task again.

        Raises BusyError where a click finds the queue full: the caller can say so.
        """
        deadline = time.monotonic() + self.settings.predict_deadline_s
        return [self._answer_safely(request, task, deadline) for task in request.tasks]

    def _answer_safely(self, request: PredictRequest, task: PredictTask, deadline: float) -> Answer:
        mode = "batch" if request.prompts is None else "click"
        started = time.monotonic()
        facts: dict[str, Any] = {"task": task.id, "project": request.project_id, "mode": mode}
        reason, level = "", logging.WARNING
        try:
            answer = self._answer_task(request, task, deadline, facts)
            outcome = "regions" if answer["result"] else "empty"
        except BusyError as error:
            outcome, reason = "busy", str(error)
        except (SegstudioError, AnswerError, LabelConfigError) as error:
            outcome, reason = "refused", str(error)
        except (TimeoutError, CancelledError):
            outcome, reason = "late", "The time that Label Studio waits for an answer ran out."
        except Exception as error:
            outcome, reason, level = "failed", f"{type(error).__name__}: {error}", logging.ERROR
            _LOG.exception("unexpected error")
        if reason:
            answer = empty_prediction(self.engine.model_version)
        self.metrics.answers.labels(mode, outcome).inc()
        log_event(
            _LOG, level if reason else logging.INFO, "predict", outcome=outcome,
            seconds=round(time.monotonic() - started, 4), **facts,
            **({"reason": reason} if reason else {}),
        )  # fmt: skip
        if outcome == "busy" and mode == "click" and len(request.tasks) == 1:
            raise BusyError(reason)
        return [] if mode == "batch" and not answer["result"] else answer

    def _answer_task(
        self,
        request: PredictRequest,
        task: PredictTask,
        deadline: float,
        facts: dict[str, Any],
    ) -> dict[str, Any]:
        if time.monotonic() > deadline:
            raise TimeoutError
        project = self._projects.get(request.project_id, _Project())
        config = _parsed(request.label_config or project.label_config)
        if request.prompts is None:
            prompts, priority = task.boxes, Priority.BATCH
            mode, alone = project.settings.mode, len(request.tasks) == 1
            facts["batch_mode"] = mode.value
            if mode is BatchMode.AUTOMATIC:
                if alone:  # perhaps an annotator opens it, and sees nothing until then
                    deadline = min(deadline, time.monotonic() + project.settings.max_wait_s)
                return self.automatic.answer(task, config, project.settings, deadline, facts)
            if not prompts or mode is BatchMode.OFF:
                if alone:
                    self.prewarmer.opened(request.project_id, task, config.xml)
                return empty_prediction(self.engine.model_version)
        else:
            prompts, priority = request.prompts, Priority.CLICK
            if not prompts:
                return empty_prediction(self.engine.model_version)
            self.prewarmer.came_to(request.project_id, task.id, config.xml)
        regions: list[dict[str, Any]] = []
        scores: list[float] = []
        for place, members in _by_image(prompts).items():
            reference = image_reference(task.data, config, *place)
            image = self._image(reference, task.id)
            key, embedding = self._embedding(image, members, priority, deadline)
            groups, problems = group_prompts(members, embedding.height_px, embedding.width_px)
            for group in groups:
                try:
                    region, score = self._segment(
                        group, config, project, key, embedding, priority, deadline, problems
                    )
                except AnswerError as error:  # the other labels may still have an answer
                    problems.append(str(error))
                    continue
                if region is not None:
                    regions += region_items(region, config)
                    scores.append(score)
            if problems:
                facts["problems"] = [*facts.get("problems", ()), *problems]
        facts["regions"] = len(scores)
        return prediction(regions, prompted_confidence(scores), self.engine.model_version)

    def _segment(
        self,
        group: PromptGroup,
        config: LabelConfig,
        project: _Project,
        key: str,
        embedding: Embedding,
        priority: Priority,
        deadline: float,
        problems: list[str],
    ) -> tuple[dict[str, Any] | None, float]:
        """Segment one region and make the answer of it."""
        to_name = group.to_name or config.images[0].name
        preferred = project.settings.answer or self.settings.answer_kind
        control = choose_control(config, group.labels, to_name, preferred)
        prompt = group.prompt.with_mask(self.refinements.before(key, group.prompt))
        with self.metrics.stage_s.labels("predict").time():
            proposal: MaskProposal = _wait(
                self.scheduler.submit(
                    lambda: self.engine.predict(embedding, prompt),
                    key=("predict", key, prompt),
                    priority=priority,
                    expires_s=deadline,
                ),
                deadline,
            )
        self.refinements.keep(key, group.prompt, proposal.low_res)
        with self.metrics.stage_s.labels("answer").time():
            region, losses = region_of_mask(
                proposal.mask,
                control,
                group.labels,
                to_name=to_name,
                size_px=(group.original_height_px, group.original_width_px),
                score=proposal.score,
                item_index=group.item_index,
                image_rotation_deg=group.image_rotation_deg,
                tolerance_px=self.settings.polygon_tolerance_px,
            )
        if losses.holes or losses.parts:
            problems.append(
                f"The polygon leaves out {losses.holes} holes and {losses.parts} parts of a few "
                f"pixels."
            )
        if region is None:
            problems.append("The model found nothing at the prompt.")
        return region, proposal.score

    def _image(self, reference: str, task_id: int | None) -> CachedImage:
        with self.metrics.stage_s.labels("fetch").time():
            # A cloud URI means another object in another project only through its storage, and
            # storages are resolved by task.
            scope = f"{task_id}|{reference}" if "://" in reference else reference
            return self.images.get(scope, lambda: self._fetch(reference, task_id))

    def _embedding(
        self,
        image: CachedImage,
        prompts: Sequence[Mapping[str, Any]],
        priority: Priority,
        deadline: float,
    ) -> tuple[str, Embedding]:
        """The embedding on whose pixels the editor drew, with its key."""
        key, embedding = self._encode(image, "", priority, deadline)
        sizes = prompt_sizes(prompts)
        swapped = (embedding.width_px, embedding.height_px)
        if (
            sizes == {swapped}
            and embedding.width_px != embedding.height_px
            and is_turned(image.content)
        ):
            return self._encode(image, "as-stored", priority, deadline)
        return key, embedding

    def _encode(
        self, image: CachedImage, variant: str, priority: Priority, deadline: float
    ) -> tuple[str, Embedding]:
        key = embedding_key(image.sha256, self.engine.cache_key, variant)
        found = self.embeddings.get(key)
        if found is None:
            found = _wait(self._submit_encode(key, image, variant, priority, deadline), deadline)
        return key, found

    def _submit_encode(
        self,
        key: str,
        image: CachedImage,
        variant: str,
        priority: Priority,
        expires_s: float | None = None,
    ) -> Future[Embedding]:
        def work() -> Embedding:
            with self.metrics.stage_s.labels("decode").time():
                pixels = load_pixels(
                    image.content,
                    max_pixels=self.settings.max_image_pixels,
                    as_stored=variant == "as-stored",
                )
            with self.metrics.stage_s.labels("encode").time():
                embedding = self.engine.encode(pixels)
            self.embeddings.put(key, embedding)
            return embedding

        return self.scheduler.submit(work, key=key, priority=priority, expires_s=expires_s)

    def _warm(self, task: PredictTask, label_config: str, priority: Priority) -> None:
        """Have a task's first image encoded if it is not; nobody waits for it."""
        image = self._image(image_reference(task.data, _parsed(label_config)), task.id)
        key = embedding_key(image.sha256, self.engine.cache_key)
        if self.embeddings.get(key) is None:
            self._submit_encode(key, image, "", priority)


def _by_image(
    prompts: Sequence[Mapping[str, Any]],
) -> dict[tuple[str, int], list[Mapping[str, Any]]]:
    """Group prompts by the Image tag and the page that they are on."""
    places: dict[tuple[str, int], list[Mapping[str, Any]]] = {}
    for region in prompts:
        if isinstance(region, Mapping):
            index = region.get("item_index")
            place = (str(region.get("to_name") or ""), index if isinstance(index, int) else 0)
            places.setdefault(place, []).append(region)
    if not places:
        raise ImageError("The context holds no readable prompt.")
    return places


def _wait(future: Future[T], deadline: float) -> T:
    timeout_s = None if deadline == math.inf else max(0.0, deadline - time.monotonic())
    return future.result(timeout=timeout_s)
