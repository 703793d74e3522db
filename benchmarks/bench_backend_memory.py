"""The backend's memory while thousands of images pass through small limits: it must stay flat.

Every image is different and is clicked twice; embeddings (ViT-B's size, random, so that nothing
compresses) go through 64 MB of memory and 64 MB of disk, image bytes through 16 MB. The engine
computes nothing, so the run takes minutes. Printed: the resident set every tenth of the way.
Bar: between a quarter of the way (all caches long full) and the end it grows by less than 5 %.
"""

from __future__ import annotations

import io
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks.harness import is_smoke
from ml_backend.backend import Backend
from ml_backend.engines import Embedding, MaskProposal, Prompt
from ml_backend.protocol import PredictRequest, PredictTask
from ml_backend.settings import Settings

_CONFIG = """<View><Image name="image" value="$image"/>
<KeyPointLabels name="kp" toName="image" smart="true"><Label value="Car"/></KeyPointLabels>
<BrushLabels name="brush" toName="image"><Label value="Car"/></BrushLabels></View>"""
_SIZE = (240, 320)
_GROWTH = 1.05


class SizedEngine:
    """Embeddings of ViT-B's size that do not compress, and a mask, without computing."""

    name = model_version = cache_key = "sized"
    notice: str | None = None

    def __init__(self) -> None:
        self.encoded = 0
        noise = np.random.default_rng(0).random((256, 64, 64), np.float32)
        self._noise = noise.astype(np.float16)

    def encode(self, image_rgb: NDArray[np.uint8]) -> Embedding:
        """Make 2 MB of noise."""
        self.encoded += 1
        features = np.roll(self._noise, self.encoded, axis=0)
        return Embedding({"features": features}, *image_rgb.shape[:2])

    def predict(self, embedding: Embedding, prompt: Prompt) -> MaskProposal:
        """Answer the same square always."""
        mask = np.zeros((embedding.height_px, embedding.width_px), bool)
        mask[50:100, 50:150] = True
        return MaskProposal(mask, 0.9, np.zeros((1, 256, 256), np.float32))


def _photo(number: int) -> bytes:
    pixels = np.zeros((*_SIZE, 3), np.uint8)
    pixels[..., 0] = number % 256
    pixels[..., 1] = number // 256
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "BMP")
    return buffer.getvalue()


def _resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 1e6


def main() -> int:
    """Run and print the curve; 1 when memory grows (never with --smoke)."""
    images = 40 if is_smoke() else 2000
    engine = SizedEngine()
    curve: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(
            memory_limit_bytes=64 << 20,
            embeddings_dir=Path(folder),
            disk_limit_bytes=64 << 20,
            image_cache_bytes=16 << 20,
        )
        backend = Backend(settings, engine, lambda reference, _: _photo(int(reference[1:])))
        started = time.perf_counter()
        for number in range(images):
            task = PredictTask(number, {"image": f"/{number}"})
            for x in (30, 40):
                prompt = {
                    "original_width": _SIZE[1], "original_height": _SIZE[0], "image_rotation": 0,
                    "value": {"x": x, "y": 30, "width": 0.3, "keypointlabels": ["Car"]},
                    "is_positive": True, "id": "k", "from_name": "kp", "to_name": "image",
                    "type": "keypointlabels",
                }  # fmt: skip
                request = PredictRequest((task,), "1", _CONFIG, (prompt,))
                answer = backend.answer(request)[0]
                assert isinstance(answer, dict)
                assert answer["result"]
            if (number + 1) % (images // 10) == 0:
                curve.append(_resident_mb())
                print(f"{number + 1:5d} images: {curve[-1]:7.1f} MB", flush=True)
        took_s = time.perf_counter() - started
        stored = sum(path.stat().st_size for path in Path(folder).rglob("*.emb"))
        backend.close()
    assert engine.encoded == images, "an image was encoded twice"
    growth = curve[-1] / curve[2]
    print(
        f"{images} images in {took_s:.0f} s: resident set x {growth:.3f} from 30 % to 100 % "
        f"(< {_GROWTH}), {stored / 1e6:.0f} MB on disk (limit 67)"
    )
    holds = growth < _GROWTH and stored <= 72e6
    return 0 if "--smoke" in sys.argv or holds else 1


if __name__ == "__main__":
    raise SystemExit(main())
