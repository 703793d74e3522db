"""nnU-Net v2: a raw data set that `nnUNetv2_plan_and_preprocess` takes.

Layout: `Dataset<ID>_<Name>/dataset.json`, `imagesTr/<case>_0000.png`, `labelsTr/<case>.png`,
`imagesTs/` and `labelsTs/` for the split test, and `splits_final.json` where images are of the
split val. Label values are consecutive: 0 is background, which unlabelled pixels are, then the
classes by their ids; VOID pixels have the highest one, which nnU-Net calls "ignore", where the
taxonomy can mean VOID at all. Images are written anew as PNG, all with the same channels, turned
as browsers show them. Source: nnUNet, documentation/dataset_format.md and ignore_label.md.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

import numpy as np

from exporters.files import write_bytes, write_json
from exporters.options import SPLIT_OPTIONS, check_options, image_split
from exporters.png import grey8_png, grey16_png
from exporters.records import image_record, scene_of
from exporters.semantic_png import label_map_losses
from segstudio.errors import UsageError
from segstudio.images import AnnotatedImage
from segstudio.plugins import ExportContext
from segstudio.taxonomy import SegmentClass, Taxonomy

_OPTIONS: Final = {
    "channels": ("rgb", "grey"),
    "dataset_id": (),
    "dataset_name": (),
    **SPLIT_OPTIONS,
}
_CHANNELS: Final = {"rgb": ("R", "G", "B"), "grey": ("grey",)}
_BACKGROUND: Final = "background"
_IGNORE: Final = "ignore"
_NOT_IN_NAME: Final = re.compile(r"[^A-Za-z0-9]+")
_TEST: Final = "test"
_VAL: Final = "val"


class NnunetExporter:
    """Writes nnU-Net v2 raw data sets."""

    name = "nnunet"
    summary = "nnU-Net v2: imagesTr and labelsTr as PNG, dataset.json, splits"
    next_step = "Export with --images copy, so that imagesTr is filled; move the Dataset folder "\
        "into nnUNet_raw, and splits_final.json, if there is one, into nnUNet_preprocessed's "\
        "folder of the data set."  # fmt: skip

    def prepare(self, options: Mapping[str, str], taxonomy: Taxonomy) -> dict[str, str]:
        """Check the options, and that no class has a name that nnU-Net keeps for itself."""
        checked = check_options(options, _OPTIONS, self.name)
        number = checked.setdefault("dataset_id", "1")
        if not re.fullmatch(r"\d{1,3}", number) or int(number) == 0:
            raise UsageError(f"The option dataset_id is '{number}'; it runs from 1 to 999.")
        for one in taxonomy.scored_classes:
            if one.name.lower() == _IGNORE:
                raise UsageError(
                    f'The class "{one.name}" has the name that nnU-Net keeps for VOID; mark it as '
                    "`ignore: true` in the taxonomy, or rename it."
                )
        return checked

    def write_image(self, image: AnnotatedImage, context: ExportContext) -> dict[str, Any]:
        """Write the label map of one image."""
        scene, options = scene_of(image, context), context.options
        values = label_values(context.taxonomy)
        by_segment = np.array([0, *(values[one.class_id] for one in scene.segments)], np.uint16)
        labels = by_segment[scene.instance_map()]
        labels[scene.void_mask.to_dense()] = len(_labels(context.taxonomy)) - 1
        is_wide = len(_labels(context.taxonomy)) > 256
        split = image_split(image, options)
        part = "Ts" if split == _TEST else "Tr"
        root = _folder(context)
        file = f"{root}/labels{part}/{image.file_stem}.png"
        content = grey16_png(labels) if is_wide else grey8_png(labels.astype(np.uint8))
        write_bytes(context.out_dir / file, content)
        return image_record(
            image,
            [file],
            split=split,
            image_file=f"{root}/images{part}/{image.file_stem}_0000.png",
            image_as_png=options.get("channels", "rgb"),
            losses=label_map_losses(scene, context.taxonomy),
        )

    def finish(self, records: Iterable[dict[str, Any]], context: ExportContext) -> None:
        """Write dataset.json and, where there is a split val, splits_final.json."""
        cases: dict[str, list[str]] = {"train": [], _VAL: [], _TEST: []}
        for record in records:
            # A split of another name is training data as well: nnU-Net has no other place for it.
            split = record["split"] if record["split"] in cases else "train"
            cases[split].append(record["stem"])
        root = context.out_dir / _folder(context)
        channels = _CHANNELS[context.options.get("channels", "rgb")]
        write_json(
            root / "dataset.json",
            {
                "channel_names": {str(at): name for at, name in enumerate(channels)},
                "labels": _labels(context.taxonomy),
                "numTraining": len(cases["train"]) + len(cases[_VAL]),
                "file_ending": ".png",
                "name": context.taxonomy.name,
                "class_ids": {one.name: one.id for one in context.taxonomy.scored_classes},
            },
        )
        if cases[_VAL]:
            fold = {"train": sorted(cases["train"]), "val": sorted(cases[_VAL])}
            write_json(root / "splits_final.json", [fold])


def label_values(taxonomy: Taxonomy) -> dict[int, int]:
    """Return the value of each class id in the label maps: from 1, in the order of the ids.

    A class that is called background is 0, as are unlabelled pixels.
    """
    classes: list[SegmentClass] = sorted(taxonomy.scored_classes, key=lambda one: one.id)
    own = [one for one in classes if one.name.lower() != _BACKGROUND]
    values = {one.id: number for number, one in enumerate(own, start=1)}
    return {one.id: values.get(one.id, 0) for one in classes}


def _labels(taxonomy: Taxonomy) -> dict[str, int]:
    """Return nnU-Net's table of labels; "ignore", where VOID can be, is the highest."""
    values = label_values(taxonomy)
    labels = {_BACKGROUND: 0}
    labels |= {one.name: values[one.id] for one in taxonomy.scored_classes if values[one.id]}
    labels = dict(sorted(labels.items(), key=lambda item: item[1]))
    if taxonomy.void_labels or any(one.ignore for one in taxonomy.classes):
        labels[_IGNORE] = len(labels)
    return labels


def _folder(context: ExportContext) -> str:
    name = context.options.get("dataset_name") or context.taxonomy.name
    safe = _NOT_IN_NAME.sub("", name)[:50] or "Segments"
    return f"Dataset{int(context.options.get('dataset_id', '1')):03d}_{safe}"
