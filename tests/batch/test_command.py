"""The labels commands, as they are called."""

import json

import pytest
from click.testing import CliRunner

from segstudio.cli import main
from segstudio.client import connect

RENAMED = (
    '<View><Image name="image" value="$image"/><BrushLabels name="brush" toName="image">'
    '<Label value="Auto"/></BrushLabels></View>'
)
TAXONOMY = """
name: streets
classes:
  - {id: 1, name: Auto, kind: thing, color: "#ff0000", boundary_rule: "Mirrors belong to it."}
"""


@pytest.fixture
def export(fixtures_dir):
    return str(fixtures_dir / "label_studio" / "project-all-region-types.json")


@pytest.fixture
def run(monkeypatch):
    for name in ("LABEL_STUDIO_URL", "LABEL_STUDIO_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    return lambda *arguments: CliRunner().invoke(main, ["labels", *map(str, arguments)])


def test_a_real_export_uses_only_labels_that_its_interface_has(run, export, fixtures_dir):
    config = fixtures_dir / "label_studio" / "label-config.xml"
    result = run("check", export, "--label-config", config, "--strict")
    assert result.exit_code == 0
    assert "10 annotations of 5 tasks" in result.stdout
    assert result.stdout.rstrip().endswith("every label in use is in the interface.")


def test_a_renamed_label_is_lost_and_only_strict_fails_for_it(run, export, tmp_path):
    config = tmp_path / "renamed.xml"
    config.write_text(RENAMED)
    assert run("check", export, "--label-config", config).exit_code == 0
    result = run("check", export, "--label-config", config, "--strict", "--json")
    assert result.exit_code == 1
    rows = {(row["control"], row["label"]): row for row in json.loads(result.stdout)["labels"]}
    assert rows["brush", "Car"]["lost"] is True
    assert (rows["brush", "Car"]["regions"], rows["brush", "Car"]["tasks"]) == (8, 4)
    assert rows["brush", "Auto"] == {
        "control": "brush",
        "label": "Auto",
        "regions": 0,
        "annotations": 0,
        "tasks": 0,
        "lost": False,
        "finding": "not used",
    }


def test_a_derived_interface_is_said_to_be_one(run, export):
    result = run("check", export)
    assert result.exit_code == 0
    assert "has no labelling interface beside it" in result.stderr


@pytest.mark.parametrize("beside", [True, False])
def test_a_class_that_taxonomy_or_interface_lacks_is_an_error_that_names_it(run, tmp_path, beside):
    export = tmp_path / "x.json"
    export.write_text("[]")
    (tmp_path / "x.label-config.xml").write_text(RENAMED)
    taxonomy = tmp_path / ("x.taxonomy.yaml" if beside else "t.yaml")
    flags = [] if beside else ["--taxonomy", taxonomy]
    taxonomy.write_text(TAXONOMY)
    assert run("check", export, *flags).exit_code == 0
    taxonomy.write_text(TAXONOMY.replace("name: Auto", "name: Bus"))
    result = run("check", export, *flags)
    assert result.exit_code == 3
    assert 'Class "Bus" of the taxonomy' in result.stderr
    assert 'Label "Auto" of the labelling interface means no class' in result.stderr
    taxonomy.write_text(TAXONOMY + "  - {id: 2, name: Auto}\n")
    result = run("check", export, *flags)
    assert result.exit_code == 3
    assert 'the label "Auto" to class "Auto" and to class "Auto"' in result.stderr


@pytest.mark.parametrize("project", ["3", "x.json", "project:x"])
def test_instructions_need_a_project(run, tmp_path, project):
    taxonomy = tmp_path / "t.yaml"
    taxonomy.write_text(TAXONOMY)
    result = run("instructions", project, "--taxonomy", taxonomy)
    assert (result.exit_code, "belong to a project on a server" in result.stderr) == (2, True)


def test_instructions_are_published_once_on_a_real_server(
    run, tmp_path, label_studio, project_factory
):
    project = project_factory(RENAMED)
    taxonomy = tmp_path / "t.yaml"
    taxonomy.write_text(TAXONOMY)
    call = ["instructions", f"project:{project.id}", "--taxonomy", taxonomy]
    call += ["--url", label_studio.url, "--api-key", label_studio.api_key]
    said = [run(*call, *more).output for more in (["--dry-run"], [], [])]
    assert ["would be put" in said[0], "stand in" in said[1], "already" in said[2]] == [True] * 3
    with connect(label_studio.url, label_studio.api_key) as client:
        published = client.project(project.id)["expert_instruction"]
    assert "Mirrors belong to it." in published
    # The server strips styles and keeps this: the class has its colour where people read.
    assert 'bgcolor="#FF0000"' in published
    taxonomy.write_text(TAXONOMY + "  - {id: 2, name: Bus}\n")
    refused = run(*call)
    assert refused.exit_code == 3
    assert 'Class "Bus"' in refused.output
