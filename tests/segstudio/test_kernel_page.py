"""docs/kernel.md says what is so: its example runs, its taxonomy loads, its table is measured."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image, ImageDraw
from pycocotools import mask as coco

from segstudio import raster_reference
from segstudio.shapes import polygon_mask
from segstudio.taxonomy_yaml import parse_taxonomy

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "kernel.md").read_text(encoding="utf-8")
SIDE_PX = 1024


def block(language: str) -> str:
    [text] = re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)
    return str(text)


def test_the_example_runs_on_a_real_export(fixtures_dir: Path, tmp_path: Path) -> None:
    folder = fixtures_dir / "label_studio"
    shutil.copy(folder / "project-all-region-types.json", tmp_path / "export.json")
    shutil.copy(folder / "label-config.xml", tmp_path / "export.label-config.xml")
    done = subprocess.run(
        [sys.executable, "-c", block("python")],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 11
    assert all("(512, 512)" in line and "'keypoint_regions'" in line for line in lines)


def test_the_taxonomy_loads_and_means_what_its_comments_say() -> None:
    taxonomy = parse_taxonomy(block("yaml"))
    assert [one.name for one in taxonomy.classes] == ["Road", "Car", "Glare"]
    assert [one.name for one in taxonomy.scored_classes] == ["Road", "Car"]
    van = taxonomy.by_label("Van")
    assert van is not None and (van.name, van.train_id) == ("Car", 13)
    assert taxonomy.is_void_label("Do not use") and taxonomy.is_void_label("Glare")


def star() -> np.ndarray[Any, np.dtype[np.float64]]:
    angle = np.linspace(0, 2 * np.pi, 400, endpoint=False)
    radius_px = SIDE_PX * (0.3 + 0.08 * np.sin(7 * angle))
    return SIDE_PX / 2 + np.column_stack([radius_px * np.cos(angle), radius_px * np.sin(angle)])


def by_pycocotools(ring: Any) -> Any:
    return coco.decode(coco.frPyObjects([ring.ravel().tolist()], SIDE_PX, SIDE_PX))[..., 0] > 0


def by_pillow(ring: Any) -> Any:
    image = Image.new("1", (SIDE_PX, SIDE_PX))
    ImageDraw.Draw(image).polygon([tuple(point) for point in ring], fill=1)
    return np.asarray(image)


def by_opencv(ring: Any) -> Any:
    image = np.zeros((SIDE_PX, SIDE_PX), np.uint8)
    cv2.fillPoly(image, [np.round(ring).astype(np.int32)], 1)
    return image > 0


def by_segstudio(ring: Any) -> Any:
    return polygon_mask([ring], SIDE_PX, SIDE_PX).to_dense()


@pytest.mark.parametrize(
    ("name", "fill"),
    [
        ("segstudio", by_segstudio),
        ("pycocotools", by_pycocotools),
        ("Pillow", by_pillow),
        ("OpenCV", by_opencv),
    ],
)
def test_the_pixels_that_libraries_differ_by_are_as_the_page_says(
    name: str, fill: Callable[[Any], Any]
) -> None:
    row = next(line for line in PAGE.splitlines() if line.startswith(f"| {name}"))
    said_px = [int(cell.replace(",", "")) for cell in re.findall(r"\| ([\d,]+) (?=\|)", row)]
    ring = star()
    edges = np.hstack([ring, np.roll(ring, -1, axis=0)])
    exact = raster_reference.fill_polygon(edges, SIDE_PX, SIDE_PX)
    assert f"{exact.sum():,} pixels" in PAGE
    drawn = fill(ring)
    counts_px = [(drawn != exact).sum(), (drawn & ~exact).sum(), (exact & ~drawn).sum()]
    # Other versions of the libraries may draw some pixels otherwise.
    assert said_px == pytest.approx(counts_px, rel=0.1, abs=10 if said_px[0] else 0)
