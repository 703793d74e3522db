"""Shared options arrive in the source they describe."""

import json
from datetime import UTC, datetime

import click
import pytest
from click.testing import CliRunner

from segstudio.cli_options import SourceOptions, compute_options, source_options

TASKS = [
    {
        "id": n,
        "data": {"batch": n % 2},
        "annotations": [{"completed_by": n, "result": []}],
        "overlap": 1 + n // 3,
    }
    for n in range(1, 5)
]


@click.command()
@source_options
@compute_options
def ids(source: SourceOptions, workers, cluster):
    """Print what arrived."""
    click.echo(json.dumps([[task.id for task in source.open().tasks()], workers, cluster]))


@pytest.mark.parametrize(
    ("options", "kept"),
    [
        ([], [1, 2, 3, 4]),
        (["--task", "2", "--task", "4"], [2, 4]),
        (["--annotator", "3"], [3]),
        (["--batch", "batch=1"], [1, 3]),
        (["--min-annotations", "2"], []),
        (["--complete"], [1, 2]),
    ],
)
def test_filters_reach_the_source(tmp_path, options, kept):
    path = tmp_path / "x.json"
    path.write_text(json.dumps(TASKS))
    result = CliRunner().invoke(ids, [str(path), "--workers", "3", *options])
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout) == [kept, 3, None]


def test_dates_are_read_as_utc():
    seen = []

    @click.command()
    @source_options
    def dates(source: SourceOptions):
        """Note what arrived."""
        seen.append((source.since, source.until))

    arguments = ["x.json", "--since", "2026-11-01", "--until", "2026-11-02T03:04:05"]
    assert CliRunner().invoke(dates, arguments).exit_code == 0
    expected = (datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 11, 2, 3, 4, 5, tzinfo=UTC))
    assert seen == [expected]


@pytest.mark.parametrize(
    "options", [["--min-annotations", "-1"], ["--workers", "0"], ["--since", "yesterday"]]
)
def test_values_that_make_no_sense_are_wrong_usage(options):
    assert CliRunner().invoke(ids, ["x.json", *options]).exit_code == 2
