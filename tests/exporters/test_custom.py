import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image
from pycocotools import mask as coco_mask

from exporters.custom_schema import parse_schema, safe_part
from segstudio.errors import SegstudioError, UsageError
from segstudio.taxonomy import SegmentClass, Taxonomy
from tests.exporters.projects import annotation, box, brush, run, source_of, task, tree

ROOT = Path(__file__).resolve().parents[2]
CONFIG = """<View><Image name="image" value="$image"/>
<BrushLabels name="brush" toName="image"><Label value="car"/><Label value="truck"/>
<Label value="road"/><Label value="sky"/><Label value="glare"/></BrushLabels></View>"""
TAXONOMY = Taxonomy(
    name="streets",
    classes=(
        SegmentClass(10, "car", color=(1, 2, 3)),
        SegmentClass(11, "truck"),
        SegmentClass(20, "road", kind="stuff", color=(128, 64, 128)),
        SegmentClass(21, "sky", kind="stuff"),
        SegmentClass(30, "glare", ignore=True),
    ),
)
REGIONS = (
    brush("a", "car", box(0, 0, 2, 2)),
    brush("b", "truck", box(0, 4, 2, 6)),
    brush("c", "car", box(3, 0, 5, 2)),
    brush("d", "road", box(6, 0, 8, 10)),
    brush("e", "sky", box(0, 8, 2, 10)),
    brush("f", "glare", box(3, 8, 5, 10)),
)
CLASSES = """
classes:
  - {id: 1, name: vehicle, from: [car, truck], color: "#dc143c"}
  - {id: 2, name: ground, from: [road, sky]}
"""


def export(tmp_path: Path, schema: str, *, expect: int = 1, **data: Any) -> Path:
    (tmp_path / "schema.yaml").write_text(schema, encoding="utf-8")
    tasks = [
        task(n, f"/data/upload/1/photo{n}.jpg", annotation(n, 5, REGIONS), **data)
        for n in range(1, expect + 1)
    ]
    out = tmp_path / "out"
    run(
        "custom",
        source_of(tmp_path / "source", tasks, CONFIG),
        out,
        taxonomy=TAXONOMY,
        options={"schema": str(tmp_path / "schema.yaml")},
    )
    return out


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


def scene(vehicles: tuple[int, int, int], ground: int, void: int, background: int) -> np.ndarray:
    values = np.full((8, 10), background)
    values[0:2, 0:2], values[0:2, 4:6], values[3:5, 0:2] = vehicles
    values[6:8], values[0:2, 8:10], values[3:5, 8:10] = ground, ground, void
    return values


@pytest.mark.parametrize(
    ("file", "expected"),
    [
        ("{type: label-map, path: '{stem}.png'}", scene((1, 1, 1), 2, 255, 0)),
        ("{type: label-map, path: '{stem}.png', dtype: uint16}", scene((1, 1, 1), 2, 255, 0)),
        ("{type: instance-map, path: '{stem}.png'}", scene((1, 2, 3), 0, 0, 0)),
        ("{type: instance-map, path: '{stem}.png', stuff: number}", scene((1, 2, 3), 4, 0, 0)),
        (
            "{type: instance-map, path: '{stem}.png', value: class * 1000 + number, dtype: uint16}",
            scene((1000, 1001, 1002), 2, 0, 0),
        ),
        (
            "{type: instance-map, path: '{stem}.png', value: class*10+number, first_number: 1}",
            scene((11, 12, 13), 2, 0, 0),
        ),
    ],
)
def test_a_map_holds_what_the_schema_says(tmp_path: Path, file: str, expected: Any) -> None:
    out = export(tmp_path, f"{CLASSES}\nfiles: [{file}]")
    assert np.array_equal(pixels(out / "photo1.png"), expected)


