"""A labelling interface derived from stored annotations, for export files that came without."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final
from xml.sax.saxutils import quoteattr

_TAGS: Final = {
    "brushlabels": "BrushLabels",
    "bitmasklabels": "BitmaskLabels",
    "polygonlabels": "PolygonLabels",
    "rectanglelabels": "RectangleLabels",
    "ellipselabels": "EllipseLabels",
    "keypointlabels": "KeyPointLabels",
    "labels": "Labels",
    "brush": "Brush",
    "bitmask": "Bitmask",
    "polygon": "Polygon",
    "rectangle": "Rectangle",
    "ellipse": "Ellipse",
    "keypoint": "KeyPoint",
}
_IMAGE_ENDINGS: Final = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff")


def infer_label_config(raw_tasks: Iterable[Any]) -> str | None:
    """Return the XML of an interface that holds every control and label that regions use.

    Controls and labels are sorted by name, so that the order of the tasks does not matter; the
    image is the first text of `data` that looks like one. None when there are no regions.

    >>> print(infer_label_config([{"data": {"image": "a.jpg"}, "annotations": [{"result": [
    ...     {"type": "brushlabels", "from_name": "brush", "to_name": "img",
    ...      "value": {"brushlabels": ["Car"]}}]}]}]))
    <View>
      <Image name="img" value="$image"/>
      <BrushLabels name="brush" toName="img">
        <Label value="Car"/>
      </BrushLabels>
    </View>
    """
    controls: dict[str, tuple[str, str]] = {}
    labels: dict[str, set[str]] = {}
    image_key: str | None = None
    for raw in raw_tasks:
        if not isinstance(raw, Mapping):
            continue
        if image_key is None:
            image_key = _image_key(raw.get("data"))
        for region in _regions(raw):
            kind, name, target = (region.get(key) for key in ("type", "from_name", "to_name"))
            if not (isinstance(kind, str) and isinstance(name, str) and isinstance(target, str)):
                continue
            if kind not in _TAGS:
                continue
            # A mask stored under a key-point type is a trap of the data, not a control's kind.
            if name not in controls or controls[name][0] == "keypointlabels":
                controls[name] = (kind, target)
            value = region.get("value")
            found = value.get(kind) if isinstance(value, Mapping) else None
            if isinstance(found, list):
                labels.setdefault(name, set()).update(x for x in found if isinstance(x, str))
    if not controls:
        return None
    return _xml(controls, labels, image_key or "image")


def _regions(raw: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    for group in ("annotations", "predictions"):
        for one in raw.get(group) or ():
            result = one.get("result") if isinstance(one, Mapping) else None
            for region in result if isinstance(result, list) else ():
                if isinstance(region, Mapping):
                    yield region


def _image_key(data: Any) -> str | None:
    if not isinstance(data, Mapping):
        return None
    texts = {key: value for key, value in data.items() if isinstance(value, str)}
    for key, value in texts.items():
        if value.lower().split("?")[0].endswith(_IMAGE_ENDINGS) or value.startswith("data:image/"):
            return str(key)
    return "image" if "image" in texts else None


def _xml(
    controls: Mapping[str, tuple[str, str]], labels: Mapping[str, set[str]], image_key: str
) -> str:
    lines = ["<View>"]
    for target in sorted({target for _, target in controls.values()}):
        lines.append(f"  <Image name={quoteattr(target)} value={quoteattr('$' + image_key)}/>")
    for name, (kind, target) in sorted(controls.items()):
        head = f"  <{_TAGS[kind]} name={quoteattr(name)} toName={quoteattr(target)}"
        own = sorted(labels.get(name, ()))
        if not own:
            lines.append(f"{head}/>")
            continue
        lines.append(f"{head}>")
        lines += [f"    <Label value={quoteattr(label)}/>" for label in own]
        lines.append(f"  </{_TAGS[kind]}>")
    lines.append("</View>")
    return "\n".join(lines)
