"""A project on a real Label Studio with one photo and an ML backend: what a labelling page does."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from segstudio.client import connect
from segstudio.masks import iou
from segstudio.shapes import region_mask
from segstudio.tasks import parse_task

CONFIG = """<View><Image name="image" value="$image"/>
<KeyPointLabels name="kp" toName="image" smart="true"><Label value="Disc"/></KeyPointLabels>
<RectangleLabels name="rect" toName="image" smart="true"><Label value="Disc"/></RectangleLabels>
<{tag} name="answer" toName="image"><Label value="Disc"/></{tag}></View>"""
BASIC_AUTH = ("me", "pass:word")


def disc_photo(orientation: int | None = None) -> tuple[bytes, NDArray[np.bool_]]:
    """A JPEG of a disc, stored so that it looks the same under any orientation, and its mask."""
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:150, :220]
    mask = np.hypot(rows - 60, columns - 150) < 40
    shown = np.where(mask[..., None], [200, 60, 50], [110, 115, 120])
    shown = np.clip(shown + rng.normal(0, 5, shown.shape), 0, 255).astype(np.uint8)
    stored = {None: shown, 6: np.rot90(shown, 1), 8: np.rot90(shown, -1)}[orientation]
    return encode_jpeg(stored, orientation), mask


def encode_jpeg(rgb: NDArray[np.uint8], orientation: int | None = None) -> bytes:
    """A JPEG with these stored pixels and this EXIF orientation."""
    exif = Image.Exif()
    if orientation:
        exif[0x0112] = orientation
    buffer = io.BytesIO()
    Image.fromarray(rgb).save(buffer, "JPEG", quality=95, exif=exif)
    return buffer.getvalue()


def key_point(x: float, y: float, **changes: Any) -> dict[str, Any]:
    """A click at percent of the disc's photo, as the page sends it."""
    return {
        "original_width": 220, "original_height": 150, "image_rotation": 0,
        "value": {"x": x, "y": y, "width": 0.5, "labels": ["Disc"], "keypointlabels": ["Disc"]},
        "is_positive": True, "id": "k1", "from_name": "kp", "to_name": "image",
        "type": "keypointlabels", **changes,
    }  # fmt: skip


AT_THE_DISC = key_point(100 * 150 / 220, 100 * 60 / 150)


class LiveProject:
    """A project with one photo and the backend connected; `basic_auth` is (user, password)."""

    def __init__(
        self,
        server: Any,
        project: Any,
        backend_url: str,
        photo: bytes,
        *,
        basic_auth: tuple[str, str] | None = None,
        **backend_fields: Any,
    ) -> None:
        self.http = connect(server.url, server.api_key)
        self.id = project.id
        self.sdk = server.sdk()
        answer = self.http.http.post(
            f"{server.url}/api/projects/{self.id}/import",
            files={"photo.jpg": ("photo.jpg", photo, "image/jpeg")},
        )
        assert answer.is_success, answer.text
        if basic_auth is not None:
            backend_fields |= {
                "auth_method": "BASIC_AUTH",
                "basic_auth_user": basic_auth[0],
                "basic_auth_pass": basic_auth[1],
            }
        self.ml_id = self.sdk.ml.create(
            url=backend_url, project=self.id, title="SAM", is_interactive=True, **backend_fields
        ).id
        self.task_id = next(iter(self.sdk.tasks.list(project=self.id))).id

    def prompt(self, *regions: dict[str, Any]) -> dict[str, Any]:
        """What the labelling page does on a click."""
        body = {"task": self.task_id, "context": {"result": list(regions)}}
        answer = self.http.request(
            "POST", f"/api/ml/{self.ml_id}/interactive-annotating", json=body
        )
        found: dict[str, Any] = answer.json()
        assert not found.get("errors"), found
        data: dict[str, Any] = found["data"]
        return data

    def retrieve_predictions(self) -> dict[str, Any]:
        """What "Retrieve predictions" does for the task; the task afterwards."""
        body = {
            "selectedItems": {"all": False, "included": [self.task_id]},
            "project": self.id,
        }
        path = f"/api/dm/actions/?id=retrieve_tasks_predictions&project={self.id}"
        self.http.request("POST", path, json=body)
        task: dict[str, Any] = self.http.get_json(f"/api/tasks/{self.task_id}/")
        return task

    def overlap(self, result: list[dict[str, Any]], mask: NDArray[np.bool_]) -> float:
        """Submit a result as an annotation, read it back, compare its one region with a mask."""
        made = self.sdk.annotations.create(id=self.task_id, result=result)
        raw = self.http.get_json(f"/api/tasks/{self.task_id}/")
        (annotation,) = (a for a in parse_task(raw).annotations if a.id == made.id)
        assert not annotation.problems
        (region,) = annotation.regions
        found = region_mask(region)
        value = iou(found, type(found).from_dense(mask))
        assert value is not None
        return value