def test_npy_and_24_bit_instances_hold_large_values(tmp_path: Path) -> None:
    files = """
files:
  - {type: instance-map, path: "{stem}.npy", value: class * 100000 + number, dtype: int32}
  - {type: instance-map, path: "{stem}.png", value: class * 100000 + number, dtype: rgb24}
"""
    out = export(tmp_path, CLASSES + files)
    expected = scene((100_000, 100_001, 100_002), 2, 0, 0)
    assert np.array_equal(np.load(out / "photo1.npy"), expected)
    rgb = pixels(out / "photo1.png").astype(np.int64)
    assert np.array_equal(rgb @ np.array([1, 256, 65536]), expected)


def test_two_images_never_write_one_file(tmp_path: Path) -> None:
    schema = (
        CLASSES
        + """
files:
  - {type: label-map, path: "{stem}.png"}
  - {type: masks, path: "{stem}_{number}.png"}
"""
    )
    (tmp_path / "schema.yaml").write_text(schema, encoding="utf-8")
    names = ("a.jpg", "a_1.jpg")  # the first one's first object is called like the second
    tasks = [task(n, name, annotation(n, 5, REGIONS)) for n, name in enumerate(names)]
    with pytest.raises(SegstudioError, match=r"both written to a_1\.png"):
        run("custom", source_of(tmp_path / "source", tasks, CONFIG), tmp_path / "out",
            taxonomy=TAXONOMY, options={"schema": str(tmp_path / "schema.yaml")})  # fmt: skip


def test_colours_and_palette_are_the_schemas(tmp_path: Path) -> None:
    files = """
files:
  - {type: color-map, path: "color/{stem}.png"}
  - {type: label-map, path: "label/{stem}.png"}
"""
    out = export(tmp_path, CLASSES + files)
    color = pixels(out / "color/photo1.png")
    assert color[0, 0].tolist() == [220, 20, 60] and color[7, 0].tolist() == [128, 64, 128]
    assert color[3, 8].tolist() == [0, 0, 0]
    with Image.open(out / "label/photo1.png") as image:
        assert image.convert("RGB").getpixel((0, 0)) == (220, 20, 60)


def test_masks_one_a_segment_and_one_a_class(tmp_path: Path) -> None:
    files = """
files:
  - {type: masks, path: "s/{stem}/{number}-{class}.png"}
  - {type: masks, per: class, path: "c/{class_id}/{stem}.png", foreground: 1}
"""
    out = export(tmp_path, CLASSES + files)
    assert sorted(path.name for path in (out / "s/photo1").iterdir()) == [
        "1-vehicle.png",
        "2-vehicle.png",
        "3-vehicle.png",
        "4-ground.png",
    ]
    assert np.array_equal(pixels(out / "s/photo1/2-vehicle.png") == 255, box(0, 4, 2, 6))
    assert np.array_equal(pixels(out / "c/1/photo1.png"), scene((1, 1, 1), 0, 0, 0))


@pytest.mark.parametrize(
    ("others", "sky"), [("unlabelled", 0), ("void", 255)]
)  # fmt: skip
def test_classes_left_out_follow_the_rule_and_are_counted(
    tmp_path: Path, others: str, sky: int
) -> None:
    schema = f"""
classes: [{{id: 1, name: car}}, {{id: 2, name: road}}]
others: {others}
files: [{{type: label-map, path: "{{stem}}.png"}}]
"""
    out = export(tmp_path, schema)
    found = pixels(out / "photo1.png")
    assert found[0, 8] == sky and found[0, 4] == sky and found[0, 0] == 1
    losses = json.loads((out / "dataset.json").read_text())["losses"]
    assert losses["segments_outside_the_schema"] == 2


def example() -> str:
    text = (ROOT / "docs/custom-format.md").read_text(encoding="utf-8")
    return re.findall(r"```yaml\n(.*?)```", text, flags=re.DOTALL)[0]


