"""The backend under label-studio-ml, where that is installed; a sentence where it is not."""

from __future__ import annotations

import base64
import importlib
import importlib.util
from typing import Any

import pytest

from segstudio.errors import SegstudioError

HAS_LABEL_STUDIO_ML = importlib.util.find_spec("label_studio_ml") is not None


@pytest.mark.skipif(HAS_LABEL_STUDIO_ML, reason="label-studio-ml is installed")
def test_without_label_studio_ml_a_sentence_says_what_to_do():
    from ml_backend.model import SegmentAnythingModel

    with pytest.raises(SegstudioError, match=r"needs label-studio-ml.*segstudio serve"):
        SegmentAnythingModel()


@pytest.mark.skipif(not HAS_LABEL_STUDIO_ML, reason="label-studio-ml is not installed")
def test_each_project_is_answered_with_its_own_interface(
    config_xml, click, picture, tmp_path, monkeypatch
):
    monkeypatch.setenv("SEGSTUDIO_MODEL", "classical")
    monkeypatch.setenv("SEGSTUDIO_CACHE", str(tmp_path))
    from label_studio_ml.api import init_app

    from ml_backend.model import SegmentAnythingModel

    arguments: dict[str, Any] = {}
    if hasattr(importlib.import_module("label_studio_ml.model"), "LabelStudioMLManager"):
        arguments["model_dir"] = str(tmp_path)  # 1.0.9
    client = init_app(SegmentAnythingModel, **arguments).test_client()
    image = "data:image/jpeg;base64," + base64.b64encode(picture()).decode()
    configs = {n: config_xml.replace('name="brush"', f'name="brush{n}"') for n in (1, 2)}
    for number, config in configs.items():
        answer = client.post(
            "/setup",
            json={
                "project": f"{number}.5",
                "schema": config,
                "hostname": "http://x",
                "access_token": "t",
                "extra_params": {"answer": "brush"},
            },
        )
        assert answer.status_code == 200
    for number, config in configs.items():
        answer = client.post(
            "/predict",
            json={
                "tasks": [{"id": 1, "data": {"image": image}}],
                "project": f"{number}.5",
                "label_config": config,
                "params": {"login": None, "password": None, "context": {"result": [click(50, 50)]}},
            },
        )
        (prediction,) = answer.json["results"]
        assert prediction["model_version"] == "segstudio classical grabcut 0.1"
        assert [region["from_name"] for region in prediction["result"]] == [f"brush{number}"]
