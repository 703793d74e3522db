"""Text in the pixels of a DICOM image: what the header says, and a plain detector.

De-identification of attributes does not touch pixels. A warning is given where the header or the
kind of image says that text is likely, and where the detector sees lines of text.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from segstudio.errors import UsageError

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

Box = tuple[int, int, int, int]
"""x, y, width, height in pixels."""

_TEXT_MODALITIES: Final = {
    "US": "ultrasound devices write names into the picture",
    "IVUS": "ultrasound devices write names into the picture",
    "SC": "secondary captures are often screenshots",
    "OT": "pictures of other devices are often screenshots",
    "XC": "photographs may show names",
    "ES": "endoscopy systems write names into the picture",
    "DOC": "documents hold text",
}
_CAPTURES: Final = "1.2.840.10008.5.1.4.1.1.7"  # secondary capture, with its multi-frame kinds
_MIN_HEIGHT_PX, _MAX_HEIGHT_PX = 5, 48
_LETTERS_A_LINE: Final = 4
_LEAST_CONTRAST: Final = 60


@dataclass(frozen=True, slots=True)
class BurnedIn:
    """How likely text is in the pixels of a series, why, and where the detector saw it.

    `verdict` is "declared" (the header says so), "suspected", "declared absent" or "unlikely".
    """

    verdict: str
    reasons: tuple[str, ...]
    boxes: tuple[Box, ...] = ()

    @property
    def is_likely(self) -> bool:
        """Say whether somebody must look before the images are given away."""
        return self.verdict in ("declared", "suspected")


def assess(dataset: Dataset, boxes: tuple[Box, ...]) -> BurnedIn:
    """Judge a series by the header of one of its files and what the detector saw on some frames."""
    stated = str(dataset.get("BurnedInAnnotation") or "").upper()
    reasons = []
    if stated == "YES":
        reasons.append("the file says so (BurnedInAnnotation)")
    modality = str(dataset.get("Modality") or "")
    if modality in _TEXT_MODALITIES:
        reasons.append(_TEXT_MODALITIES[modality])
    sop_class = str(dataset.get("SOPClassUID") or "")
    if sop_class == _CAPTURES or sop_class.startswith(f"{_CAPTURES}."):
        reasons.append("it is a secondary capture")
    if "ConversionType" in dataset and modality not in _TEXT_MODALITIES:
        reasons.append("it was converted from another picture (ConversionType)")
    if boxes:
        reasons.append(f"the detector sees {len(boxes)} lines that look like text")
    if stated == "YES":
        return BurnedIn("declared", tuple(reasons), boxes)
    if boxes or (reasons and stated != "NO"):
        return BurnedIn("suspected", tuple(reasons), boxes)
    if stated == "NO":
        return BurnedIn("declared absent", ("the file says so (BurnedInAnnotation)",))
    return BurnedIn("unlikely", ())


def outside_regions(dataset: Dataset) -> tuple[Box, ...]:
    """Return the boxes around the ultrasound regions that a file states; none where it has none.

    What lies outside of all regions is the device's screen, where names are (PS3.3, C.8.5.5).
    """
    rows, columns = int(dataset.Rows), int(dataset.Columns)
    kept = np.zeros((rows, columns), bool)
    found = False
    for region in dataset.get("SequenceOfUltrasoundRegions") or ():
        try:
            left, top, right, bottom = (
                int(region[keyword].value)
                for keyword in ("RegionLocationMinX0", "RegionLocationMinY0",
                                "RegionLocationMaxX1", "RegionLocationMaxY1")
            )  # fmt: skip
        except (KeyError, TypeError, ValueError):
            continue
        if 0 <= left < right and 0 <= top < bottom:
            kept[top : bottom + 1, left : right + 1] = True
            found = True
    return _boxes_of(~kept) if found else ()


def detect_text(picture: npt.NDArray[np.uint8]) -> tuple[Box, ...]:
    """Return boxes around what looks like lines of text in a picture.

    Letters are small parts of one brightness that differ clearly from what is around them; four
    or more of like height in a row make a line. Bright on dark and dark on bright are looked for.

    Args:
        picture: (rows, columns) or (rows, columns, 3), 8 bits.
    """
    import cv2

    grey = picture if picture.ndim == 2 else picture.max(axis=2)
    boxes: list[Box] = []
    kernel = cv2.getStructuringElement(cv2.MORPH_RECT, (9, 9))
    for operation in (cv2.MORPH_TOPHAT, cv2.MORPH_BLACKHAT):
        strokes = cv2.morphologyEx(np.ascontiguousarray(grey), operation, kernel)
        binary = (strokes >= _LEAST_CONTRAST).astype(np.uint8)
        boxes += _lines(_letters(binary, np.asarray(grey)))
    return tuple(_padded(box, *grey.shape) for box in _merged(boxes))


def parse_box(text: str) -> Box:
    """Read X,Y,WIDTH,HEIGHT in pixels.

    >>> parse_box("0,0,512,40")
    (0, 0, 512, 40)

    Raises:
        UsageError: not four whole numbers that make a box.
    """
    parts = text.split(",")
    try:
        x, y, width, height = (int(part) for part in parts)
    except ValueError:
        raise UsageError(f"--mask-region takes X,Y,WIDTH,HEIGHT in pixels, not '{text}'.") from None
    if min(x, y) < 0 or min(width, height) < 1:
        raise UsageError(f"--mask-region {text} is no box: width and height are at least 1.")
    return x, y, width, height


def _letters(binary: npt.NDArray[np.uint8], grey: npt.NDArray[np.uint8]) -> list[Box]:
    import cv2

    count, labels, stats, _ = cv2.connectedComponentsWithStats(binary, connectivity=8)
    letters = []
    for number in range(1, count):
        x, y, width, height, area = (int(value) for value in stats[number])
        if not _MIN_HEIGHT_PX <= height <= _MAX_HEIGHT_PX or not 1 <= width <= 2 * height:
            continue
        if not 0.15 <= area / (width * height) <= 0.95 and width > 3:
            continue
        place = np.s_[y : y + height, x : x + width]
        inside = grey[place][labels[place] == number]
        # Letters have one brightness; anatomy and speckle do not.
        if float(np.percentile(inside, 90)) - float(np.percentile(inside, 50)) <= 24:
            letters.append((x, y, width, height))
    return letters


def _lines(letters: list[Box]) -> list[Box]:
    """Join letters of like height and foot that stand near each other."""
    lines: list[list[Box]] = []
    for letter in sorted(letters):
        x, y, _, height = letter
        for line in reversed(lines):
            last_x, last_y, last_width, last_height = line[-1]
            gap = x - (last_x + last_width)
            tall = max(height, last_height)
            same_foot = abs((y + height) - (last_y + last_height)) <= max(1, 0.2 * tall)
            if (
                -1 <= gap <= 1.2 * tall
                and same_foot
                and abs(height - last_height) <= max(1, 0.35 * tall)
            ):
                line.append(letter)
                break
        else:
            lines.append([letter])
    return [_around(line) for line in lines if len(line) >= _LETTERS_A_LINE]


def _around(boxes: list[Box]) -> Box:
    left, top = min(box[0] for box in boxes), min(box[1] for box in boxes)
    right = max(box[0] + box[2] for box in boxes)
    bottom = max(box[1] + box[3] for box in boxes)
    return left, top, right - left, bottom - top


def _merged(boxes: list[Box]) -> list[Box]:
    merged: list[Box] = []
    for box in sorted(set(boxes)):
        for at, other in enumerate(merged):
            if _overlap(box, other):
                merged[at] = _around([box, other])
                break
        else:
            merged.append(box)
    return merged


def _overlap(one: Box, other: Box) -> bool:
    return (
        one[0] < other[0] + other[2]
        and other[0] < one[0] + one[2]
        and one[1] < other[1] + other[3]
        and other[1] < one[1] + one[3]
    )


def _padded(box: Box, rows: int, columns: int) -> Box:
    x, y, width, height = box
    pad = max(2, height // 3)
    left, top = max(x - pad, 0), max(y - pad, 0)
    return left, top, min(x + width + pad, columns) - left, min(y + height + pad, rows) - top


def _boxes_of(mask: npt.NDArray[np.bool_]) -> tuple[Box, ...]:
    """Return boxes that cover a mask exactly: runs of equal rows, cut at their columns."""
    boxes: list[Box] = []
    top = 0
    for row in range(1, mask.shape[0] + 1):
        if row < mask.shape[0] and np.array_equal(mask[row], mask[top]):
            continue
        edges: npt.NDArray[Any] = np.flatnonzero(np.diff(np.r_[False, mask[top], False]))
        boxes += [
            (int(start), top, int(stop - start), row - top)
            for start, stop in zip(edges[::2], edges[1::2], strict=True)
        ]
        top = row
    return tuple(boxes)
