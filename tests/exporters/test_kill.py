"""A killed export (kill -9) goes on where it was, at whatever moment it was killed."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.exporters.projects import annotation, box, brush, run, source_of, task, tree

IMAGES = 40
# Slow enough to be met at each moment, with the real command and its worker processes.
DRIVER = """
import sys, time
from pathlib import Path
import exporters.coco_panoptic as coco
from tests.exporters.projects import run
from segstudio.export_file import FileSource
from segstudio.source import TaskFilter

class Slow(coco.CocoPanopticExporter):
    def write_image(self, image, context):
        time.sleep(0.02)
        return super().write_image(image, context)

    def finish(self, records, context):
        super().finish(records, context)
        (context.out_dir / "finishing").touch()
        time.sleep(SECONDS)
        (context.out_dir / "finishing").unlink()

if __name__ == "__main__":
    SECONDS = float(sys.argv[3])
    import exporters.runner
    exporters.runner.find_exporter = lambda name: Slow()
    source = FileSource(sys.argv[1], TaskFilter())
    run("coco-panoptic", source, Path(sys.argv[2]), workers=int(sys.argv[4]))
"""

CAR = brush("a", "car", box(0, 0, 2, 2))


def images_done(out: Path) -> int:
    part = out / ".segstudio" / "journal.part.jsonl"
    return part.read_bytes().count(b"\n") if part.exists() else 0


def is_finishing(out: Path) -> bool:
    return (out / ".segstudio" / "new" / "finishing").exists()


@pytest.mark.parametrize(
    ("moment", "workers", "least_taken_over"),
    [
        (lambda out: images_done(out) >= 1, 1, 1),
        (lambda out: images_done(out) >= 20, 2, 20),
        (is_finishing, 1, IMAGES),
    ],
    ids=["after the first image", "in the middle, with workers", "while finishing"],
)
def test_a_killed_command_redoes_nothing_that_was_finished(
    tmp_path: Path, moment: Callable[[Path], bool], workers: int, least_taken_over: int
) -> None:
    tasks = [task(n, f"/{n}.jpg", annotation(n, 5, [CAR])) for n in range(1, IMAGES + 1)]
    source = source_of(tmp_path, tasks)
    out = tmp_path / "out"
    earlier = source_of(tmp_path / "earlier", tasks[:2])
    run("coco-panoptic", earlier, out)
    before = {name: content for name, content in tree(out).items() if ".segstudio" not in name}
    (tmp_path / "driver.py").write_text(DRIVER)
    command = [sys.executable, str(tmp_path / "driver.py"), str(tmp_path / "tasks.json"), str(out)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(
        [*command, "60", str(workers)], env=environment, start_new_session=True
    ) as child:
        group = os.getpgid(child.pid)
        give_up_s = time.monotonic() + 120
        while not moment(out):
            assert child.poll() is None and time.monotonic() < give_up_s
            time.sleep(0.005)
        child.send_signal(signal.SIGKILL)
    after = {name: content for name, content in tree(out).items() if ".segstudio" not in name}
    assert after == before, "the earlier export stays until the new one is whole"
    _wait_until_gone(group)
    summary = run("coco-panoptic", source, out)
    # The two images of the earlier export count as well where they were taken over.
    assert summary.images == IMAGES and summary.taken_over >= least_taken_over
    run("coco-panoptic", source, tmp_path / "whole")
    hidden = ("journal", "lock")
    found, expected = tree(out), tree(tmp_path / "whole")
    assert {name for name in found if not any(word in name for word in hidden)} == {
        name for name in expected if not any(word in name for word in hidden)
    }
    assert all(found[name] == expected[name] for name in expected if ".segstudio" not in name)


def _wait_until_gone(group: int) -> None:
    """Workers end with their parent, however it ended."""
    give_up_s = time.monotonic() + 30
    while time.monotonic() < give_up_s:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return
        time.sleep(0.05)
    os.killpg(group, signal.SIGKILL)
    pytest.fail("worker processes outlived the killed command")
