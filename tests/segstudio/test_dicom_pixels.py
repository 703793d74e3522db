"""Grey values: windows, tables, photometric interpretations, against pydicom and by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.data import get_testdata_files
from pydicom.dataset import Dataset
from pydicom.pixels.processing import apply_color_lut, apply_windowing

from segstudio.dicom_files import DicomFileError, read_header
from segstudio.dicom_pixels import (
    PRESETS,
    Window,
    apply_window,
    auto_window,
    check_image,
    chosen_window,
    iter_frames,
    parse_window,
    to_8bit,
)
from segstudio.errors import UsageError
from tests.segstudio.dicom_cases import make_dataset, write_file


def first_frame(path: Path) -> tuple[np.ndarray, Dataset]:
    header = read_header(path)
    return next(iter_frames(path, header, [0])), header


def packaged(name: str) -> Path:
    return Path(get_testdata_files(name)[0])


@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID"])
@pytest.mark.parametrize(("center", "width"), [(40.0, 400.0), (-600.0, 1500.0), (127.0, 1.5)])
def test_windows_are_those_of_pydicom(function: str, center: float, width: float) -> None:
    values = np.arange(-1200, 1200, 7, dtype=np.float64)
    window = Dataset()
    window.PhotometricInterpretation = "MONOCHROME2"
    window.BitsStored, window.PixelRepresentation = 8, 0
    window.WindowCenter, window.WindowWidth, window.VOILUTFunction = center, width, function
    theirs = apply_windowing(values, window)
    ours = apply_window(values, Window("", center, width, function))
    assert np.abs(ours - theirs).max() <= 0.51  # theirs is not rounded


@pytest.mark.parametrize(
    ("text", "center", "width"),
    [("lung", -600, 1500), ("40,400", 40, 400), (" -5.5, 10", -5.5, 10)],
)
def test_window_texts(text: str, center: float, width: float) -> None:
    window = parse_window(text)
    assert (window.center, window.width) == (center, width)


@pytest.mark.parametrize("text", ["", "kidney", "40", "40,0", "40,-3", "a,b", "nan,4"])
def test_window_texts_that_are_none(text: str) -> None:
    with pytest.raises(UsageError, match="--window takes abdomen, lung"):
        parse_window(text)


@pytest.mark.parametrize(
    ("attributes", "stored", "shown"),
    [
        # 1064 - 1024 = 40 HU is the centre of 40/400: 200 HU below it is black, above it white.
        ({}, [[0, 863, 1064, 1263, 2000]], [[0, 0, 128, 255, 255]]),
        ({"PhotometricInterpretation": "MONOCHROME1"}, [[0, 1064, 2000]], [[255, 127, 0]]),
        ({"RescaleSlope": 2, "RescaleIntercept": 0, "WindowCenter": 100, "WindowWidth": 201,
          "VOILUTFunction": "LINEAR_EXACT"}, [[0, 50, 100]], [[1, 128, 254]]),
    ],
)  # fmt: skip
def test_grey_values_by_hand(attributes: dict[str, Any], stored: Any, shown: Any) -> None:
    header = make_dataset(**attributes)
    window = chosen_window(header, 0, None, None)
    assert to_8bit(np.array(stored, np.int16), header, 0, window).tolist() == shown


def test_a_voi_lut_of_the_file_goes_before_its_window() -> None:
    table = Dataset()
    table.LUTDescriptor = [4, 0, 8]
    table.LUTData = [0, 80, 160, 255]
    header = make_dataset(RescaleIntercept=0, VOILUTSequence=[table])
    window = chosen_window(header, 0, None, None)
    assert window is None
    stored = np.array([[0, 1, 2, 3, 4]], np.int16)
    assert to_8bit(stored, header, 0, window).tolist() == [[0, 80, 160, 255, 255]]


@pytest.mark.parametrize(
    ("descriptor", "data", "stored", "shown"),
    [
        ([4, 0, 8], [0, 80, 160, 255], [0, 1, 3, 1000], [0, 80, 255, 255]),
        ([4, 0, 8], bytes([0, 0, 80, 0, 160, 0, 255, 0]), [0, 1, 3, 1000], [0, 80, 255, 255]),
        ([4, 0, 8], bytes([0, 80, 160, 255]), [0, 1, 3, 1000], [0, 80, 255, 255]),
        ([2, 65436, 16], [0, 65535], [-200, -100, -99, 5], [0, 0, 255, 255]),
        ([3, 5, 12], [0, 2048, 4095], [-7, 5, 6, 7], [0, 0, 128, 255]),
    ],
)
def test_tables_by_hand(
    descriptor: list[int], data: Any, stored: list[int], shown: list[int]
) -> None:
    table = Dataset()
    table.LUTDescriptor = descriptor
    table.add_new(0x00283006, "OW" if isinstance(data, bytes) else "US", data)
    header = make_dataset(RescaleIntercept=0, VOILUTSequence=[table])
    assert to_8bit(np.array([stored], np.int16), header, 0, None).tolist() == [shown]


def test_a_modality_lut_goes_before_the_window() -> None:
    table = Dataset()
    table.LUTDescriptor = [3, 0, 16]
    table.LUTData = [0, 40, 400]
    header = make_dataset(RescaleIntercept=0, ModalityLUTSequence=[table])
    stored = np.array([[0, 1, 2]], np.int16)
    assert to_8bit(stored, header, 0, Window("", 40, 400)).tolist() == [[102, 128, 255]]


def test_presets_are_for_ct_only() -> None:
    lung = PRESETS["lung"]
    assert chosen_window(make_dataset(), 0, lung, None) == lung
    own = chosen_window(make_dataset(modality="MR"), 0, lung, None)
    assert own is not None and (own.name, own.center) == ("file", 40.0)
    assert chosen_window(make_dataset(modality="MR"), 0, parse_window("5,10"), None) == Window(
        "c5w10", 5, 10
    )


def test_eight_plain_bits_are_shown_as_they_are() -> None:
    header = make_dataset(
        np.zeros((2, 2), np.uint8), WindowCenter=None, WindowWidth=None, RescaleIntercept=0
    )
    stored = np.array([[0, 100], [200, 255]], np.uint8)
    assert to_8bit(stored, header, 0, chosen_window(header, 0, None, None)).tolist() == (
        stored.tolist()
    )


def test_an_automatic_window_leaves_padding_out() -> None:
    header = make_dataset(
        WindowCenter=None, WindowWidth=None, RescaleIntercept=0, PixelPaddingValue=-2000
    )
    stored = np.full((10, 10), -2000, np.int16)
    stored[:, :5] = np.arange(50).reshape(10, 5)
    window = auto_window([(stored, header, 0)])
    assert window.name == "auto"
    assert -1 <= window.center - window.width / 2 <= 1
    assert 48 <= window.center + window.width / 2 <= 50


def test_graphics_in_unused_high_bits_are_cleared(tmp_path: Path) -> None:
    pixels = np.array([[0x0005, 0x1005], [0xF005, 0x0FFF]], np.uint16)
    path = write_file(tmp_path, "a.dcm", make_dataset(pixels, BitsStored=12, HighBit=11))
    stored, _ = first_frame(path)
    assert stored.tolist() == [[5, 5], [5, 0x0FFF]]
    path = write_file(tmp_path, "b.dcm", make_dataset(
        pixels.view(np.int16), BitsStored=12, HighBit=11))  # fmt: skip
    stored, _ = first_frame(path)
    assert stored.tolist() == [[5, 5], [5, -1]]


def test_twelve_bit_jpeg_is_decoded_without_the_plugin_under_the_gpl() -> None:
    stored, _ = first_frame(packaged("JPGExtended.dcm"))
    # The values that pydicom's own tests state for this file.
    assert stored.shape == (1024, 256)
    assert (stored[420, 140], stored[230, 120]) == (244, 95)


def test_palettes_are_those_of_pydicom() -> None:
    path = packaged("examples_palette.dcm")
    stored, header = first_frame(path)
    theirs = (apply_color_lut(stored, header) >> 8).astype(np.uint8)
    assert np.array_equal(to_8bit(stored, header, 0, None), theirs)
    assert theirs.max() > 200


def test_palettes_of_big_endian_files_are_turned(tmp_path: Path) -> None:
    pixels = np.array([[0, 1], [2, 1]], np.uint8)
    header = make_dataset(pixels, PhotometricInterpretation="PALETTE COLOR")
    words = np.array([0x1000, 0x8000, 0xFF00], ">u2")
    for colour in ("Red", "Green", "Blue"):
        setattr(header, f"{colour}PaletteColorLookupTableDescriptor", [3, 0, 16])
        setattr(header, f"{colour}PaletteColorLookupTableData", words.tobytes())
    header.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.2"
    header.PixelData = b""
    path = tmp_path / "a.dcm"
    header.save_as(path, implicit_vr=False, little_endian=False)
    read = read_header(path)
    assert to_8bit(pixels, read, 0, None)[..., 0].tolist() == [[0x10, 0x80], [0xFF, 0x80]]


def test_segmented_palettes_of_big_endian_files_are_turned_too(tmp_path: Path) -> None:
    pixels = np.array([[0, 1], [3, 2]], np.uint8)
    header = make_dataset(pixels, PhotometricInterpretation="PALETTE COLOR")
    # A discrete segment of one value, then a linear one of three up to 0x4000.
    words = np.array([0, 1, 0x1000, 1, 3, 0x4000], ">u2")
    for colour in ("Red", "Green", "Blue"):
        setattr(header, f"{colour}PaletteColorLookupTableDescriptor", [4, 0, 16])
        setattr(header, f"Segmented{colour}PaletteColorLookupTableData", words.tobytes())
    header.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.2"
    header.PixelData = b""
    path = tmp_path / "a.dcm"
    header.save_as(path, implicit_vr=False, little_endian=False)
    shown = to_8bit(pixels, read_header(path), 0, None)
    assert shown[..., 0].tolist() == [[0x10, 0x20], [0x40, 0x30]]


def test_colours_of_more_bits_keep_their_highest_eight() -> None:
    header = make_dataset(BitsStored=16, PhotometricInterpretation="RGB", SamplesPerPixel=3)
    stored = np.array([[[0xFFFF, 0x80FF, 0x0001]]], np.uint16)
    assert to_8bit(stored, header, 0, None).tolist() == [[[255, 128, 0]]]


@pytest.mark.parametrize(
    ("attributes", "reason"),
    [
        ({"Rows": None}, r"holds no image \(modality CT\)"),
        ({"Rows": 65535, "Columns": 65535}, "at most"),
        ({"SamplesPerPixel": 4}, "samples per pixel"),
    ],
)
def test_headers_of_no_image_are_refused(attributes: dict[str, Any], reason: str) -> None:
    with pytest.raises(DicomFileError, match=reason):
        check_image(make_dataset(**attributes))


def test_a_decoder_that_panics_stops_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class PanicException(BaseException):
        """What decoders written in Rust raise: no Exception."""

    def panic(*_arguments: Any, **_options: Any) -> Any:
        raise PanicException("index out of bounds: Zyxwvut")
        yield

    path = write_file(tmp_path, "a.dcm", make_dataset())
    monkeypatch.setattr("pydicom.pixels.utils.iter_pixels", panic)
    with pytest.raises(DicomFileError, match="cannot be decoded") as caught:
        first_frame(path)
    assert "Zyxwvut" not in str(caught.value)


def test_fewer_frames_than_stated_are_an_error(tmp_path: Path) -> None:
    dataset = make_dataset(np.zeros((3, 4, 4), np.int16), NumberOfFrames=5)
    path = write_file(tmp_path, "a.dcm", dataset)
    with pytest.raises(DicomFileError, match="too early"):
        list(iter_frames(path, read_header(path)))
