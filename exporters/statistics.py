"""What an export holds, counted image by image: sums that can be merged in any order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from exporters.answers import count_answers, merge_answers
from segstudio.scene import Scene
from segstudio.taxonomy import Taxonomy


def count_scene(scene: Scene) -> dict[str, Any]:
    """Return the JSON-able counts of one image: per class, VOID, unlabelled, losses."""
    classes: dict[str, list[int]] = {}
    for segment in scene.segments:
        entry = classes.setdefault(str(segment.class_id), [0, 0])
        entry[0] += 1
        entry[1] += segment.mask.area_px
    total_px = scene.height_px * scene.width_px
    void_px = scene.void_mask.area_px
    return {
        "classes": classes,
        "total_px": total_px,
        "void_px": void_px,
        "unlabelled_px": total_px - void_px - sum(pixels for _, pixels in classes.values()),
        "losses": dict(scene.losses),
    }


@dataclass(slots=True)
class Statistics:
    """The sums over the images of one file set."""

    images: int = 0
    empty_images: int = 0
    class_images: Counter[int] = field(default_factory=Counter)
    class_segments: Counter[int] = field(default_factory=Counter)
    class_pixels: Counter[int] = field(default_factory=Counter)
    pixels: Counter[str] = field(default_factory=Counter)
    losses: Counter[str] = field(default_factory=Counter)
    answers: dict[str, Counter[str]] = field(default_factory=dict)

    def add(self, counts: dict[str, Any], answers: Mapping[str, Any] | None = None) -> None:
        """Add the counts of one image, as `count_scene` returns them, and the answers about it."""
        self.images += 1
        count_answers(self.answers, answers or {})
        self.empty_images += not counts["classes"]
        for class_id, (segments, pixels) in counts["classes"].items():
            self.class_images[int(class_id)] += 1
            self.class_segments[int(class_id)] += segments
            self.class_pixels[int(class_id)] += pixels
        for name in ("total", "void", "unlabelled"):
            self.pixels[name] += counts[f"{name}_px"]
        self.losses.update(counts["losses"])

    def as_json(self, taxonomy: Taxonomy) -> dict[str, Any]:
        """Return the sums as the card records them; every scored class is named, used or not."""
        return {
            "images": self.images,
            "images_without_segments": self.empty_images,
            "classes": [
                {
                    "id": one.id,
                    "name": one.name,
                    "kind": one.kind,
                    "color": list(one.color),
                    "images": self.class_images[one.id],
                    "segments": self.class_segments[one.id],
                    "pixels": self.class_pixels[one.id],
                }
                for one in taxonomy.scored_classes
            ],
            "pixels": {name: self.pixels[name] for name in ("total", "void", "unlabelled")},
            "losses": dict(sorted(self.losses.items())),
            "image_answers": {
                name: dict(sorted(counts.items())) for name, counts in sorted(self.answers.items())
            },
        }

    def merge(self, other: Statistics) -> None:
        """Add the sums of another file set."""
        self.images += other.images
        self.empty_images += other.empty_images
        for name in ("class_images", "class_segments", "class_pixels", "pixels", "losses"):
            getattr(self, name).update(getattr(other, name))
        merge_answers(self.answers, other.answers)
