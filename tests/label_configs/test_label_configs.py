"""The ready-made interfaces: valid for us, for the SDK, for the real server, and documented."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from label_configs import list_domains, load_label_config, taxonomy_path
from label_configs.pictures import SCENES, draw_all
from segstudio.dicom_label_config import windowed_label_config
from segstudio.errors import UsageError
from segstudio.label_config import parse_label_config, validate_with_sdk
from segstudio.taxonomy import check_taxonomy, load_taxonomy

DOMAINS = list_domains()
CITYSCAPES = {  # label id -> training id, as its own scripts list them
    **{7: 0, 8: 1, 11: 2, 12: 3, 13: 4, 17: 5, 19: 6, 20: 7, 21: 8, 22: 9},
    **{23: 10, 24: 11, 25: 12, 26: 13, 27: 14, 28: 15, 31: 16, 32: 17, 33: 18},
}


def test_the_ready_domains_are_there() -> None:
    assert set(DOMAINS) >= {"aerial", "demo", "driving", "medical", "sequences"}
    with pytest.raises(ValueError, match="no label config for the domain"):
        load_label_config("../demo")


@pytest.mark.parametrize("domain", DOMAINS)
def test_interface_and_taxonomy_fit_each_other(domain: str) -> None:
    config = parse_label_config(load_label_config(domain))
    assert check_taxonomy(load_taxonomy(taxonomy_path(domain)), config) == []
    validate_with_sdk(config.xml)


@pytest.mark.parametrize("domain", DOMAINS)
def test_every_prompt_label_has_a_brush_to_land_on(domain: str) -> None:
    config = parse_label_config(load_label_config(domain))
    (brush,) = config.controls_of("brush")
    smart = {control.kind: control.label_names for control in config.smart_controls}
    assert smart == {"keypoint": brush.label_names, "rectangle": brush.label_names}


@pytest.mark.parametrize("domain", DOMAINS)
def test_annotators_can_say_what_was_hard(domain: str) -> None:
    config = parse_label_config(load_label_config(domain))
    (ambiguous,) = config.controls_of("choices")
    notes = [(one.name, one.per_region) for one in config.controls_of("textarea")]
    assert (ambiguous.name, ambiguous.per_region) == ("ambiguous", True)
    assert notes == [("region_notes", True), ("notes", False)]


@pytest.mark.parametrize("domain", DOMAINS)
def test_every_class_has_a_rule_and_the_colour_of_its_label(domain: str) -> None:
    config = parse_label_config(load_label_config(domain))
    taxonomy = load_taxonomy(taxonomy_path(domain))
    assert len({one.color for one in taxonomy.classes}) == len(taxonomy.classes)
    assert {one.kind for one in taxonomy.classes} == {"thing", "stuff"}
    for one in taxonomy.classes:
        assert len(one.boundary_rule) > 20
        assert config.label_colors[one.name] == "#{:02X}{:02X}{:02X}".format(*one.color)


def test_sequences_ask_for_a_track_id_that_checks_and_exports_know() -> None:
    (number,) = parse_label_config(load_label_config("sequences")).controls_of("number")
    assert (number.name, number.per_region, number.to_names) == ("track_id", True, ("image",))


def test_driving_has_the_ids_of_cityscapes() -> None:
    taxonomy = load_taxonomy(taxonomy_path("driving"))
    assert {one.id: one.train_id for one in taxonomy.scored_classes} == CITYSCAPES


WINDOWS = ("abdomen", "liver")


def windowed_xml() -> str:
    path = taxonomy_path("medical").with_name("label-config-windows.xml")
    return path.read_text(encoding="utf-8")


def test_the_interface_of_two_windows_is_what_the_import_writes() -> None:
    xml = windowed_xml()
    assert xml == windowed_label_config(load_label_config("medical"), WINDOWS)
    config = parse_label_config(xml)
    assert check_taxonomy(load_taxonomy(taxonomy_path("medical")), config) == []
    assert [image.value_key for image in config.images] == ["image_abdomen", "image_liver"]
    assert {name for control in config.controls for name in control.to_names} == {"image"}
    validate_with_sdk(xml)


@pytest.mark.parametrize("images", [0, 2])
def test_windows_need_an_interface_of_one_image(images: int) -> None:
    tags = "".join(f'<Image name="i{at}" value="$i{at}"/>' for at in range(images))
    with pytest.raises(UsageError, match=f"has {images} Image tags"):
        windowed_label_config(f"<View>{tags}</View>", WINDOWS)


def test_the_real_server_takes_two_windows(project_factory: Callable[..., Any]) -> None:
    project = project_factory(windowed_xml(), title="config medical, two windows")
    stored = parse_label_config(project.label_config)
    assert stored.images == parse_label_config(windowed_xml()).images
    assert stored.controls == parse_label_config(windowed_xml()).controls


def test_medical_ids_have_no_gap() -> None:
    taxonomy = load_taxonomy(taxonomy_path("medical"))
    ids = [one.id for one in taxonomy.scored_classes]
    assert ids == list(range(1, len(ids) + 1))


@pytest.mark.parametrize("domain", DOMAINS)
def test_readme_names_every_class_and_shows_the_picture(domain: str) -> None:
    readme = taxonomy_path(domain).with_name("README.md").read_text(encoding="utf-8")
    assert "](classes.png)" in readme
    for one in load_taxonomy(taxonomy_path(domain)).classes:
        assert f"| {one.id} | {one.name} |" in readme


def test_pictures_are_small_and_what_the_script_draws(tmp_path: Path) -> None:
    for drawn in draw_all(tmp_path):
        committed = taxonomy_path(drawn.parent.name).with_name("classes.png")
        assert committed.stat().st_size < 60_000
        with Image.open(drawn) as new, Image.open(committed) as old:
            assert new.size == old.size
            colors = {color for _, color in old.convert("RGB").getcolors(1 << 24)}
        for one in load_taxonomy(taxonomy_path(drawn.parent.name)).classes:
            assert one.color in colors
    assert set(SCENES) == set(DOMAINS)


@pytest.mark.parametrize("domain", DOMAINS)
def test_the_real_server_takes_it(domain: str, project_factory: Callable[..., Any]) -> None:
    xml = load_label_config(domain)
    project = project_factory(xml, title=f"config {domain}")
    stored = parse_label_config(project.label_config)
    ours = parse_label_config(xml)
    assert stored.controls == ours.controls
    assert stored.images == ours.images
