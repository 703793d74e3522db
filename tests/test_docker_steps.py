"""The Dockerfile's steps in a clean environment, and what compose.yaml promises."""

from __future__ import annotations

import base64
import os
import re
import shutil
import signal
import subprocess
import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from demo.label_studio_server import LABEL_STUDIO_VERSION
from demo.processes import choose_port, wait_until
from segstudio.shapes import region_mask
from segstudio.tasks import parse_task
from tests.conftest import ROOT, missing
from tests.dockerfile import Image, link_declared, read_steps
from tests.ml_backend.live import AT_THE_DISC, CONFIG, disc_photo

STEPS = read_steps(ROOT / "Dockerfile")
SECRET_PATH = "a-secret-of-this-test"
IMAGE_PORT = "9090"


@pytest.fixture(scope="module")
def image() -> Iterator[Image]:
    """What `docker build .` leaves, with nothing but its volume writable."""
    if os.geteuid() == 0 and shutil.which("setpriv") is None:
        missing("No setpriv (package util-linux): root cannot run the image without its rights.")
    with tempfile.TemporaryDirectory(prefix="image-") as folder:
        built = Image(Path(folder), ROOT)
        built.build(STEPS)
        link_declared(built.site_packages(), "segstudio", ["sam"])
        built.protect()
        try:
            yield built
        finally:
            built.unprotect()


@pytest.fixture
def container(image: Image) -> Iterator[dict[str, Any]]:
    """The running image: its port, its process, its log."""
    port = choose_port(None, purpose="the image")
    log = Path(image.volumes[0] / "log.txt")
    # The command of the image; only the address is ours, so that no other machine reaches it.
    command = [*image.entrypoint, *image.command, "--host", "127.0.0.1", "--port", str(port)]
    environment = image.run_environment({"SEGSTUDIO_SECRET_PATH": SECRET_PATH})
    with log.open("wb") as output:
        process = subprocess.Popen(
            image.as_user(command), cwd=image.workdir, env=environment,
            stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
        )  # fmt: skip
    try:
        yield {"port": port, "process": process, "log": log}
    finally:
        process.kill()
        process.wait()


def health(image: Image, port: int) -> int:
    """The exit status of the image's health check against a port."""
    command = [word.replace(IMAGE_PORT, str(port)) for word in image.health_command]
    finished = subprocess.run(
        image.as_user(command), check=False, capture_output=True, cwd=image.workdir,
        env=image.run_environment({"SEGSTUDIO_SECRET_PATH": SECRET_PATH}),
    )  # fmt: skip
    return finished.returncode


def test_the_image_runs_a_supported_python_and_not_as_root(image):
    (base,) = (step.rest for step in STEPS if step.name == "FROM")
    with (ROOT / "pyproject.toml").open("rb") as file:
        classifiers = tomllib.load(file)["project"]["classifiers"]
    version = re.fullmatch(r"python:(3\.\d+)-slim", base)
    assert version and f"Programming Language :: Python :: {version[1]}" in classifiers
    added = (image.root / "useradd.txt").read_text()
    assert image.user != "root" and added.split()[-1] == image.user
    assert [step.name for step in STEPS].index("USER") < [s.name for s in STEPS].index("ENTRYPOINT")


def test_the_image_holds_no_tests_no_secrets_and_nothing_of_the_git_folder(image):
    copied = {path.name for path in image.workdir.iterdir()}
    assert {"segstudio", "ml_backend", "label_configs", "pyproject.toml"} <= copied
    assert not copied & {".git", "tests", ".env", "demo-output", ".venv"}
    assert not list(image.workdir.rglob("__pycache__"))


def test_the_image_installs_the_extras_that_it_is_asked_for():
    with (ROOT / "pyproject.toml").open("rb") as file:
        extras = set(tomllib.load(file)["project"]["optional-dependencies"])
    asked = [step.words()[0] for step in STEPS if step.name == "ARG"]
    assert "EXTRAS=sam" in asked
    assert 'pip install ".[$EXTRAS]"' in [step.rest for step in STEPS if step.name == "RUN"]
    told = (ROOT / "docs/backend.md").read_text() + (ROOT / "Dockerfile").read_text()
    named = re.findall(r"--build-arg EXTRAS=([a-z,]+)", told)
    assert len(named) >= 3
    assert {extra for one in named for extra in one.split(",")} <= extras


def test_without_authentication_the_image_refuses_to_listen_beyond_the_machine(image):
    finished = subprocess.run(
        image.as_user([*image.entrypoint, *image.command]), check=False, capture_output=True,
        text=True, cwd=image.workdir, env=image.run_environment({}), timeout=120,
    )  # fmt: skip
    assert finished.returncode == 2
    assert "set --basic-auth or --secret-path" in finished.stderr


