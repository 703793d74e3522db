"""The objects of a JSON array, cut out and decoded one by one: faster than a parser's events.

Nearly all of an export file is brush streams, lists of small numbers. Items are found by counting
braces outside of texts, streams become bytes at once, and orjson decodes what is left. Whatever is
not an array of objects that decode is left to a real parser, which says what is wrong.
"""

from __future__ import annotations

import re
import secrets
import sys
from collections.abc import Callable, Iterator
from typing import Any, Final

import numpy as np
import orjson

_QUOTE, _OPEN, _CLOSE = b'"{}'
_ESCAPE: Final = re.compile(rb"\\.", re.DOTALL)
_BEFORE_ITEM: Final = re.compile(rb"[ \t\r\n]*(,?)[ \t\r\n]*(?=\{|\Z)")
_STREAM_KEY: Final = b'"rle"'
_STREAM: Final = re.compile(rb'"rle"[ \t\r\n]*:[ \t\r\n]*\[')
# Stands for a stream while the rest is decoded; no file can guess it.
_MARK: Final = secrets.token_hex(16) + ":"
_PLAIN_CHARS: Final = 1 << 22
_Stream = tuple[int, int, bytes]


class ArrayItems:
    """Iterates over the objects of a JSON array as bytes, as far as that goes.

    Args:
        read: returns the next bytes, none at the end; the array's opening bracket is not among
            them.

    Iterating ends before the first thing that is no object: the end of the array, if nothing
    else. Then `count` objects have been handed out, and `rest` is what was read after them. While
    an object is looked at it still belongs to `rest`, so that another reader can take over there.
    """

    def __init__(self, read: Callable[[], bytes]) -> None:
        self.count = 0
        self._read = read
        self._ends = _ItemEnds()
        self._held: list[bytes] = []
        self._chunk, self._start = b"", 0

    @property
    def rest(self) -> bytes:
        """What was read and not handed out."""
        return b"".join((*self._held, self._chunk[self._start :]))

    def __iter__(self) -> Iterator[bytes]:
        while chunk := self._read():
            self._chunk, self._start = chunk, 0
            for end in self._ends.find(chunk):
                text = b"".join((*self._held, chunk[self._start : end]))
                before = _BEFORE_ITEM.match(text)
                if before is None or bool(before[1]) != bool(self.count):
                    return
                yield text[before.end() :]
                self.count += 1
                self._held.clear()
                self._start = end
            self._held.append(chunk[self._start :])
            self._chunk, self._start = b"", 0
            if self._ends.depth < 0 or (
                self._ends.depth == 0 and _BEFORE_ITEM.fullmatch(self.rest) is None
            ):
                return


class _ItemEnds:
    """Finds where objects of depth 1 end, from chunk to chunk."""

    def __init__(self) -> None:
        self.depth = 0
        self._in_text = 0
        self._in_escape = False

    def find(self, chunk: bytes) -> list[int]:
        """Where in the chunk, behind the closing brace."""
        if self._in_escape:
            chunk = b" " + chunk[1:]
        if b"\\" in chunk:
            chunk = _ESCAPE.sub(b"  ", chunk)
        self._in_escape = chunk.endswith(b"\\")
        codes = np.frombuffer(chunk, np.uint8)
        at = np.flatnonzero((codes == _QUOTE) | (codes == _OPEN) | (codes == _CLOSE))
        if not len(at):
            return []
        found = codes[at]
        is_quote = found == _QUOTE
        in_text = (np.cumsum(is_quote) + self._in_text) & 1
        self._in_text = int(in_text[-1])
        is_brace = ~is_quote & (in_text == 0)
        opens = found[is_brace] == _OPEN
        if not len(opens):
            return []
        depths = self.depth + np.cumsum(np.where(opens, 1, -1))
        self.depth = int(depths[-1])
        ends: list[int] = (at[is_brace][(depths == 0) & ~opens] + 1).tolist()
        return ends


class ObjectDecoder:
    """Decodes JSON objects; brush streams, lists of bytes under "rle", come as `bytes`.

    >>> ObjectDecoder()(b'{"rle": [65, 66], "format": "rle"}')
    {'rle': b'AB', 'format': 'rle'}
    """

    def __init__(self) -> None:
        self._plain_chars = 0

    def __call__(self, text: bytes) -> Any:
        """Decode one object.

        Raises:
            ValueError: no JSON as orjson knows it.
        """
        found = self._streams(text) if _STREAM_KEY in text else []
        if found:
            parts: list[bytes] = []
            done = 0
            for number, (start, stop, _) in enumerate(found):
                parts += [text[done:start], f'"{_MARK}{number}"'.encode()]
                done = stop
            value = orjson.loads(b"".join((*parts, text[done:])))
            if _put_back(value, [stream for _, _, stream in found]) == len(found):
                return value
        # No stream, or one that is none (the end of another key, say).
        return orjson.loads(text)

    def _streams(self, text: bytes) -> list[_Stream]:
        if self._plain_chars < _PLAIN_CHARS and "numba" not in sys.modules:
            # Loading the compiled reader takes longer than this much text.
            found = plain_streams(text)
            self._plain_chars += sum(stop - start for start, stop, _ in found)
            return found
        from segstudio.json_kernels import streams_of_object

        packed, places = streams_of_object(np.frombuffer(text, np.uint8))
        numbers = packed.tobytes()
        streams: list[_Stream] = []
        done = 0
        for start, stop, end in places.tolist():
            streams.append((start, stop, numbers[done:end]))
            done = end
        return streams


def plain_streams(text: bytes) -> list[_Stream]:
    """The brush streams of some JSON: where the list starts, where it ends, its bytes."""
    found: list[_Stream] = []
    at = text.find(_STREAM_KEY)
    while at >= 0:
        head = _STREAM.match(text, at)
        close = text.find(b"]", at) if head else -1
        done = at + 1
        if head is not None and close >= 0:
            try:
                stream = bytes(orjson.loads(text[head.end() - 1 : close + 1]))
                found.append((head.end() - 1, close + 1, stream))
                done = close + 1
            except (TypeError, ValueError):
                pass
        at = text.find(_STREAM_KEY, done)
    return found


def _put_back(value: Any, streams: list[bytes]) -> int:
    """Put the streams in the place of their marks; how many marks there were."""
    count = 0
    for node in _usual_places(value):
        mark = node.get("rle")
        if type(mark) is str and mark.startswith(_MARK):
            node["rle"] = streams[int(mark.removeprefix(_MARK))]
            count += 1
    nodes = [value] if count < len(streams) else []
    while nodes:
        node = nodes.pop()
        if type(node) is dict:
            mark = node.get("rle")
            if type(mark) is str and mark.startswith(_MARK):
                node["rle"] = streams[int(mark.removeprefix(_MARK))]
                count += 1
            nodes += node.values()
        elif type(node) is list:
            nodes += node
    return count


def _usual_places(task: Any) -> Iterator[dict[str, Any]]:
    """The `value` objects of a task's results: to look there first spares a walk over all of it."""
    works = [task.get("annotations"), task.get("predictions")] if type(task) is dict else []
    for work in (one for some in works if type(some) is list for one in some):
        result = work.get("result") if type(work) is dict else None
        for item in result if type(result) is list else ():
            value = item.get("value") if type(item) is dict else None
            if type(value) is dict:
                yield value
