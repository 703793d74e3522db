"""Images from where they may come from, and refusals of everything else."""

import base64
import io
import os
import socket

import numpy as np
import pytest
from PIL import Image

from segstudio import media
from segstudio.client import connect
from segstudio.errors import MediaError
from segstudio.http_client import RetryingClient
from segstudio.media import image_bytes
from tests.segstudio.fake_server import Answer, FakeServer

TOKEN = "0123456789abcdef0123456789abcdef01234567"
CONTENT = b"the bytes of an image"
OCTETS = {"Content-Type": "image/png"}


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    monkeypatch.setattr(RetryingClient, "sleep", staticmethod(lambda delay_s: None))
    monkeypatch.delenv("SEGSTUDIO_ALLOWED_HOSTS", raising=False)


@pytest.fixture
def root(tmp_path):
    """A folder of images with a secret beside it and links that lead there."""
    folder = tmp_path / "images"
    (folder / "sub").mkdir(parents=True)
    (folder / "sub" / "a b.png").write_bytes(CONTENT)
    (folder / "upload" / "3").mkdir(parents=True)
    (folder / "upload" / "3" / "x.png").write_bytes(CONTENT)
    (tmp_path / "secret.txt").write_bytes(b"secret")
    (folder / "link.png").symlink_to(tmp_path / "secret.txt")
    (folder / "loop").symlink_to(folder / "loop")
    os.mkfifo(folder / "pipe")
    return folder


@pytest.mark.parametrize(
    "reference",
    [
        "sub/a b.png",
        "sub/a%20b.png",
        "/sub/a b.png",
        "./sub/../sub/a b.png",
        "/data/local-files/?d=sub/a%20b.png",
        "/data/upload/3/x.png",
        "http://127.0.0.1:8080/data/local-files/?d=sub/a%20b.png",
        "http://studio.example/data/upload/3/x.png",
    ],
)
def test_files_below_a_root_are_read(root, reference):
    assert image_bytes(reference, roots=[root]) == CONTENT


def test_an_absolute_path_below_a_root_is_read(root):
    assert image_bytes(str(root / "sub" / "a b.png"), roots=[root]) == CONTENT


@pytest.mark.parametrize(
    "reference",
    [
        "../secret.txt",
        "sub/../../secret.txt",
        "..%2Fsecret.txt",
        "%2e%2e/secret.txt",
        "/data/local-files/?d=../secret.txt",
        "/data/local-files/?d=%2e%2e/secret.txt",
        "/data/upload/../../secret.txt",
        "/etc/passwd",
        "link.png",
        "pipe",
        "sub",
        "loop",
        "no such file.png",
        "http://studio.example/data/local-files/?d=../secret.txt",
    ],
)
def test_nothing_else_is_read(root, reference):
    with pytest.raises(MediaError):
        image_bytes(reference, roots=[root])


@pytest.mark.parametrize(
    ("reference", "sentence"),
    [
        ("", "refers to no image"),
        ("a\0.png", "refers to no image"),
        ("file:///etc/passwd", "'file:' addresses are not allowed"),
        ("FILE:///etc/passwd", "'file:' addresses are not allowed"),
        ("ftp://example.com/a.png", "'ftp:' addresses are not allowed"),
        ("javascript:alert(1)", "are not allowed"),
        ("a.png", "no folder to look in was given"),
        ("s3://bucket/a.png", "which only Label Studio can open"),
        ("http://example.com/a.png", "SEGSTUDIO_ALLOWED_HOSTS=example.com"),
        ("http://169.254.169.254/latest/meta-data", "neither Label Studio nor an allowed host"),
        ("http://[::1]/a.png", "neither Label Studio nor an allowed host"),
        ("data:image/png;base64", "holds no data"),
        ("data:image/png;base64,***", "is not base64"),
    ],
)
def test_what_is_not_allowed_is_refused_with_a_sentence(reference, sentence):
    with pytest.raises(MediaError, match=sentence):
        image_bytes(reference)


@pytest.mark.parametrize(
    "reference",
    [
        "data:image/png;base64," + base64.b64encode(CONTENT).decode(),
        "data:,the%20bytes%20of%20an%20image",
    ],
)
def test_data_uris_are_decoded_within_the_limit(reference):
    assert image_bytes(reference) == CONTENT
    with pytest.raises(MediaError, match="larger than 20 bytes"):
        image_bytes(reference, max_bytes=20)


def test_uploads_are_fetched_with_the_token():
    with FakeServer(lambda _: Answer(200, CONTENT, OCTETS)) as server:
        client = connect(server.url, TOKEN)
        for reference in ("/data/upload/1/a.png", f"{server.url}/data/upload/1/a.png"):
            assert image_bytes(reference, client) == CONTENT
        assert {asked.path for asked in server.asked} == {"/data/upload/1/a.png"}
        assert {asked.headers["authorization"] for asked in server.asked} == {f"Token {TOKEN}"}