def test_the_documents_example_runs_as_it_stands(tmp_path: Path) -> None:
    out = export(tmp_path, example(), expect=3, video="clip-1")
    (split,) = {path.name for path in out.iterdir() if path.is_dir() and path.name[0] != "."}
    assert (out / f"{split}.txt").read_text() == "photo1\nphoto2\nphoto3\n"
    meta = json.loads((out / split / "meta/photo1.json").read_text())
    assert meta["file"] == "photo1.jpg" and meta["size"] == [10, 8]
    first = meta["objects"][0]
    assert first["class"] == "vehicle" and first["bbox"] == [0, 0, 2, 2]
    assert np.array_equal(coco_mask.decode(first["mask"]).astype(bool), box(0, 0, 2, 2))
    ids = pixels(out / split / "instances/photo1.png")
    assert sorted(np.unique(ids).tolist()) == [0, 2, 1000, 1001, 1002]


def test_a_data_set_wide_json_streams_the_segments_of_all_images(tmp_path: Path) -> None:
    files = """
files:
  - type: text
    per: dataset
    path: all.json
    segments: true
    template: >
      {"classes": [{% for one in classes %}{{ one.name | tojson }}{{ "," if not loop.last }}{% endfor %}],
       "images": [{% for image in images %}
        {"id": {{ image.task_id }}, "areas": {{ image.segments | map(attribute="area_px") | list | tojson }}}
        {{- "," if not loop.last }}{% endfor %}]}
"""  # noqa: E501
    out = export(tmp_path, CLASSES + files, expect=2)
    assert json.loads((out / "all.json").read_text()) == {
        "classes": ["vehicle", "ground"],
        "images": [{"id": 1, "areas": [4, 4, 4, 24]}, {"id": 2, "areas": [4, 4, 4, 24]}],
    }


def test_a_field_of_the_task_chooses_the_split(tmp_path: Path) -> None:
    files = """
splits: {field: part, values: {held out: test}}
files: [{type: label-map, path: "{split}/{stem}.png"}]
"""
    out = export(tmp_path, CLASSES + files, part="held out")
    assert (out / "test/photo1.png").exists()


def test_the_same_schema_gives_the_same_bytes_and_another_one_is_taken_up(tmp_path: Path) -> None:
    file = 'files: [{type: label-map, path: "{stem}.png"}]'
    once = tree(export(tmp_path, CLASSES + file))
    assert tree(export(tmp_path, CLASSES + file)) == once
    out = export(tmp_path, CLASSES.replace("id: 1", "id: 5") + file)
    assert pixels(out / "photo1.png")[0, 0] == 5


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ("[", "is no YAML"),
        ("files: []", "lacks 'classes'"),
        (f"{CLASSES}\nfiles: [{{type: voxels, path: '{{stem}}.png'}}]", "choose one of label-map"),
        (f"{CLASSES}\nfile: 1\nfiles: []", "has the key 'file'"),
        (f"{CLASSES}\nfiles: []", "not a list with at least one"),
        (f"{CLASSES}\nfiles: [{{type: label-map, path: 'a.png'}}]", "needs {stem}"),
        (f"{CLASSES}\nfiles: [{{type: label-map, path: '../{{stem}}.png'}}]", "leaves the output"),
        (f"{CLASSES}\nfiles: [{{type: label-map, path: '/{{stem}}.png'}}]", "leaves the output"),
        (f"{CLASSES}\nfiles: [{{type: label-map, path: '{{who}}/{{stem}}.png'}}]", "has {who}"),
        (
            f"{CLASSES}\nfiles: [{{type: label-map, path: '{{stem}}.jpg'}}]",
            "written as .npy or .png",
        ),
        (f"{CLASSES}\nfiles: [{{type: label-map, path: '{{split}}/{{stem}}.png'}}]", "no 'splits'"),
        (
            "classes: [{id: 1, name: car}]\nfiles: [{type: label-map, path: '{stem}.png'}]",
            "says nothing about truck, road, sky",
        ),
        (
            "classes: [{id: 1, name: bus}]\nfiles: [{type: label-map, path: '{stem}.png'}]",
            "takes 'bus', which is no class",
        ),
        (
            "classes: [{id: 1, name: a, from: car}, {id: 1, name: b, from: truck}]\n"
            "others: void\nfiles: [{type: label-map, path: '{stem}.png'}]",
            "id 1 is both 'a' and 'b'",
        ),
        (
            "classes: [{id: 1, name: a, from: car}, {id: 2, name: b, from: car}]\n"
            "others: void\nfiles: [{type: label-map, path: '{stem}.png'}]",
            "'car' becomes 'a' and 'b'",
        ),
        (
            "classes: [{id: 300, name: car}]\nothers: void\n"
            "files: [{type: label-map, path: '{stem}.png'}]",
            "300 does not fit the uint8",
        ),
        (
            f"{CLASSES}\nfiles: [{{type: label-map, path: '{{stem}}.png'}}, "
            "{type: color-map, path: '{stem}.png'}]",
            "two files have the path",
        ),
        (
            f"{CLASSES}\nfiles: [{{type: text, path: '{{stem}}.txt', template: '{{% for %}}'}}]",
            "is no Jinja",
        ),
        (
            f"{CLASSES}\nsplits: {{shares: {{a: 0}}}}\n"
            "files: [{type: label-map, path: '{stem}.png'}]",
            "share of 'a' is 0",
        ),
    ],
)
def test_a_schema_that_cannot_work_is_refused_before_anything_is_written(
    tmp_path: Path, schema: str, words: str
) -> None:
    with pytest.raises(UsageError, match=re.escape(words)):
        export(tmp_path, schema)
    assert not (tmp_path / "out").exists()


