"""Tasks from an export file: .json, .json.gz or JSON lines, streamed in constant memory."""

from __future__ import annotations

import gzip
import io
import json
import marshal
import tempfile
from collections.abc import Callable, Iterable, Iterator
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import IO, Any, Final, cast

from zlib_ng import gzip_ng, zlib_ng

from segstudio.errors import SourceError, UsageError
from segstudio.json_items import ArrayItems, ObjectDecoder
from segstudio.label_config import LabelConfig, parse_label_config
from segstudio.label_config_inference import infer_label_config
from segstudio.source import TaskFilter, parse_and_filter
from segstudio.tasks import Problem, Task

MAX_TASK_BYTES: Final = 1 << 30
"""A single task of more JSON than this is refused: it would not fit into memory."""

_CHUNK_BYTES: Final = 1 << 16
_GZIP_MAGIC: Final = b"\x1f\x8b"
_DeflateError = cast("type[Exception]", zlib_ng.error)
_LINE_SUFFIXES: Final = (".jsonl", ".ndjson", ".jsonl.gz", ".ndjson.gz")
_SUFFIXES: Final = (*_LINE_SUFFIXES, ".json.gz", ".json")


class FileSource:
    """An export file as a source of tasks.

    Without a labelling interface (given, or `X.label-config.xml` beside `X.json`) one is derived
    from the labels that the annotations use, and a problem says so.
    """

    project_id: int | None = None
    project_ids: tuple[int, ...] = ()

    def __init__(
        self, spec: str, filters: TaskFilter, label_config_path: Path | None = None
    ) -> None:
        self.description = spec
        self.problems: list[Problem] = []
        self.filters = filters
        self._spec = spec
        self._filters = filters
        self._open = _opener(spec)
        self._label_config_path = label_config_path or sidecar(spec, "label-config.xml")
        self.taxonomy_path = sidecar(spec, "taxonomy.yaml")
        self._derived_config: list[Problem] = []
        self._spool: _Spool | None = None

    @cached_property
    def label_config(self) -> LabelConfig:
        """The labelling interface; the first use may need a pass over the file."""
        if self._label_config_path is not None:
            try:
                text = self._label_config_path.read_text(encoding="utf-8-sig")
            except (OSError, UnicodeDecodeError) as error:
                raise SourceError(
                    f"The labelling interface {self._label_config_path} cannot be read: {error}."
                ) from error
            return parse_label_config(text)
        # Kept while it is read, in a form that reads many times faster than JSON: the file
        # itself is read once.
        spool = _Spool()
        xml = infer_label_config(spool.keep(self._raw_tasks()))
        self._spool = spool
        if xml is None:
            raise UsageError(
                f"{self._spec} has no labelling interface beside it and no regions to derive one "
                "from. Give it with --label-config X.xml (in Label Studio: Settings > Labeling "
                "Interface > Code)."
            )
        problem = Problem(
            "derived-label-config",
            f"{self._spec} has no labelling interface beside it; its classes are the labels that "
            "its regions use. Give the real one with --label-config X.xml.",
        )
        self._derived_config = [problem]
        self.problems.append(problem)
        return parse_label_config(xml)

    def tasks(self) -> Iterator[Task]:
        """Yield the tasks that pass the filters, in the file's order.

        Raises:
            SourceError: the file is cut off or no JSON; says after which task. What came before
                has been handed out.
        """
        self.problems[:] = self._derived_config
        return parse_and_filter(self._raw_tasks(), self._filters, self.problems, self._spec)

    def count(self) -> int | None:
        """Return None: only a full pass would tell."""
        return None

    def _raw_tasks(self) -> Iterator[Any]:
        if self._spool is not None:
            return self._spool.values()
        lines = self._spec.lower().endswith(_LINE_SUFFIXES)
        return read_raw_tasks(self._open, self._spec, as_lines=lines)


class _Spool:
    """Decoded JSON values in a temporary file, to be read again as often as needed."""

    def __init__(self) -> None:
        self._file: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - as long as the source
        self._count = 0

    def keep(self, values: Iterable[Any]) -> Iterator[Any]:
        """Hand the values through and keep them."""
        for value in values:
            marshal.dump(value, self._file)
            self._count += 1
            yield value

    def values(self) -> Iterator[Any]:
        """Yield the kept values; several readers may take turns."""
        offset = 0
        for _ in range(self._count):
            self._file.seek(offset)
            value = marshal.load(self._file)  # noqa: S302 - our own file
            offset = self._file.tell()
            yield value


