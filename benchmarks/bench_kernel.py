"""The kernel against the SDK's brush module, pycocotools, Pillow and OpenCV, on the same inputs."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from label_studio_sdk.converter.brush import decode_rle, mask2rle
from PIL import Image, ImageDraw
from pycocotools import mask as coco

from benchmarks.harness import Comparison, compare, finish, is_smoke
from benchmarks.kernel_inputs import blob, coloured_stream, noisy_edge
from segstudio import brush_rle, shapes
from segstudio.masks import Mask, iou


def main() -> int:
    """Run every comparison; 1 when a bar is missed."""
    scale, runs = (8, 3) if is_smoke() else (1, 7)
    side_px, height_px, width_px = 1024 // scale, 1080 // scale, 1920 // scale
    results: list[Comparison] = []

    for name, mask, decode_bar, encode_bar, dense_bar in (
        ("blob", blob(side_px, side_px), 100, 60, 15),
        ("noisy edge", noisy_edge(side_px, side_px), 200, 60, 30),
    ):
        image = mask.astype(np.uint8) * 255
        stream, runs_mask = mask2rle(image), Mask.from_dense(mask)
        assert brush_rle.decode(stream, side_px, side_px) == runs_mask
        assert brush_rle.encode(runs_mask) == stream
        results += [
            compare(
                f"decode to runs, {name} {side_px}x{side_px}",
                "SDK decode_rle",
                lambda stream=stream: decode_rle(stream),
                lambda stream=stream: brush_rle.decode(stream, side_px, side_px),
                bar=decode_bar,
                runs=runs,
            ),
            compare(
                f"encode from runs, {name} {side_px}x{side_px}",
                "SDK mask2rle",
                lambda image=image: mask2rle(image),
                lambda runs_mask=runs_mask: brush_rle.encode(runs_mask),
                bar=encode_bar,
                runs=runs,
            ),
            compare(
                f"encode from dense, {name} {side_px}x{side_px}",
                "SDK mask2rle",
                lambda image=image: mask2rle(image),
                lambda image=image: brush_rle.encode(image),
                bar=dense_bar,
                runs=runs,
            ),
        ]

    coloured, painted = coloured_stream(height_px, width_px)
    assert brush_rle.decode(coloured, height_px, width_px) == Mask.from_dense(painted)
    results.append(
        compare(
            f"decode to runs, old coloured {width_px}x{height_px}",
            "SDK decode_rle",
            lambda: decode_rle(coloured),
            lambda: brush_rle.decode(coloured, height_px, width_px),
            bar=300,
            runs=3,
        )
    )

    hd = Mask.from_dense(blob(height_px, width_px))
    hd_stream = brush_rle.encode(hd)

    def sdk_coco() -> object:
        image = decode_rle(hd_stream).reshape(height_px, width_px, 4)[:, :, 3]
        return coco.encode(np.asfortranarray(image > 0))

    assert hd.to_coco_rle() == sdk_coco()
    results += [
        compare(
            f"runs to COCO RLE, blob {width_px}x{height_px}",
            "SDK decode + pycocotools",
            sdk_coco,
            hd.to_coco_rle,
            bar=60,
            runs=runs,
        ),
        compare(
            f"stream to COCO RLE, blob {width_px}x{height_px}",
            "SDK decode + pycocotools",
            sdk_coco,
            lambda: brush_rle.decode(hd_stream, height_px, width_px).to_coco_rle(),
            runs=runs,
        ),
    ]
    for name, dense in (
        ("blob", hd.to_dense()),
        ("1 px stripes", np.arange(width_px) % 2 * np.ones((height_px, 1)) > 0),
        ("half of all pixels", np.random.default_rng(0).random((height_px, width_px)) < 0.5),
    ):
        mask = Mask.from_dense(dense)
        order = np.asfortranarray(dense)
        assert mask.to_coco_rle() == coco.encode(order)
        results.append(
            compare(
                f"runs to COCO RLE, {name} {width_px}x{height_px}",
                "pycocotools from a ready image",
                lambda order=order: coco.encode(order),
                mask.to_coco_rle,
                runs=runs,
            )
        )

    moved = hd.shift(9, 5)
    dense, dense_moved = hd.to_dense(), moved.to_dense()
    results.append(
        compare(
            f"IoU of two masks, {width_px}x{height_px}",
            "numpy",
            lambda: np.count_nonzero(dense & dense_moved) / np.count_nonzero(dense | dense_moved),
            lambda: iou(hd, moved),
            runs=runs,
        )
    )

    angle = np.linspace(0, 2 * np.pi, 400, endpoint=False)
    radius_px = side_px * (0.3 + 0.08 * np.sin(7 * angle))
    ring = side_px / 2 + np.column_stack([radius_px * np.cos(angle), radius_px * np.sin(angle)])

    def pillow() -> object:
        image = Image.new("1", (side_px, side_px))
        ImageDraw.Draw(image).polygon([tuple(point) for point in ring], fill=1)
        return image

    results += [
        compare(
            f"polygon of 400 points to a mask, {side_px}x{side_px}",
            "pycocotools frPyObjects",
            lambda: coco.frPyObjects([ring.ravel().tolist()], side_px, side_px),
            lambda: shapes.polygon_mask([ring], side_px, side_px),
            runs=runs,
        ),
        compare(
            f"polygon of 400 points to a mask, {side_px}x{side_px}",
            "Pillow",
            pillow,
            lambda: shapes.polygon_mask([ring], side_px, side_px),
            runs=runs,
        ),
    ]
    return finish(results)


if __name__ == "__main__":
    print(f"{Path(__file__).stem}: medians of interleaved runs; peer, ours, ratio")
    sys.exit(main())
