"""Arrays of objects cut into items: the same values as a parser's, wherever chunks end."""

import io
import json

import numpy as np
import pytest

from segstudio.json_items import ArrayItems, ObjectDecoder, plain_streams
from segstudio.json_kernels import streams_of_object

TEXTS = {
    "plain": '{"id": 1}, {"id": 2} ,\n{"id": 3}]',
    "braces and quotes in texts": r'{"a": "}{\"", "b\\": "\\"},{"c": {"d": ["{", {}]}}]',
    "empty": " ]",
}


def handed_out(text, chunk_bytes):
    file = io.BytesIO(text.encode())
    items = ArrayItems(lambda: file.read(chunk_bytes))
    return [json.loads(one) for one in items], items


@pytest.mark.parametrize("name", TEXTS)
@pytest.mark.parametrize("chunk_bytes", [1, 2, 3, 7, 1000])
def test_items_are_the_same_wherever_chunks_end(name, chunk_bytes):
    found, items = handed_out(TEXTS[name], chunk_bytes)
    assert found == json.loads("[" + TEXTS[name])
    assert (items.count, items.rest.strip()) == (len(found), b"]")


@pytest.mark.parametrize(
    ("text", "count", "rest"),
    [
        ('{"a": 1}, 2, {"b": 3}]', 1, ', 2, {"b": 3}]'),
        ('{"a": 1} {"b": 3}]', 1, ' {"b": 3}]'),
        (', {"a": 1}]', 0, ', {"a": 1}]'),
        ('{"a": 1}}, {"b": 3}]', 1, '}, {"b": 3}]'),
        ('{"a": 1}, {"b": ', 1, ', {"b": '),
        ('[{"a": 1}]]', 0, '[{"a": 1}]]'),
    ],
)
@pytest.mark.parametrize("chunk_bytes", [1, 5, 1000])
def test_what_is_no_array_of_objects_is_left_with_what_follows(text, count, rest, chunk_bytes):
    file = io.BytesIO(text.encode())
    items = ArrayItems(lambda: file.read(chunk_bytes))
    for one in items:
        try:
            json.loads(one)
        except ValueError:
            break
    assert items.count == count
    assert (items.rest + file.read()).decode() == rest


def test_an_item_belongs_to_the_rest_until_the_next_is_asked_for():
    items = ArrayItems(io.BytesIO(b'{"a": 1}, {"b"; 2}, {"c": 3}]').read)
    walk = iter(items)
    next(walk)
    assert next(walk) == b'{"b"; 2}'
    assert (items.count, items.rest) == (1, b', {"b"; 2}, {"c": 3}]')


def test_streams_come_as_bytes_wherever_they_lie():
    raw = {
        "annotations": [
            {"prediction": {"result": [{"value": {"format": "rle", "rle": [0, 255]}}]}}
        ],
        "rle": [],
        "text": 'it says "rle": [1, 2]',
        "rle ": [3],
    }
    found = ObjectDecoder()(json.dumps(raw, indent=1).encode())
    assert found["annotations"][0]["prediction"]["result"][0]["value"]["rle"] == b"\0\xff"
    assert (found["rle"], found["text"], found["rle "]) == (b"", raw["text"], [3])


@pytest.mark.parametrize(
    "text",
    ['{"rle": [1, 256]}', '{"rle": [-1]}', '{"rle": [[1], 2]}', '{"rle": 5}', '{"rle": ["a"]}',
     '{"rle": [1.5]}', '{"a\\"rle": [1]}', '{"rle": [1], "rle": [2, 999]}'],
)  # fmt: skip
def test_what_is_no_stream_stays_as_it_is(text):
    assert ObjectDecoder()(text.encode()) == json.loads(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0, 17,255", [0, 17, 255]), (" 1\n,\t2 ", [1, 2]), ("", []), ("  ", []),
        ("256", None), ("1,,2", None), ("1,", None), (",1", None), ("01", None), ("1 2", None),
        ("-1", None), ("true", None), ("1.0", None), ("1000", None),
        ("1, 20, 255, 3, 0, 7", [1, 20, 255, 3, 0, 7]), ("1,20,255,3,0,7", [1, 20, 255, 3, 0, 7]),
        ("9,8, 7,6 , 5,40, 3, 2", [9, 8, 7, 6, 5, 40, 3, 2]), ("1, 2, 3,", None),
        ("1, 2, 3, 256, 5, 6, 7", None), ("1, 2, 01, 5, 6, 7", None), ("1, 2, , 5, 6, 7", None),
        ("1, 2, x, 5, 6, 7", None), ("1, 2x, 5, 6, 7", None), ("1, 2, 3.5, 5, 6", None),
        ("1, 2 3, 5, 6, 7", None), ("1,2,3,,4,5,6", None), ("1, 2, 1000, 5, 6", None),
    ],
)  # fmt: skip
def test_the_compiled_reader_takes_lists_of_bytes_only(text, expected):
    before, whole = '{"a": "rle", "rle": ', f'{{"a": "rle", "rle": [{text}], "rle": [7, 8]}}'
    numbers, places = streams_of_object(np.frombuffer(whole.encode(), np.uint8))
    first = [] if expected is None else [[len(before), len(before) + len(text) + 2, len(expected)]]
    assert places.tolist()[:-1] == first
    assert numbers.tolist() == [*(expected or []), 7, 8]
    assert whole[slice(*places[-1, :2])] == "[7, 8]"


@pytest.mark.parametrize("blank", ["", " ", "\n "])
def test_compiled_and_plain_search_find_the_same_streams(blank):
    random = np.random.default_rng(0)
    lists = [random.integers(0, 256, size).tolist() for size in (*range(6), *[40] * 70)]
    lists[3:3] = [[1, 999], ["rle"], [[1]], [{"rle": [4]}]]
    text = json.dumps(
        [{"rle": one, "x": f'"rle":{blank}[1]'} for one in lists],
        separators=(f",{blank}", f":{blank}"),
    ).encode()
    numbers, places = streams_of_object(np.frombuffer(text, np.uint8))
    starts = [0, *places[:-1, 2]]
    streams = [numbers[a:b].tobytes() for a, b in zip(starts, places[:, 2], strict=True)]
    ends = [tuple(pair) for pair in places[:, :2].tolist()]
    found = plain_streams(text)
    assert len(found) == 77
    assert [(*place, stream) for place, stream in zip(ends, streams, strict=True)] == found


@pytest.mark.parametrize(
    "text", ["", '"rle"', '"rle":', '"rle": [', '"rle":[1', '"rle":[1,2,3,4,5']
)
def test_a_stream_that_is_cut_off_is_none(text):
    numbers, places = streams_of_object(np.frombuffer(text.encode(), np.uint8))
    assert (len(numbers), len(places), plain_streams(text.encode())) == (0, 0, [])


@pytest.mark.parametrize(
    "text", ['{"rle": [1, ]}', '{"rle": [01]}', '{"rle": [1 2]}', '{"rle": [1']
)
def test_damage_in_a_stream_is_an_error(text):
    with pytest.raises(ValueError, match=r"."):
        ObjectDecoder()(text.encode())
