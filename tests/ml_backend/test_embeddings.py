from __future__ import annotations

import os

import numpy as np
import pytest

from ml_backend.embeddings import EmbeddingStore, dumps, embedding_key, loads
from ml_backend.engines import Embedding


def embedding(value: float = 1.0, side: int = 8) -> Embedding:
    return Embedding({"features": np.full((4, side, side), value, np.float32)}, 60, 80)


def key(name: str) -> str:
    return embedding_key(name, "model")


def test_a_key_depends_on_image_model_and_variant():
    keys = {
        embedding_key("a", "m"),
        embedding_key("b", "m"),
        embedding_key("a", "n"),
        embedding_key("a", "m", "as-stored"),
    }
    assert len(keys) == 4
    assert embedding_key("a", "m") == embedding_key("a", "m")


def test_memory_is_bounded_and_drops_what_was_used_longest_ago():
    store = EmbeddingStore(memory_limit_bytes=2 * embedding().size_bytes)
    for name in "ab":
        store.put(key(name), embedding())
    store.get(key("a"))
    store.put(key("c"), embedding())
    assert [store.get(key(name)) is not None for name in "abc"] == [True, False, True]
    assert store.memory_bytes == 2 * embedding().size_bytes


def test_what_is_larger_than_the_memory_is_not_kept_in_it():
    store = EmbeddingStore(memory_limit_bytes=10)
    store.put(key("a"), embedding())
    assert (len(store), store.memory_bytes) == (0, 0)


def test_a_new_store_finds_on_disk_what_another_wrote(tmp_path):
    EmbeddingStore(folder=tmp_path).put(key("a"), embedding(0.5))
    store = EmbeddingStore(folder=tmp_path)
    found = store.get(key("a"))
    assert found is not None
    assert (found.height_px, found.width_px) == (60, 80)
    assert found.arrays["features"].dtype == np.float16
    assert (found.arrays["features"] == 0.5).all()
    assert store.get(key("a")) is found
    assert store.hits == {"memory": 1, "disk": 1, "none": 0}


def test_a_damaged_file_counts_as_absent(tmp_path):
    EmbeddingStore(folder=tmp_path).put(key("a"), embedding())
    (path,) = tmp_path.glob("??/*.emb")
    path.write_bytes(path.read_bytes()[:-9])
    assert EmbeddingStore(folder=tmp_path).get(key("a")) is None


def test_the_folder_is_trimmed_to_its_limit_oldest_first(tmp_path):
    rng = np.random.default_rng(0)
    noisy = [
        Embedding({"f": rng.integers(0, 256, 10_000, np.uint8)}, 1, 1) for _ in range(5)
    ]  # fmt: skip
    store = EmbeddingStore(folder=tmp_path, folder_limit_bytes=35_000)
    for number, item in enumerate(noisy):
        store.put(key(str(number)), item)
        for path in tmp_path.glob("??/*.emb"):
            age_s = 100 * (5 - number) if path.stem == key(str(number)) else 0
            if age_s:
                os.utime(path, (1e9 - age_s, 1e9 - age_s))
    fresh = EmbeddingStore(folder=tmp_path)
    assert [fresh.get(key(str(n))) is not None for n in range(5)] == [
        False, False, True, True, True,
    ]  # fmt: skip
    assert not list(tmp_path.glob("??/.*.tmp"))


def test_a_full_disk_costs_only_the_disk_copy(tmp_path, monkeypatch):
    store = EmbeddingStore(folder=tmp_path)

    def no_space(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(store, "put_file", no_space)
    store.put(key("a"), embedding())
    assert store.get(key("a")) is not None


@pytest.mark.parametrize("content", [b"", b"SEGEMB1\nxx", b"PK\x03\x04", dumps(embedding())[:50]])
def test_other_files_are_refused(content):
    with pytest.raises(ValueError, match=r"damaged|does not begin"):
        loads(content)


def test_integers_keep_their_type():
    image = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    found = loads(dumps(Embedding({"image": image}, 2, 4))).arrays["image"]
    assert found.dtype == np.uint8
    assert (found == image).all()
