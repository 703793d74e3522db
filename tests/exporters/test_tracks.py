import numpy as np
import pytest

from exporters.tracks import FrameObject, Track, link_tracks
from segstudio.errors import SegstudioError
from segstudio.masks import Mask


def thing(left: int, track: str | None = None, region: str = "", class_id: int = 1) -> FrameObject:
    dense = np.zeros((4, 40), bool)
    dense[:, left : left + 6] = True
    return FrameObject(class_id, Mask.from_dense(dense), track, region or f"at{left}")


def ids(linked: list[list[Track]]) -> list[list[int]]:
    return [[track.id for track in frame] for frame in linked]


def test_objects_follow_the_one_they_overlap_most_whatever_their_order() -> None:
    linked = link_tracks([[thing(0), thing(10)], [thing(11), thing(1)], [thing(2), thing(12)]])
    assert ids(linked) == [[1, 2], [2, 1], [1, 2]]
    assert [track.reason for track in linked[1]] == ["overlap", "overlap"]


def test_named_numbers_are_kept_and_others_avoid_them() -> None:
    linked = link_tracks([[thing(0), thing(10, "1")], [thing(30, "1"), thing(20, "left car")]])
    assert ids(linked) == [[2, 1], [1, 3]]


def test_copies_keep_the_ids_of_their_regions() -> None:
    linked = link_tracks([[thing(0, region="a"), thing(10)], [thing(30, region="a"), thing(11)]])
    assert ids(linked) == [[1, 2], [1, 2]]
    assert [track.reason for track in linked[1]] == ["same region", "overlap"]


def test_little_overlap_another_class_or_no_matching_begin_a_track() -> None:
    assert ids(link_tracks([[thing(0)], [thing(4)]])) == [[1], [2]]
    assert ids(link_tracks([[thing(0)], [thing(0, region="b", class_id=2)]])) == [[1], [2]]
    assert ids(link_tracks([[thing(0)], [thing(1)]], matches=False)) == [[1], [2]]


def test_what_a_name_has_taken_overlap_does_not_take_again() -> None:
    linked = link_tracks([[thing(0, "7")], [thing(1), thing(20, "7")]])
    assert ids(linked) == [[7], [1, 7]]


def test_empty_frames_and_no_frames_have_no_tracks() -> None:
    assert link_tracks([]) == []
    assert ids(link_tracks([[thing(0)], [], [thing(0, region="x")]])) == [[1], [], [2]]


def test_a_number_beyond_16_bits_is_refused() -> None:
    with pytest.raises(SegstudioError, match="track id 65536"):
        link_tracks([[thing(0, "65536")]])