def sidecar(spec: str, kind: str) -> Path | None:
    """Return the existing file `X.<kind>` beside `X.json`, `X.json.gz` or `X.jsonl`, or None."""
    if "://" in spec:
        return None
    path = Path(spec)
    name = path.name
    for suffix in _SUFFIXES:
        if name.lower().endswith(suffix):
            name = name[: -len(suffix)]
            break
    candidate = path.with_name(f"{name}.{kind}")
    return candidate if candidate.is_file() else None


def read_raw_tasks(
    open_file: Callable[[], IO[bytes]], name: str, *, as_lines: bool = False
) -> Iterator[Any]:
    """Yield the decoded JSON of each task.

    Args:
        open_file: returns the file, opened for bytes; gzip is recognised by its first bytes.
        name: the file's name, for errors.
        as_lines: one JSON value a line. Otherwise an array of tasks, one task, several values
            in a row, or an object with a "tasks" array.

    Raises:
        SourceError: see `FileSource.tasks`.
    """
    progress = _Progress(name)
    try:
        with open_file() as raw:
            plain = _maybe_gunzip(raw)
            values = _read_lines(plain, progress) if as_lines else _read_values(plain, progress)
            for value in values:
                progress.tasks += 1
                if isinstance(value, dict) and isinstance(value.get("id"), int):
                    progress.last_id = value["id"]
                yield value
    except (EOFError, gzip.BadGzipFile, _DeflateError) as error:
        raise SourceError(
            f"{name} is cut off or damaged {progress.place()}: {error}. "
            "Export or copy it again; the part before can be read."
        ) from error
    except UnicodeDecodeError as error:
        raise SourceError(f"{name} is not UTF-8 {progress.place()}: {error}.") from error
    except RecursionError as error:
        raise SourceError(f"{name} is nested too deeply {progress.place()}.") from error
    except OSError as error:
        raise SourceError(f"{name} cannot be read {progress.place()}: {error}.") from error