def test_a_server_below_a_prefix_keeps_its_prefix():
    with FakeServer(lambda _: Answer(200, CONTENT, OCTETS)) as server:
        client = connect(f"{server.url}/studio", TOKEN)
        image_bytes("/data/upload/1/a.png", client)
        assert server.asked[0].path == "/studio/data/upload/1/a.png"


def test_cloud_uris_are_signed_by_the_server_and_fetched_without_the_token():
    with FakeServer(lambda _: Answer(200, CONTENT, OCTETS)) as bucket:
        signed = Answer(303, {}, {"Location": f"{bucket.url}/a.png?signature=secret"})
        with FakeServer(lambda _: signed) as server:
            client = connect(server.url, TOKEN)
            with pytest.raises(MediaError, match="neither Label Studio nor an allowed host"):
                image_bytes("s3://bucket/a.png", client, task_id=7)
            host = bucket.url.removeprefix("http://")
            found = image_bytes("s3://bucket/a.png", client, task_id=7, allowed_hosts=[host])
            assert found == CONTENT
            asked = server.asked[-1]
            assert asked.path == "/tasks/7/presign/"
            uri = base64.urlsafe_b64decode(asked.query["fileuri"]).decode()
            assert uri == "s3://bucket/a.png"
        (fetched,) = bucket.asked
        assert "authorization" not in fetched.headers
        assert fetched.headers["host"] == host


def test_private_addresses_are_refused_unless_the_host_is_named_in_full(monkeypatch):
    with FakeServer(lambda _: Answer(200, CONTENT, OCTETS)) as server:
        port = server.url.rpartition(":")[2]
        url = f"http://images.example.com:{port}/a.png"
        real = socket.getaddrinfo

        def resolve(host, *arguments, **options):
            return real(
                "127.0.0.1" if host == "images.example.com" else host, *arguments, **options
            )

        monkeypatch.setattr(media.socket, "getaddrinfo", resolve)
        for allowed in ("*", ".example.com"):
            with pytest.raises(MediaError, match="has a private address"):
                image_bytes(url, allowed_hosts=[allowed])
        assert server.asked == []
        assert image_bytes(url, allowed_hosts=["images.example.com"]) == CONTENT
        assert server.asked[0].headers["host"] == f"images.example.com:{port}"
        monkeypatch.setenv("SEGSTUDIO_ALLOWED_HOSTS", "a.org, Images.Example.com")
        assert image_bytes(url) == CONTENT


@pytest.mark.parametrize(
    "target", ["http://169.254.169.254/x", "file:///etc/passwd", "http://localhost:1/x"]
)
def test_a_redirect_is_checked_like_an_address(target):
    with FakeServer(lambda _: Answer(302, {}, {"Location": target})) as server:
        host = server.url.removeprefix("http://")
        with pytest.raises(MediaError):
            image_bytes(f"{server.url}/a.png", allowed_hosts=[host, "*"])
        assert len(server.asked) == 1


def test_redirects_without_end_are_refused():
    with FakeServer(lambda asked: Answer(302, {}, {"Location": "/again"})) as server:
        client = connect(server.url, TOKEN)
        with pytest.raises(MediaError, match="redirects more than 5 times"):
            image_bytes("/data/upload/1/a.png", client)


def test_files_larger_than_the_limit_are_refused(root):
    with FakeServer(lambda _: Answer(200, b"x" * 1000, OCTETS)) as server:
        client = connect(server.url, TOKEN)
        with pytest.raises(MediaError, match="larger than 999 bytes"):
            image_bytes("/data/upload/1/a.png", client, max_bytes=999)
        assert len(image_bytes("/data/upload/1/a.png", client, max_bytes=1000)) == 1000
    with pytest.raises(MediaError, match="larger than 5 bytes"):
        image_bytes("sub/a b.png", roots=[root], max_bytes=5)


@pytest.mark.parametrize("status", [403, 404, 500])
def test_an_image_that_is_not_there_is_a_sentence_after_at_most_two_tries(status):
    with FakeServer(lambda _: Answer(status, {})) as server:
        client = connect(server.url, TOKEN)
        with pytest.raises(MediaError, match=f"/data/upload/1/a.png cannot be had.*{status}"):
            image_bytes("/data/upload/1/a.png", client)
        assert len(server.asked) <= 2


def test_an_upload_comes_back_from_a_real_server(label_studio, project_factory):
    project = project_factory('<View><Image name="image" value="$image"/></View>')
    picture = io.BytesIO()
    Image.fromarray(np.full((5, 7, 3), 200, np.uint8)).save(picture, "png")
    with connect(label_studio.url, label_studio.api_key) as client:
        files = {"file": ("a.png", picture.getvalue(), "image/png")}
        client.http.post(f"/api/projects/{project.id}/import", files=files).raise_for_status()
        page = client.get_json("/api/tasks/", project=project.id, fields="all")
        reference = page["tasks"][0]["data"]["image"]
        assert reference.startswith("/data/upload/")
        assert image_bytes(reference, client) == picture.getvalue()
        with pytest.raises(MediaError, match="cannot be had"):
            image_bytes("/data/upload/1/none.png", client)
