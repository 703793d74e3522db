"""From the name given to `--model` to a loaded engine."""

from __future__ import annotations

import hashlib
from pathlib import Path

from ml_backend.checkpoints import CHECKPOINTS, find_checkpoint
from ml_backend.engines import Engine, EngineError

__all__ = ["has_tiny_weights", "load_engine"]

_VERSION = "0.1"
_TINY_NOTICE = (
    "This is the small built-in model, for demos and tests; for real work run "
    "`segstudio models download vit_b` and serve with `--model vit_b`."
)


def has_tiny_weights() -> bool:
    """Say whether the built-in model's weights are in this installation."""
    return (Path(__file__).resolve().parent.parent / "weights" / "tiny_sam.safetensors").is_file()


def load_engine(model: str, device: str = "auto", models_dir: Path | None = None) -> Engine:
    """Load `tiny`, `classical`, `vit_b`, `vit_l`, `vit_h`, or the file or folder at a path.

    Raises EngineError with a sentence that says what to do: a checkpoint that is not there names
    the command that downloads it and the place to put it by hand.
    """
    if model == "classical":
        from ml_backend.engines.classical import ClassicalEngine

        return ClassicalEngine()
    if model == "tiny":
        return _load_tiny(device)
    if model in CHECKPOINTS:
        path = find_checkpoint(model, models_dir)
        return _load_vit(path, device, model)
    path = Path(model).expanduser()
    if path.is_dir():
        return _load_folder(path, device)
    if not path.is_file():
        names = ", ".join(["tiny", "classical", *CHECKPOINTS])
        raise EngineError(
            f"There is no model {model!r}: give one of {names}, or the path of a checkpoint file "
            f"or of a model folder."
        )
    return _load_vit(path, device, path.stem)


def _load_tiny(device: str) -> Engine:
    try:
        from ml_backend.engines.segment_anything import SegmentAnythingEngine, pick_device
        from ml_backend.engines.tiny_sam import DEFAULT_WEIGHTS, load_tiny_sam
    except ImportError as error:
        raise _missing(error) from error
    try:
        sam = load_tiny_sam()
    except (FileNotFoundError, ValueError) as error:
        raise EngineError(str(error)) from error
    return SegmentAnythingEngine(
        sam,
        name="tiny",
        version=f"segstudio sam tiny {_VERSION}",
        digest=hashlib.sha256(DEFAULT_WEIGHTS.read_bytes()).hexdigest()[:16],
        device=pick_device(device),
        notice=_TINY_NOTICE,
    )


def _load_folder(folder: Path, device: str) -> Engine:
    try:
        from ml_backend.engines.segment_anything import pick_device
        from ml_backend.engines.transformers import load_folder

        return load_folder(folder, pick_device(device))
    except ImportError as error:
        raise EngineError(
            f"A model folder needs a package that is not installed ({error}). "
            f"Run: pip install 'segstudio[transformers]'"
        ) from error


def _load_vit(path: Path, device: str, name: str) -> Engine:
    try:
        from ml_backend.engines.segment_anything import (
            SegmentAnythingEngine,
            load_checkpoint,
            pick_device,
        )
    except ImportError as error:
        raise _missing(error) from error
    chosen = pick_device(device)
    sam, _, digest = load_checkpoint(path)
    expected = CHECKPOINTS[name].sha256 if name in CHECKPOINTS else digest
    if digest != expected:
        raise EngineError(
            f"{path} is damaged: its SHA-256 is {digest}, not {expected}. Delete it and run "
            f"`segstudio models download {name}` again."
        )
    return SegmentAnythingEngine(
        sam,
        name=name,
        version=f"segstudio sam {name} {_VERSION}",
        digest=digest[:16],
        device=chosen,
    )


def _missing(error: ImportError) -> EngineError:
    return EngineError(
        f"Segment Anything needs a package that is not installed ({error}). "
        f"Run: pip install 'segstudio[sam]'"
    )
