"""The same backend as a `LabelStudioMLBase`, for teams that run label-studio-ml.

    # _wsgi.py
    from label_studio_ml.api import init_app
    from ml_backend.model import SegmentAnythingModel
    app = init_app(SegmentAnythingModel)

or `label-studio-ml init my_backend --script .../ml_backend/model.py:SegmentAnythingModel` and
`label-studio-ml start my_backend`. It runs under label-studio-ml 2.x and 1.0.9. They make model
objects as they please (one a request, one for all projects), so the engine lives in this module,
and the project's interface is taken from the request rather than from the object. One process
serves; Label Studio waits 3 seconds for /setup, so the model is loaded when the server imports this
module, before its port opens. Settings come from the environment: `SEGSTUDIO_MODEL`,
`SEGSTUDIO_DEVICE`, `LABEL_STUDIO_URL`, `LABEL_STUDIO_API_KEY`.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import threading
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ml_backend.backend import Backend
from ml_backend.engines.registry import load_engine
from ml_backend.images import label_studio_fetcher
from ml_backend.predictions import empty_prediction
from ml_backend.protocol import PredictRequest, SetupRequest, project_id, read_task
from ml_backend.serving import limit_threads, warm_up
from ml_backend.settings import Settings, default_cache_dir
from segstudio.errors import SegstudioError

# 1.0.9 starts a process for each webhook, which imports this module and computes nothing.
_IS_SERVED = multiprocessing.parent_process() is None

if TYPE_CHECKING:

    class LabelStudioMLBase:
        """What both versions of label-studio-ml offer."""

        label_config: str | None

        def set(self, key: str, value: str) -> None:
            """Keep a value of the project (2.x only)."""
else:
    try:
        from label_studio_ml.model import LabelStudioMLBase
    except ImportError as missing:
        _REASON = str(missing)
        _IS_SERVED = False

        class LabelStudioMLBase:
            """Stands in where label-studio-ml is not installed, and says so."""

            def __init__(self, *args: Any, **kwargs: Any) -> None:
                raise SegstudioError(
                    f"ml_backend.model needs label-studio-ml, which cannot be imported ({_REASON})."
                    f" Install it from https://github.com/HumanSignal/label-studio-ml-backend, or "
                    f"run `segstudio serve`, which does without."
                )


__all__ = ["SegmentAnythingModel", "shared_backend"]

_lock = threading.Lock()
_backend: Backend | None = None


def shared_backend() -> Backend:
    """Return this process's backend; the first call loads the model."""
    global _backend
    with _lock:
        if _backend is None:
            settings = Settings(
                model=os.environ.get("SEGSTUDIO_MODEL", "tiny"),
                device=os.environ.get("SEGSTUDIO_DEVICE", "auto"),
                label_studio_url=os.environ.get("LABEL_STUDIO_URL")
                or os.environ.get("LABEL_STUDIO_HOST"),
                api_key=os.environ.get("LABEL_STUDIO_API_KEY"),
                embeddings_dir=default_cache_dir() / "embeddings",
            )
            engine = load_engine(settings.model, settings.device)
            limit_threads(settings)
            warm_up(engine)
            _backend = Backend(settings, engine, label_studio_fetcher(settings))
        return _backend


class SegmentAnythingModel(LabelStudioMLBase):
    """Segment Anything for label-studio-ml. `__init__` is the base class's own, on purpose."""

    def setup(self) -> None:
        """Name the model (called by 2.x when an object is made)."""
        self.set("model_version", shared_backend().engine.model_version)

    def set_extra_params(self, extra_params: object) -> None:
        """Keep the project's parameters as the JSON text that 2.x reads back."""
        text = extra_params if isinstance(extra_params, str) else json.dumps(extra_params)
        self.set("extra_params", text)
        params = json.loads(text or "{}")
        body = _request_body()
        shared_backend().setup(
            SetupRequest(
                project_id(body.get("project")),
                str(body.get("schema") or ""),
                params if isinstance(params, dict) else {},
            )
        )

    def predict(
        self,
        tasks: Sequence[Mapping[str, Any]],
        context: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> list[dict[str, Any]]:
        """Answer each task with one prediction, empty where there is none."""
        result = (context or {}).get("result")
        prompts = tuple(result) if isinstance(result, list) else None
        body = _request_body()
        request = PredictRequest(
            tasks=tuple(read_task(task, with_boxes=prompts is None) for task in tasks),
            project_id=project_id(body.get("project") or getattr(self, "project_id", "")),
            label_config=str(body.get("label_config") or getattr(self, "label_config", "") or ""),
            prompts=prompts,
        )
        backend = shared_backend()
        # label-studio-ml takes dictionaries only.
        return [
            answer if isinstance(answer, dict) else empty_prediction(backend.engine.model_version)
            for answer in backend.answer(request)
        ]

    def fit(
        self, *args: Any, event: object = None, data: object = None, **kwargs: Any
    ) -> dict[str, Any]:
        """Learn nothing: the model is not trained on annotations."""
        return {}


def _request_body() -> Mapping[str, Any]:
    """Return the JSON of the request being answered; {} outside of one."""
    from flask import (  # type: ignore[import-not-found,unused-ignore]
        has_request_context,
        request,
    )

    body = request.get_json(silent=True) if has_request_context() else None
    return body if isinstance(body, dict) else {}


if _IS_SERVED:
    shared_backend()
