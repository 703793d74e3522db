"""What the server does when there is too much: bodies, requests, images, memory; and its end."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image

from ml_backend import app as app_module
from segstudio import brush_rle

CONFIG = """<View><Image name="image" value="$image"/>
<KeyPointLabels name="kp" toName="image" smart="true"><Label value="Car"/></KeyPointLabels>
<BrushLabels name="brush" toName="image"><Label value="Car"/></BrushLabels></View>"""


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.copy().save(buffer, kind, **options)  # saving leaves marks on an image
    return buffer.getvalue()


def exif(orientation: int) -> Image.Exif:
    made = Image.Exif()
    made[0x0112] = orientation
    return made


def gradient(dtype: type = np.uint8, top: int = 255) -> np.ndarray:
    return np.linspace(0, top, 80 * 120).reshape(80, 120).astype(dtype)


GRAY = Image.fromarray(gradient())
RGB = GRAY.convert("RGB")
KINDS = {
    "jpeg": saved(RGB, "JPEG"),
    "progressive jpeg": saved(RGB, "JPEG", progressive=True),
    "gray jpeg": saved(GRAY, "JPEG"),
    "cmyk jpeg": saved(RGB.convert("CMYK"), "JPEG"),
    "16-bit png": saved(Image.fromarray(gradient(np.uint16, 65535)), "PNG"),
    "16-bit tiff": saved(Image.fromarray(gradient(np.uint16, 65535)), "TIFF"),
    "gray png": saved(GRAY, "PNG"),
    "gray and alpha png": saved(GRAY.convert("LA"), "PNG"),
    "palette png": saved(RGB.quantize(16), "PNG"),
    "palette with transparency": saved(RGB.quantize(16), "PNG", transparency=3),
    "alpha png": saved(RGB.convert("RGBA"), "PNG"),
    "1-bit png": saved(GRAY.convert("1"), "PNG"),
    "gif": saved(RGB, "GIF"),
    "webp with alpha": saved(RGB.convert("RGBA"), "WEBP"),
    "bmp": saved(RGB, "BMP"),
    "cmyk tiff": saved(RGB.convert("CMYK"), "TIFF"),
    "tiff of several pages": saved(RGB, "TIFF", save_all=True, append_images=[GRAY]),
    "exif 3": saved(RGB, "JPEG", exif=exif(3)),
}
TURNED = {
    f"{kind} exif {orientation}": saved(RGB, kind, exif=exif(orientation))
    for kind in ("JPEG", "PNG")
    for orientation in (5, 6, 7, 8)
}


def test_every_kind_of_image_is_clicked_at_its_shown_size(serve, click):
    images = {f"/{name}": content for name, content in {**KINDS, **TURNED}.items()}
    server = serve(images)
    for name in images:
        width, height = (80, 120) if name[1:] in TURNED else (120, 80)
        point = click(25, 75, original_width=width, original_height=height)
        (answer,) = server.predict([point], tasks=[{"id": 1, "data": {"image": name}}])
        assert answer["result"], name
        assert server.engine.encoded[-1] == (height, width, 3), name
        value = answer["result"][0]["value"]
        rows, columns = np.nonzero(brush_rle.decode(value["rle"], height, width).to_dense())
        middle = rows.mean() + 0.5, columns.mean() + 0.5
        assert middle == pytest.approx((0.75 * height, 0.25 * width), abs=1), name


def huge_png() -> bytes:
    """The header of a PNG of 10,001 x 10,000 pixels: what is read before it is refused."""
    content = bytearray(saved(Image.new("L", (8, 8)), "PNG"))
    content[16:24] = (10_001).to_bytes(4, "big") + (10_000).to_bytes(4, "big")
    import zlib

    content[29:33] = zlib.crc32(bytes(content[12:29])).to_bytes(4, "big")
    return bytes(content)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (huge_png(), "10001 x 10000 pixels, more than the limit of 100,000,000"),
        (saved(Image.fromarray(gradient(np.float32)), "TIFF"), "floating-point"),
        (KINDS["jpeg"][:200], "damaged|truncated"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "no image of a known format"),
        (b"", "no image of a known format"),
    ],
)
def test_an_image_beyond_the_limits_is_refused_with_a_sentence(
    serve, click, caplog, content, reason
):
    server = serve({"/data/upload/1/a.jpg": content})
    with caplog.at_level("INFO", "ml_backend"):
        assert server.predict([click(50, 50)])[0]["result"] == []
    reasons = [str(r.fields.get("reason")) for r in caplog.records if hasattr(r, "fields")]
    assert any(re.search(reason, one) for one in reasons), reasons
    assert server.engine.encoded == []


def test_two_annotators_on_two_images_never_evict_each_other(serve, click, picture, tmp_path):
    """The memory holds no embedding at all; what is on disk is not encoded again."""
    images = {"/a.jpg": picture(120, 80), "/b.jpg": picture(120, 81)}
    server = serve(images, memory_limit_bytes=1, embeddings_dir=tmp_path)
    for n in range(6):
        for name in images:
            server.predict([click(10 + n, 50)], tasks=[{"id": 1, "data": {"image": name}}])
    assert len(server.engine.encoded) == 2
    assert server.backend.embeddings.hits == {"memory": 0, "disk": 10, "none": 2}


def test_the_same_click_twice_at_once_is_computed_once(serve, click):
    server = serve()
    server.predict([click(1, 1)])
    server.engine.predict_s = 0.4
    with ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(lambda _: server.predict([click(50, 50)]), range(2)))
    assert all(answer[0]["result"] for answer in answers)
    assert len(server.engine.prompts) == 2


@pytest.mark.timeout(120)
def test_health_answers_while_a_huge_body_is_read(serve, box):
    server = serve()
    drawn = [{"result": [box(n % 90, 5, 5, 5) for n in range(200)], "was_cancelled": True}]
    task = {"data": {"image": "/data/upload/1/a.jpg"}, "annotations": drawn}
    tasks = [{"id": n, **task} for n in range(400)]
    body = json.dumps({"tasks": tasks, "project": "1", "label_config": CONFIG}).encode()
    assert 15e6 < len(body) < server.backend.settings.max_body_bytes
    server.http.post("/predict", content=b'{"tasks": [], "x": "' + b"x" * 300_000 + b'"}')

    def ping_s() -> float:
        started = time.perf_counter()
        assert server.http.get("/health").status_code == 200
        return time.perf_counter() - started

    idle_s = max(ping_s() for _ in range(100))  # what this machine adds by itself
    slowest_s = 0.0
    with ThreadPoolExecutor(1) as pool, httpx.Client(base_url=server.url) as other:
        reading = pool.submit(other.post, "/predict", content=body, timeout=60)
        while not reading.done():
            slowest_s = max(slowest_s, ping_s())
        assert reading.result().json()["results"] == [[]] * 400
    assert slowest_s < 0.5 + 3 * idle_s


@pytest.mark.parametrize(
    ("name", "limit"),
    [("_requests_door", "requests"), ("_clicks_door", "clicks")],
)
def test_more_than_can_be_answered_is_refused_at_the_door(serve, click, monkeypatch, name, limit):
    monkeypatch.setattr(app_module, "_REQUESTS" if limit == "requests" else "_CLICKS", 2)
    server = serve()
    server.engine.encode_s = 0.6
    body = {
        "tasks": [{"id": 1, "data": {"image": "/data/upload/1/a.jpg"}}],
        "label_config": CONFIG,
        "params": {"context": {"result": [click(50, 50)]}},
    }
    with ThreadPoolExecutor(6) as pool:
        jobs = [pool.submit(server.http.post, "/predict", json=body) for _ in range(6)]
        time.sleep(0.1)
        assert server.http.get("/health").status_code == 200
        answers = [job.result() for job in jobs]
    refused = [answer for answer in answers if answer.status_code == 503]
    assert (len(refused), sum(answer.status_code == 200 for answer in answers)) == (4, 2)
    assert refused[0].headers["Retry-After"] == "1"
    assert f"2 {limit} to answer already" in refused[0].json()["error"]
    assert server.http.post("/predict", json=body).status_code == 200  # the places are free again


def test_large_bodies_have_few_places(serve, monkeypatch):
    monkeypatch.setattr(app_module, "_LARGE_BODIES", 0)
    server = serve()
    assert server.http.post("/predict", json={"tasks": [], "x": "x" * 1000}).status_code == 200
    answer = server.http.post("/predict", json={"tasks": [], "x": "x" * 300_000})
    assert answer.status_code == 503
    assert "large bodies" in answer.json()["error"]


def test_a_body_that_never_comes_is_not_waited_for(serve, monkeypatch):
    monkeypatch.setattr(app_module, "_BODY_TIMEOUT_S", 0.2)
    port = int(serve().url.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port), timeout=20) as line:
        head = b"POST /predict HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 100\r\n\r\n{"
        line.sendall(head)
        assert line.recv(100).startswith(b"HTTP/1.1 408")


def test_a_helper_that_died_is_replaced(serve):
    server = serve()
    large = {"tasks": [], "x": "x" * 300_000}
    assert server.http.post("/predict", json=large).status_code == 200
    threads = Path("/proc/self/task").glob("*/children")
    children = " ".join(thread.read_text() for thread in threads).split()
    parsers = [
        int(child)
        for child in children
        if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()
    ]
    assert parsers
    for parser in parsers:
        os.kill(parser, signal.SIGKILL)
    assert server.http.post("/predict", json=large).status_code == 200


class _LabelStudio(BaseHTTPRequestHandler):
    """Sends one photo on to another origin, which records what it is sent."""

    seen: list[tuple[str, dict[str, str]]]
    elsewhere = ""
    photo = saved(RGB, "PNG")

    def do_GET(self) -> None:
        self.seen.append((self.path, dict(self.headers)))
        if self.path.startswith("/data/upload/1/moved"):
            self.send_response(302)
            self.send_header("Location", self.elsewhere + "/photo.png")
            self.end_headers()
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(self.photo)))
        self.end_headers()
        self.wfile.write(self.photo)

    def log_message(self, *_: object) -> None:
        pass


def start_origin(elsewhere: str = "") -> tuple[HTTPServer, str, list[tuple[str, dict[str, str]]]]:
    seen: list[tuple[str, dict[str, str]]] = []
    handler = type("Origin", (_LabelStudio,), {"seen": seen, "elsewhere": elsewhere})
    server = HTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server, f"http://127.0.0.1:{server.server_port}", seen


@pytest.fixture
def real_process(tmp_path):
    """Starts `segstudio serve` with the classical engine; returns its process, URL and lines."""
    running: list[subprocess.Popen[str]] = []

    def start(*more: str, **environment: str):
        process = subprocess.Popen(
            [sys.executable, "-m", "segstudio.cli", "serve", "--model", "classical", "--port", "0",
             "--embeddings-dir", str(tmp_path / "store"), "--log-level", "debug", *more],
            stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True,
            env={**os.environ, **environment},
        )  # fmt: skip
        running.append(process)
        assert process.stderr is not None
        lines = [process.stderr.readline()]
        found = re.search(r"http://\S+", lines[0])
        assert found, lines
        reader = threading.Thread(target=lambda: lines.extend(process.stderr), daemon=True)
        reader.start()
        return process, found[0], lines, reader

    yield start
    for process in running:
        process.kill()
        process.wait()


@pytest.mark.timeout(180)
def test_no_token_is_logged_nor_sent_along_a_redirect(real_process, click):
    other, other_url, other_seen = start_origin()
    own, own_url, own_seen = start_origin(other_url)
    process, url, lines, reader = real_process(
        "--secret-path", "a-secret-segment", "--allow-host", other_url.removeprefix("http://"),
        LABEL_STUDIO_URL=own_url, LABEL_STUDIO_API_KEY="0123456789abcdef0123456789abcdef01234567",
    )  # fmt: skip
    base = url + "/a-secret-segment"
    setup = {"project": "1.1", "schema": CONFIG, "access_token": "token-of-the-setup"}
    assert httpx.post(base + "/setup", json=setup).status_code == 200
    for image in ("/data/upload/1/moved.png?signature=signed-secret", "/data/upload/1/b.png"):
        body = {
            "tasks": [{"id": 1, "data": {"image": image}}], "project": "1.1",
            "label_config": CONFIG, "params": {"context": {"result": [click(50, 50)]}},
        }  # fmt: skip
        answer = httpx.post(base + "/predict", json=body, timeout=60).json()["results"][0]
        assert "result" in answer
    assert [path for path, _ in other_seen] == ["/photo.png"]
    assert "Authorization" not in other_seen[0][1]
    images = [headers for path, headers in own_seen if path.startswith("/data/")]
    assert all(headers.get("Authorization", "").startswith("Token ") for headers in images)
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 0
    reader.join(10)
    text = "".join(lines)
    assert '"event": "predict"' in text
    for secret in ("0123456789abcdef", "token-of-the-setup", "a-secret-segment", "signed-secret"):
        assert secret not in text
    own.shutdown()
    other.shutdown()


SLOW_SERVER = """
import sys, time
sys.path.insert(0, {folder!r})
from ml_backend import serving
from ml_backend.settings import Settings
from conftest import DrawingEngine
class Slow(DrawingEngine):
    def encode(self, image_rgb):
        print("encoding", flush=True)
        return super().encode(image_rgb)
