"""Exports on a Ray cluster: the same bytes, and a sentence where the disk is not shared."""

from pathlib import Path

import pytest

from exporters.semantic_png import SemanticPngExporter
from exporters.work_items import WorkItem, pack_item
from exporters.worker import RUN_FILE, Job, export_image
from segstudio.images import AnnotatedImage, ImageKey
from segstudio.plugins import ExportContext
from tests.exporters.projects import (
    TAXONOMY,
    annotation,
    box,
    brush,
    run,
    source_of,
    task,
    tree,
)  # fmt: skip


def test_a_cluster_writes_the_same_bytes(tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="the extra 'scale' is not installed")
    tasks = [
        task(n, f"/{n}.jpg", annotation(n, 5, [brush("a", "car", box(0, 0, n, 3))]))
        for n in range(1, 8)
    ]
    source = source_of(tmp_path, tasks)
    run("coco-panoptic", source, tmp_path / "one")
    run("coco-panoptic", source, tmp_path / "cluster", cluster="local", workers=2)
    one, cluster = tree(tmp_path / "one"), tree(tmp_path / "cluster")
    assert one == cluster


@pytest.mark.parametrize("content", [None, "of another run"])
def test_a_machine_that_does_not_see_the_output_stops_the_export(
    tmp_path: Path, content: str | None
) -> None:
    work_dir = tmp_path / ".segstudio" / "new"
    work_dir.mkdir(parents=True)
    if content is not None:
        (tmp_path / ".segstudio" / RUN_FILE).write_text(content)
    source = source_of(tmp_path / "tasks", [])
    context = ExportContext(work_dir, TAXONOMY, source.label_config, {})
    image = AnnotatedImage(1, ImageKey("image"), "/1.jpg", 8, 10, (), 1, 5, "1")
    job = Job(1, "1", "digest", "1", pack_item(WorkItem("", image)))
    outcome = export_image(SemanticPngExporter(), context, "token", job)
    assert "does not see" in outcome["stop"] and "--staging" in outcome["stop"]
    assert list(work_dir.iterdir()) == []