def test_without_a_schema_the_sentence_says_how_to_give_one(tmp_path: Path) -> None:
    source = source_of(tmp_path, [task(1, "a.jpg", annotation(1, 5, REGIONS))], CONFIG)
    with pytest.raises(UsageError, match="--option schema=FILE"):
        run("custom", source, tmp_path / "out", taxonomy=TAXONOMY)


@pytest.mark.parametrize(
    ("file", "words"),
    [
        ("{type: instance-map, path: '{stem}.png', value: class*2+number}", "cannot tell them"),
        ("{type: instance-map, path: '{stem}.png', value: class*1000+number}", "1000 does not fit"),
        ("{type: instance-map, path: '{stem}.png', stuff: class}", "have the instance value 2"),
        ("{type: instance-map, path: '{stem}.png', first_number: 0}", "the instance value 0"),
        (
            "{type: label-map, path: '{stem}-1.png'}, {type: masks, path: '{stem}-{number}.png'}",
            "Two files of the image are named 'photo1-1.png'",
        ),
        ("{type: text, path: '{stem}.json', template: '{'}", "does not give JSON"),
        ("{type: text, path: '{stem}.txt', template: '{{ nobody }}'}", "'nobody' is undefined"),
        ("{type: text, path: '{stem}.txt', template: '{{ 1 / 0 }}'}", "cannot be filled"),
        ("{type: text, path: '{stem}.txt', template: '{{ image.__class__.mro() }}'}", "unsafe"),
    ],
)  # fmt: skip
def test_an_image_that_the_schema_cannot_hold_is_a_sentence(
    tmp_path: Path, file: str, words: str
) -> None:
    with pytest.raises(SegstudioError, match=re.escape(words)):
        export(tmp_path, f"{CLASSES}\nfiles: [{file}]")


@pytest.mark.parametrize(
    ("text", "part"), [("../../x", "x"), ("a/b", "a_b"), ("", "_"), ("Ölfleck 2", "Ölfleck_2")]
)
def test_a_name_becomes_one_part_of_a_path(text: str, part: str) -> None:
    assert safe_part(text) == part


def test_the_example_parses_against_the_taxonomy_it_names() -> None:
    schema = parse_schema(example(), TAXONOMY)
    assert [one.name for one in schema.classes] == ["vehicle", "ground"]
    assert yaml.safe_load(example())["others"] == "unlabelled"