engine = Slow()
serving.load_engine = lambda *_: engine
engine.encode_s = 1.5
from pathlib import Path
settings = Settings(port=0, local_roots=(Path({root!r}),))
serving.run_server(settings, "info", lambda line: print(line, flush=True))
print("ended", flush=True)
"""


@pytest.mark.timeout(180)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_click_that_computes_is_answered_before_the_server_ends(tmp_path, click, picture, number):
    (tmp_path / "a.jpg").write_bytes(picture())
    code = SLOW_SERVER.format(folder=str(Path(__file__).parent), root=str(tmp_path))
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        said = iter(process.stdout)
        found = next(found for line in said if (found := re.search(r"http://\S+", line)))
        body = {
            "tasks": [{"id": 1, "data": {"image": "a.jpg"}}], "label_config": CONFIG,
            "params": {"context": {"result": [click(50, 50)]}},
        }  # fmt: skip
        with ThreadPoolExecutor(1) as pool:
            job = pool.submit(httpx.post, found[0] + "/predict", json=body, timeout=30)
            assert "encoding\n" in said
            process.send_signal(number)
            answer = job.result()
        assert answer.json()["results"][0]["result"]
        assert process.wait(20) == 0
        assert "ended\n" in said
        with pytest.raises(httpx.ConnectError):
            httpx.get(found[0] + "/health")
    finally:
        process.kill()
        process.wait()