class _Progress:
    """How far the reading has come, for the sentence of an error."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.tasks = 0
        self.last_id: int | None = None

    def place(self) -> str:
        if self.tasks == 0:
            return "before its first task"
        with_id = f", the last with id {self.last_id}" if self.last_id is not None else ""
        plural = "" if self.tasks == 1 else "s"
        return f"after {self.tasks} task{plural}{with_id}"


class _BoundedReader:
    """Reads through, skips a byte order mark, and refuses a task that never ends."""

    def __init__(self, stream: IO[bytes], progress: _Progress) -> None:
        self._stream = stream
        self._progress = progress
        self._tasks_seen = 0
        self._bytes_since_task = 0
        self._first = True

    def read(self, size: int = -1) -> bytes:
        chunk = self._stream.read(_CHUNK_BYTES if size < 0 else size)
        if self._first and chunk:
            chunk, self._first = chunk.removeprefix(b"\xef\xbb\xbf"), False
        if self._progress.tasks != self._tasks_seen:
            self._tasks_seen, self._bytes_since_task = self._progress.tasks, 0
        self._bytes_since_task += len(chunk)
        if self._bytes_since_task > MAX_TASK_BYTES:
            raise _too_large(self._progress)
        return chunk


def _too_large(progress: _Progress) -> SourceError:
    return SourceError(
        f"{progress.name} holds a task of more than {MAX_TASK_BYTES:,} bytes "
        f"{progress.place()}. No annotation is that large; look at that task."
    )


def _read_values(stream: IO[bytes], progress: _Progress) -> Iterator[Any]:
    import ijson

    start = _first_byte(stream)
    if start == b"":
        raise SourceError(f"{progress.name} is empty.")
    if start not in (b"[", b"{"):
        raise SourceError(
            f"{progress.name} is not JSON: it starts with {start!r}. "
            "Export the project as JSON (not CSV, not a zip)."
        )
    reader = _BoundedReader(stream, progress)
    try:
        if start == b"[":
            yield from _read_array(reader)
            return
        for value in ijson.items(reader, "", use_float=True, multiple_values=True):
            inner = value.get("tasks") if isinstance(value, dict) and "data" not in value else None
            if isinstance(inner, list):
                yield from inner
            else:
                yield value
    except ijson.JSONError as error:
        reason = " ".join(str(error).split())
        raise SourceError(
            f"{progress.name} is not valid JSON {progress.place()}: {reason}. It may be cut off; "
            "export it again."
        ) from error


def _read_array(reader: _BoundedReader) -> Iterator[Any]:
    """Yield the items of an array whose bracket is the next thing to read."""
    import ijson

    head = reader.read()
    bracket = head.index(b"[") + 1
    replay = _Replay(head[bracket:], reader)
    objects = ArrayItems(replay.read)
    decode = ObjectDecoder()
    for text in objects:
        try:
            value = decode(text)
        except ValueError:
            break
        yield value
    # Its end, or what the fast way cannot read: after an item, if there was one, as it was.
    replay.unread((b"[0" if objects.count else b"[") + objects.rest)
    items = ijson.items(replay, "item", use_float=True, buf_size=_CHUNK_BYTES)
    yield from islice(items, int(objects.count > 0), None)


class _Replay:
    """A reader with something put in front of it."""

    def __init__(self, first: bytes, reader: _BoundedReader) -> None:
        self._first = first
        self._reader = reader

    def unread(self, first: bytes) -> None:
        self._first = first

    def read(self, size: int = -1) -> bytes:
        if size == 0 or not self._first:
            return self._reader.read(size)
        chunk, self._first = self._first, b""
        return chunk


def _read_lines(stream: IO[bytes], progress: _Progress) -> Iterator[Any]:
    number = 0
    decode = ObjectDecoder()
    while line := stream.readline(MAX_TASK_BYTES + 1):
        number += 1
        if len(line) > MAX_TASK_BYTES:
            raise _too_large(progress)
        if number == 1:
            line = line.removeprefix(b"\xef\xbb\xbf")
        if not line.strip():
            continue
        try:
            value = decode(line)
        except ValueError:
            value = _read_line(line, number, progress)
        yield value


def _read_line(line: bytes, number: int, progress: _Progress) -> Any:
    """Decode what orjson cannot, or say where it is damaged."""
    try:
        return json.loads(line)
    except json.JSONDecodeError as error:
        raise SourceError(
            f"{progress.name} is not valid JSON in line {number} ({error.msg} at column "
            f"{error.colno}), {progress.place()}. It may be cut off; export it again."
        ) from error


def _first_byte(stream: IO[bytes]) -> bytes:
    """Return the first byte that is neither white space nor a byte order mark, without reading."""
    assert isinstance(stream, io.BufferedReader)  # noqa: S101 - so made by _maybe_gunzip
    head = stream.peek(4096).removeprefix(b"\xef\xbb\xbf").lstrip()
    return head[:1]


def _maybe_gunzip(raw: IO[bytes]) -> IO[bytes]:
    buffered = io.BufferedReader(_AsRaw(raw), _CHUNK_BYTES)
    if buffered.peek(2)[:2] != _GZIP_MAGIC:
        return buffered
    plain = gzip_ng.GzipNGFile(fileobj=buffered, mode="rb")  # type: ignore[no-untyped-call]
    return io.BufferedReader(_AsRaw(plain), _CHUNK_BYTES)


class _AsRaw(io.RawIOBase):
    """Any object with `read` as a raw stream, so that BufferedReader can look ahead."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        chunk: bytes = self._stream.read(len(buffer))
        buffer[: len(chunk)] = chunk
        return len(chunk)


def _opener(spec: str) -> Callable[[], IO[bytes]]:
    if "://" in spec:
        return lambda: _open_remote(spec)
    path = Path(spec)
    if path.is_dir():
        raise UsageError(f"{spec} is a folder; SOURCE is an export file or project:ID.")
    if not path.exists():
        raise UsageError(
            f"The file {spec} does not exist. SOURCE is an export file (.json, .json.gz, .jsonl) "
            "or project:ID."
        )
    return lambda: path.open("rb")


def _open_remote(spec: str) -> IO[bytes]:
    import fsspec

    try:
        opened: IO[bytes] = fsspec.open(spec, "rb").open()
    except (ImportError, ValueError) as error:
        raise UsageError(f"{spec} cannot be opened: {error}.") from error
    return opened
