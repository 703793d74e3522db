"""The embedding store: memory first, then disk, keyed by image content and model.

The key is the SHA-256 of the image's bytes with the engine's cache key, so the same photo under
two URLs is encoded once and a new model never meets an old embedding.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
import os
import tempfile
import threading
import time
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ml_backend.engines import Embedding

__all__ = ["EmbeddingStore", "dumps", "embedding_key", "loads", "write_atomically"]

_LOG = logging.getLogger(__name__)
_MAGIC = b"SEGEMB1\n"
_MAX_FILE_BYTES = 256 << 20
_TRIM_EVERY_BYTES_FRACTION = 16  # the folder is measured again after 1/16 of its limit was written
_STALE_AFTER_S = 3600.0  # a temporary file of that age belongs to a process that was killed


def embedding_key(image_sha256: str, engine_cache_key: str, variant: str = "") -> str:
    """Name an embedding: 64 hex digits of the image's content, model and preprocessing."""
    return hashlib.sha256(f"{image_sha256}\n{engine_cache_key}\n{variant}".encode()).hexdigest()


class EmbeddingStore:
    """A memory LRU of limited bytes over an optional folder of limited bytes.

    Safe for several threads, and on disk for several processes: files are written under a temporary
    name and renamed, and a file that cannot be read counts as absent. On disk float32 arrays are
    float16 with zstd; they come back as float16.
    """

    def __init__(
        self,
        memory_limit_bytes: int = 512 << 20,
        folder: Path | None = None,
        folder_limit_bytes: int = 8 << 30,
    ) -> None:
        self.memory_limit_bytes = memory_limit_bytes
        self.folder = folder
        self.folder_limit_bytes = folder_limit_bytes
        self.hits = {"memory": 0, "disk": 0, "none": 0}
        self._items: OrderedDict[str, Embedding] = OrderedDict()
        self._bytes = 0
        self._written_bytes = folder_limit_bytes  # measure the folder at the first write
        self._lock = threading.Lock()
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)

    @property
    def memory_bytes(self) -> int:
        """Bytes of the arrays held in memory now."""
        return self._bytes

    def __len__(self) -> int:
        return len(self._items)

    def get(self, key: str) -> Embedding | None:
        """Return the embedding of `key` from memory or disk, or None."""
        with self._lock:
            found = self._items.get(key)
            if found is not None:
                self._items.move_to_end(key)
                self.hits["memory"] += 1
                return found
        found = self._read(key)
        with self._lock:
            self.hits["none" if found is None else "disk"] += 1
        if found is not None:
            self._remember(key, found)
        return found

    def put(self, key: str, embedding: Embedding) -> None:
        """Keep an embedding in memory, and on disk where there is a folder."""
        self._remember(key, embedding)
        if self.folder is not None:
            try:
                content = dumps(embedding)
                self.put_file(key, content)
                self._written_bytes += len(content)
                if self._written_bytes * _TRIM_EVERY_BYTES_FRACTION >= self.folder_limit_bytes:
                    self._written_bytes = 0
                    self.trim()
            except OSError as error:  # a full disk must not cost the annotator the mask
                _LOG.warning("The embedding could not be stored on disk: %s.", error)

    def stored_bytes(self, key: str) -> int | None:
        """Return the size of the file of `key`, now in use; None where there is none."""
        if self.folder is None:
            return None
        path = self._path(key)
        try:
            size_bytes = path.stat().st_size
            os.utime(path)
        except OSError:
            return None
        return size_bytes

    def put_file(self, key: str, content: bytes) -> None:
        """Write what `dumps` made, without trimming. Raises OSError where that is impossible."""
        write_atomically(self._path(key), content)

    def _remember(self, key: str, embedding: Embedding) -> None:
        with self._lock:
            old = self._items.pop(key, None)
            if old is not None:
                self._bytes -= old.size_bytes
            if embedding.size_bytes > self.memory_limit_bytes:
                return
            self._items[key] = embedding
            self._bytes += embedding.size_bytes
            while self._bytes > self.memory_limit_bytes:
                _, dropped = self._items.popitem(last=False)
                self._bytes -= dropped.size_bytes

    def _path(self, key: str) -> Path:
        assert self.folder is not None  # noqa: S101 - callers ask first
        return self.folder / key[:2] / f"{key}.emb"

    def _read(self, key: str) -> Embedding | None:
        if self.folder is None:
            return None
        path = self._path(key)
        try:
            if path.stat().st_size > _MAX_FILE_BYTES:
                return None
            embedding = loads(path.read_bytes())
            os.utime(path)  # the eviction order is the order of last use
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            _LOG.warning("The stored embedding %s cannot be read: %s.", path.name, error)
            return None
        return embedding

    def trim(self) -> None:
        """Delete the files used longest ago until the folder is within its limit."""
        if self.folder is None:
            return
        _delete_leftovers(self.folder)
        files = _files(self.folder)
        total = sum(size for _, size, _ in files)
        for _, size, path in sorted(files):
            if total <= self.folder_limit_bytes:
                return
            path.unlink(missing_ok=True)
            total -= size

    def bytes_used_since(self, time_s: float) -> int:
        """Bytes on disk of the embeddings written or read since a time (seconds of `time.time`)."""
        files = _files(self.folder) if self.folder is not None else []
        return sum(size for used_at_s, size, _ in files if used_at_s >= time_s)