def test_the_image_serves_a_click_without_writing_outside_its_volume(image, container):
    base = f"http://127.0.0.1:{container['port']}"
    with httpx.Client(base_url=base, timeout=60, trust_env=False) as http:
        for _ in wait_until(300):
            assert container["process"].poll() is None, container["log"].read_text()
            if health(image, container["port"]) == 0:
                break
        photo, mask = disc_photo()
        body = {
            "tasks": [
                {
                    "id": 1,
                    "data": {"image": "data:image/jpeg;base64," + base64.b64encode(photo).decode()},
                }
            ],
            "project": "1.5",
            "label_config": CONFIG.format(tag="BrushLabels"),
            "params": {"context": {"result": [AT_THE_DISC]}},
        }
        assert http.post("/predict", json=body).status_code == 404
        answer = http.post(f"/{SECRET_PATH}/predict", json=body)
    assert answer.status_code == 200, container["log"].read_text()
    (prediction,) = answer.json()["results"]
    raw = {"id": 1, "data": {}, "predictions": [{"id": 1, **prediction}]}
    ((region,),) = (found.regions for found in parse_task(raw).predictions)
    drawn = region_mask(region).to_dense()
    assert (drawn & mask).sum() / (drawn | mask).sum() >= 0.8
    assert list((image.volumes[0] / "embeddings").rglob("*")), "no embedding was kept"
    assert SECRET_PATH not in container["log"].read_text()

    container["process"].send_signal(signal.SIGTERM)  # docker stop
    # Drained and gone by itself; docker kills after 10 s.
    assert container["process"].wait(10) in (0, -signal.SIGTERM)
    assert health(image, container["port"]) != 0


COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))
SERVICES = sorted(COMPOSE["services"])
_SECRET_NAME = re.compile(r"TOKEN|PASSWORD|SECRET|API_KEY|USERNAME")
_VARIABLE = re.compile(r"\$\{(\w+)(:[?-][^}]*)?\}")


def texts(value: Any) -> Iterator[str]:
    """Every text in a YAML value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from texts(item)
    elif isinstance(value, list):
        for item in value:
            yield from texts(item)


@pytest.mark.parametrize("service", SERVICES)
def test_compose_opens_ports_on_loopback_only(service):
    ports = COMPOSE["services"][service].get("ports", [])
    assert all(re.fullmatch(r"127\.0\.0\.1:\d+:\d+", port) for port in ports)


def test_compose_shows_people_label_studio_and_keeps_the_backend_inside():
    assert COMPOSE["services"]["label-studio"]["ports"] == ["127.0.0.1:8080:8080"]
    assert "ports" not in COMPOSE["services"]["sam"]


def test_compose_runs_the_label_studio_that_the_tests_run():
    assert COMPOSE["services"]["label-studio"]["image"].endswith(f":{LABEL_STUDIO_VERSION}")


@pytest.mark.parametrize("service", SERVICES)
def test_compose_holds_no_secret_and_does_not_start_without_them(service):
    environment = COMPOSE["services"][service]["environment"]
    secrets = {name: value for name, value in environment.items() if _SECRET_NAME.search(name)}
    secrets.pop("LABEL_STUDIO_ENABLE_LEGACY_API_TOKEN", None)
    assert secrets
    for name, value in secrets.items():
        assert re.fullmatch(r"\$\{\w+:\?[^}]+\}", value), f"{name} is not demanded from .env"


def test_every_variable_that_compose_demands_is_told_of_at_its_head():
    head = (ROOT / "compose.yaml").read_text(encoding="utf-8").partition("\nservices:")[0]
    demanded = {
        name
        for text in texts(COMPOSE)
        for name, default in _VARIABLE.findall(text)
        if default.startswith(":?")
    }
    assert demanded
    assert {name for name in demanded if f"#   {name}=" not in head} == set()


def test_compose_keeps_what_people_made_in_volumes_that_it_declares():
    used = {
        text.partition(":")[0]
        for service in COMPOSE["services"].values()
        for text in service.get("volumes", [])
    }
    assert used == set(COMPOSE["volumes"])
    targets = [text.partition(":")[2] for text in COMPOSE["services"]["sam"]["volumes"]]
    assert targets == [step.rest for step in STEPS if step.name == "VOLUME"]


def test_the_backend_of_compose_is_our_image_with_a_health_check(image):
    service = COMPOSE["services"]["sam"]
    assert service["build"] == "." and "entrypoint" not in service
    assert image.health_command[0] == "python"
    # What compose gives as command goes after the image's own entry point.
    assert service["command"][0] == "--model" == image.command[0]
