from __future__ import annotations

import hashlib
import shutil
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from ml_backend.checkpoints import (
    CHECKPOINTS,
    Checkpoint,
    CheckpointError,
    download,
    find_checkpoint,
)

CONTENT = bytes(range(256)) * 4096  # 1 MiB


class Web:
    """A web server that can break off, ignore ranges, or send something else."""

    def __init__(self) -> None:
        self.content = CONTENT
        self.break_after_bytes: int | None = None
        self.ranges = True
        self.asked: list[str | None] = []
        web = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                asked = self.headers.get("Range")
                web.asked.append(asked)
                start = int(asked[6:-1]) if asked and web.ranges else 0
                body = web.content[start:]
                self.send_response(206 if start else 200)
                if start:
                    total = len(web.content)
                    self.send_header("Content-Range", f"bytes {start}-{total - 1}/{total}")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                if web.break_after_bytes is not None:
                    body, web.break_after_bytes = body[: web.break_after_bytes], None
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def checkpoint(self, **changes: object) -> Checkpoint:
        fields: dict[str, object] = {
            "name": "test",
            "file_name": "test.pth",
            "size_bytes": len(CONTENT),
            "sha256": hashlib.sha256(CONTENT).hexdigest(),
            "url": f"http://127.0.0.1:{self.server.server_port}/test.pth",
            **changes,
        }
        return Checkpoint(**fields)  # type: ignore[arg-type]


@pytest.fixture
def web() -> Iterator[Web]:
    made = Web()
    yield made
    made.server.shutdown()
    made.server.server_close()


def test_a_download_is_checked_and_renamed(web, tmp_path):
    seen: list[int] = []
    path = download(web.checkpoint(), tmp_path / "new", progress=seen.append)
    assert path.read_bytes() == CONTENT
    assert seen[-1] == len(CONTENT)
    assert [file.name for file in path.parent.iterdir()] == ["test.pth"]


def test_a_broken_connection_is_resumed_in_the_same_call(web, tmp_path):
    web.break_after_bytes = 300_000
    assert download(web.checkpoint(), tmp_path).read_bytes() == CONTENT
    assert web.asked == [None, "bytes=300000-"]


def test_an_earlier_try_is_resumed(web, tmp_path):
    (tmp_path / "test.pth.part").write_bytes(CONTENT[:1000])
    assert download(web.checkpoint(), tmp_path).read_bytes() == CONTENT
    assert web.asked == ["bytes=1000-"]


def test_a_server_without_ranges_sends_all_again(web, tmp_path):
    web.ranges = False
    (tmp_path / "test.pth.part").write_bytes(b"other" * 100)
    assert download(web.checkpoint(), tmp_path).read_bytes() == CONTENT


def test_what_is_there_already_is_not_fetched(web, tmp_path):
    (tmp_path / "test.pth").write_bytes(CONTENT)
    download(web.checkpoint(), tmp_path)
    assert web.asked == []


def test_a_wrong_hash_deletes_the_file(web, tmp_path):
    web.content = CONTENT[::-1]
    with pytest.raises(CheckpointError, match="SHA-256"):
        download(web.checkpoint(), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_more_than_the_known_size_is_refused(web, tmp_path):
    web.content = CONTENT * 2
    with pytest.raises(CheckpointError, match="sends more than"):
        download(web.checkpoint(), tmp_path)
    assert not (tmp_path / "test.pth").exists()


def test_without_connection_the_message_says_which_file_goes_where(tmp_path):
    checkpoint = Checkpoint("test", "test.pth", 5, "0" * 64, "http://127.0.0.1:9/test.pth")
    with pytest.raises(CheckpointError) as caught:
        download(checkpoint, tmp_path)
    assert str(tmp_path / "test.pth") in str(caught.value)
    assert "http://127.0.0.1:9/test.pth" in str(caught.value)


def test_a_full_disk_is_told_before_the_download(web, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10, 10, 1000))
    with pytest.raises(CheckpointError, match=r"needs 1 MB more, but .* has only 0 MB free"):
        download(web.checkpoint(), tmp_path)
    assert web.asked == []


def test_an_absent_model_names_command_and_place(tmp_path):
    with pytest.raises(CheckpointError) as caught:
        find_checkpoint("vit_b", tmp_path)
    assert "segstudio models download vit_b" in str(caught.value)
    assert "sam_vit_b_01ec64.pth" in str(caught.value)
    assert str(tmp_path) in str(caught.value)


def test_a_truncated_model_is_not_taken(tmp_path):
    (tmp_path / "sam_vit_b_01ec64.pth").write_bytes(b"short")
    with pytest.raises(CheckpointError, match="5 bytes instead of 375042383"):
        find_checkpoint("vit_b", tmp_path)


def test_the_published_checkpoints_are_known():
    assert {c.file_name: (c.size_bytes, c.sha256[:8]) for c in CHECKPOINTS.values()} == {
        "sam_vit_b_01ec64.pth": (375_042_383, "ec2df627"),
        "sam_vit_l_0b3195.pth": (1_249_524_607, "3adcc431"),
        "sam_vit_h_4b8939.pth": (2_564_550_879, "a7bf3b02"),
    }
    assert {len(c.sha256) for c in CHECKPOINTS.values()} == {64}
    assert all(c.url.endswith(f"/segment_anything/{c.file_name}") for c in CHECKPOINTS.values())
