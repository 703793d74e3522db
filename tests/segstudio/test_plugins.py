"""Plugins are found by name through entry points, and what is wrong with one is said."""

from importlib.metadata import EntryPoint

import pytest

from segstudio import plugins
from segstudio.errors import SegstudioError, UsageError


class TinyExporter:
    name = "tiny"
    summary = "Writes nothing."

    def write_image(self, image, context):
        return {}

    def finish(self, records, context):
        pass


class TinyCheck:
    name = "tiny"
    summary = "Measures nothing."

    def measure(self, task, context):
        return 0

    def summarize(self, measurements, context):
        return {}


NOT_A_PLUGIN = {"name": "no"}
HERE = "tests.segstudio.test_plugins"


@pytest.fixture
def installed(monkeypatch):
    """Pretends that these entry points are the installed ones."""

    def pretend(**targets):
        entries = [EntryPoint(name, target, "group") for name, target in targets.items()]
        monkeypatch.setattr(plugins, "entry_points", lambda group: entries)

    return pretend


def test_an_exporter_and_a_check_are_found_by_name(installed):
    installed(tiny=f"{HERE}:TinyExporter")
    assert plugins.find_exporter("tiny").name == "tiny"
    assert [one.name for one in plugins.list_exporters()] == ["tiny"]
    installed(tiny=f"{HERE}:TinyCheck")
    assert plugins.find_check("tiny").summary == "Measures nothing."
    assert plugins.list_checks()[0].target == f"{HERE}:TinyCheck"


@pytest.mark.parametrize(
    ("target", "kind", "sentence"),
    [
        (f"{HERE}:TinyCheck", SegstudioError, "is not a segstudio Exporter: it must have name"),
        (f"{HERE}:NOT_A_PLUGIN", SegstudioError, "is not a segstudio Exporter"),
        (f"{HERE}:Missing", SegstudioError, "which does not exist"),
        ("no_such_package:X", SegstudioError, "cannot be imported: No module named"),
    ],
)
def test_a_plugin_that_cannot_be_used_says_why(installed, target, kind, sentence):
    installed(tiny=target)
    with pytest.raises(kind, match=sentence):
        plugins.find_exporter("tiny")


def test_an_unknown_name_lists_the_known_ones_and_the_nearest(installed):
    installed(**{"coco-panoptic": "x:y", "semantic-png": "x:y"})
    with pytest.raises(UsageError, match=r"Did you mean 'coco-panoptic'\? Installed: coco-pan"):
        plugins.find_exporter("coco-panopic")


def test_our_own_formats_and_checks_are_installed():
    assert {"coco-panoptic", "semantic-png"} <= {one.name for one in plugins.list_exporters()}
    assert "agreement" in {one.name for one in plugins.list_checks()}