def _files(folder: Path) -> list[tuple[float, int, Path]]:
    """Time of last use, size in bytes and path of every embedding in a folder."""
    files: list[tuple[float, int, Path]] = []
    for path in folder.glob("??/*.emb"):
        try:
            status = path.stat()
        except FileNotFoundError:  # another process trims too
            continue
        files.append((status.st_mtime, status.st_size, path))
    return files


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file under a temporary name and rename it, making its folder where it is missing."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _delete_leftovers(folder: Path) -> None:
    """Delete temporary files of processes that were killed while they wrote."""
    for path in folder.glob("??/.*.tmp"):
        try:
            if time.time() - path.stat().st_mtime > _STALE_AFTER_S:
                path.unlink()
        except OSError:  # another process deletes too
            continue


def dumps(embedding: Embedding) -> bytes:
    """Serialise an embedding: a JSON header and raw arrays, compressed with zstd."""
    import zstandard

    header: dict[str, Any] = {
        "height_px": embedding.height_px,
        "width_px": embedding.width_px,
        "arrays": [],
    }
    body = io.BytesIO()
    for name, array in embedding.arrays.items():
        stored = array.astype(np.float16) if array.dtype == np.float32 else array
        header["arrays"].append({"name": name, "dtype": stored.dtype.str, "shape": stored.shape})
        body.write(np.ascontiguousarray(stored).tobytes())
    head = json.dumps(header).encode()
    payload = len(head).to_bytes(4, "little") + head + body.getvalue()
    return _MAGIC + zstandard.ZstdCompressor(level=1, write_checksum=True).compress(payload)


def loads(content: bytes) -> Embedding:
    """Read what `dumps` wrote. Raises ValueError with the reason for anything else."""
    import zstandard

    if not content.startswith(_MAGIC):
        raise ValueError("it does not begin as an embedding file of this version does")
    compressed = content[len(_MAGIC) :]
    try:
        if not 0 <= zstandard.frame_content_size(compressed) <= 4 * _MAX_FILE_BYTES:
            raise ValueError("its content is damaged (no size, or an impossible one)")
        payload = zstandard.ZstdDecompressor().decompress(compressed)
        size = int.from_bytes(payload[:4], "little")
        header = json.loads(payload[4 : 4 + size])
        offset = 4 + size
        arrays: dict[str, NDArray[Any]] = {}
        for item in header["arrays"]:
            dtype = np.dtype(item["dtype"])
            if dtype.hasobject:
                raise ValueError("it holds Python objects")
            shape = tuple(int(side) for side in item["shape"])
            amount = int(np.prod(shape, dtype=np.int64))
            arrays[item["name"]] = np.frombuffer(payload, dtype, amount, offset).reshape(shape)
            offset += amount * dtype.itemsize
        return Embedding(arrays, int(header["height_px"]), int(header["width_px"]))
    except (zstandard.ZstdError, KeyError, TypeError, UnicodeDecodeError) as error:
        raise ValueError(f"its content is damaged ({error})") from error
