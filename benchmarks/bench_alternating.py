"""Two annotators who click in turns on two images: embeddings kept against an encoding every click.

The peer is the design of the public SAM 2 image example for Label Studio: one global predictor, and
`set_image` on the task's image at every click. Both use the same ViT-B with random weights (fixed
seed) through `segment_anything`, on the same two photos, and answer in turns. Ours is the whole
backend without HTTP: prompts read, embedding looked up, mask refined and written as brush bytes.
Bar: 100 times.
"""

from __future__ import annotations

import io
import time
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from segment_anything import SamPredictor
from segment_anything.modeling import Sam

from benchmarks.harness import Comparison, finish, is_smoke, line
from ml_backend.backend import Backend
from ml_backend.engines.segment_anything import SegmentAnythingEngine
from ml_backend.protocol import PredictRequest, PredictTask
from ml_backend.settings import Settings

_CONFIG = """<View><Image name="image" value="$image"/>
<KeyPointLabels name="kp" toName="image" smart="true"><Label value="Car"/></KeyPointLabels>
<BrushLabels name="brush" toName="image"><Label value="Car"/></BrushLabels></View>"""
_SEED = 0


def _model(smoke: bool) -> Sam:
    torch.manual_seed(_SEED)
    if smoke:
        from ml_backend.engines.tiny_sam import DEFAULT_WEIGHTS, load_tiny_sam

        return load_tiny_sam(DEFAULT_WEIGHTS)
    from segment_anything import sam_model_registry

    return sam_model_registry["vit_b"]().eval()


def _photo(number: int, height_px: int, width_px: int) -> NDArray[np.uint8]:
    rng = np.random.default_rng(number)
    small = rng.integers(0, 255, (height_px // 40, width_px // 40, 3), np.uint8)
    return np.asarray(Image.fromarray(small).resize((width_px, height_px)))


class EncodeEveryClick:
    """The public example's way: open the image and encode it, whatever was clicked before."""

    def __init__(self, sam: Sam, files: list[bytes]) -> None:
        self._predictor = SamPredictor(sam)
        self._files = files

    def click(self, image: int, x_percent: float, y_percent: float) -> NDArray[np.bool_]:
        """One click; the best of SAM's three masks."""
        with torch.inference_mode():
            pixels = np.array(Image.open(io.BytesIO(self._files[image])).convert("RGB"))
            self._predictor.set_image(pixels)
            height_px, width_px = pixels.shape[:2]
            point = np.array([[x_percent * width_px / 100, y_percent * height_px / 100]])
            masks, scores, _ = self._predictor.predict(point, np.array([1]), multimask_output=True)
        best: NDArray[np.bool_] = masks[int(scores.argmax())]
        return best


class KeepEmbeddings:
    """This backend."""

    def __init__(self, sam: Sam, files: list[bytes], size: tuple[int, int]) -> None:
        engine = SegmentAnythingEngine(sam, name="bench", version="bench", digest="bench")
        settings = Settings(predict_deadline_s=3600)  # a busy machine is no failure
        self.backend = Backend(settings, engine, lambda name, _: files[int(name[1:])])
        self._size = size

    def click(self, image: int, x_percent: float, y_percent: float) -> dict[str, Any]:
        """One click, answered as Label Studio gets it."""
        value = {"x": x_percent, "y": y_percent, "width": 0.3, "keypointlabels": ["Car"]}
        prompt = {
            "original_width": self._size[1], "original_height": self._size[0],
            "image_rotation": 0, "value": value, "is_positive": True, "id": "k",
            "from_name": "kp", "to_name": "image", "type": "keypointlabels",
        }  # fmt: skip
        task = PredictTask(image + 1, {"image": f"/{image}"})
        answer = self.backend.answer(PredictRequest((task,), "1", _CONFIG, (prompt,)))[0]
        assert isinstance(answer, dict)
        return answer


def main() -> int:
    """Alternate and print medians and ratio; 1 when the bar is missed (never with --smoke)."""
    smoke = is_smoke()
    size = (270, 480) if smoke else (1080, 1920)
    sam = _model(smoke)
    files = []
    for number in range(2):
        buffer = io.BytesIO()
        Image.fromarray(_photo(number, *size)).save(buffer, "JPEG", quality=90)
        files.append(buffer.getvalue())
    theirs, ours = EncodeEveryClick(sam, files), KeepEmbeddings(sam, files, size)
    for image in range(2):
        ours.click(image, 50, 50)  # the first click on an image encodes it, once
    rounds, clicks = (1, 2) if smoke else (2, 10)
    their_s: list[float] = []
    our_s: list[float] = []
    for turn in range(rounds):
        for image in range(2):
            started = time.perf_counter()
            theirs.click(image, 40 + turn, 50)
            their_s.append(time.perf_counter() - started)
        for click in range(clicks):
            for image in range(2):
                started = time.perf_counter()
                ours.click(image, 30 + 3 * click + turn, 40)
                our_s.append(time.perf_counter() - started)
    assert ours.backend.embeddings.hits["none"] == 2, "an image was encoded again"
    ours.backend.close()
    result = Comparison(
        work=f"two annotators in turns, {size[1]}x{size[0]}, a click",
        peer="encode every click",
        peer_ms=float(np.median(their_s)) * 1e3,
        ours_ms=float(np.median(our_s)) * 1e3,
        runs=len(their_s),
        bar=100,
    )
    print(line(result))
    return finish([result])


if __name__ == "__main__":
    raise SystemExit(main())
