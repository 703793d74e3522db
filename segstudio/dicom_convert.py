"""One DICOM file becomes pictures, a de-identified DICOM file and tasks: what a worker does."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

import numpy as np
import numpy.typing as npt

from segstudio.dicom_deidentify import Deidentified, Removed, deidentify
from segstudio.dicom_files import DicomFileError, quiet_pydicom, read_header
from segstudio.dicom_frames import (
    code_of,
    length_of,
    orientation_of,
    position_of,
    spacing_of,
)
from segstudio.dicom_geometry import DicomRescale, DicomSlice, DicomWindow
from segstudio.dicom_pixels import (
    Window,
    black_out,
    chosen_window,
    iter_frames,
    rescale_of,
    to_8bit,
)
from segstudio.dicom_series import PlannedFile
from segstudio.dicom_uids import UidReplacer, key_entry
from segstudio.dicom_write import NativeDicomWriter

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

LOCAL_FILES: Final = "/data/local-files/?d="
_SECONDARY_CAPTURE: Final = "1.2.840.10008.5.1.4.1.1.7"


@dataclass(frozen=True, slots=True)
class ConvertSettings:
    """How files are converted: picklable, the same for all of a run.

    `windows` is empty for the file's own window; with more than one, a task has an image each.
    """

    folder: Path
    secret: bytes = field(repr=False)
    windows: tuple[Window, ...] = ()
    image_root_url: str = ""
    with_dicom: bool = True
    with_key: bool = False

    @property
    def image_keys(self) -> tuple[str, ...]:
        """The keys of a task's data that name its images, one a window."""
        return image_keys(self.windows)


@dataclass(frozen=True, slots=True)
class Converted:
    """What became of one file; `reason` says why it was left out, `key` leads back to it."""

    number: int
    reason: str = ""
    series: str = ""
    tasks: tuple[Mapping[str, Any], ...] = ()
    removed: tuple[Removed, ...] = ()
    notes: tuple[str, ...] = ()
    key: Mapping[str, object] | None = None


def image_keys(windows: Sequence[Window]) -> tuple[str, ...]:
    """Return the keys of a task's data that name its images.

    >>> image_keys(()), image_keys((Window("lung", -600, 1500), Window("bone", 400, 1800)))
    (('image',), ('image_lung', 'image_bone'))
    """
    if len(windows) < 2:
        return ("image",)
    return tuple(f"image_{window.name}" for window in windows)


def convert_file(settings: ConvertSettings, planned: PlannedFile) -> Converted:
    """Write one file's pictures and DICOM file; return its tasks and what was removed.

    Never raises for what is in the file: the reason says what was wrong, in words of ours, since
    a library's message may quote values.
    """
    found = planned.indexed.file
    written: list[Path] = []
    try:
        with quiet_pydicom(), found.local() as path:
            return _convert(settings, planned, path, written)
    except DicomFileError as error:
        reason = str(error)
    except (ImportError, SyntaxError):  # no fault of the file
        raise
    except Exception as error:  # a foreign file may fail anywhere in the libraries
        if isinstance(error, OSError) and error.errno:
            raise  # a full disk is no fault of the file
        reason = f"It cannot be converted ({type(error).__name__}): it is damaged."
    for picture in written:
        picture.unlink(missing_ok=True)
    return Converted(found.number, reason)


def _convert(
    settings: ConvertSettings, planned: PlannedFile, path: Path, written: list[Path]
) -> Converted:
    replacer = UidReplacer(settings.secret)
    header = read_header(path)
    fill_in_uids(header, planned, path)
    clean = read_header(path)
    for keyword in ("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID"):
        setattr(clean, keyword, header[keyword].value)
    done = deidentify(clean, replacer, clean_pixels=bool(planned.boxes))
    dicom_name = f"dicom/{planned.series}/{min(planned.slices):04}.dcm"
    tasks, notes = [], set()
    with ExitStack() as stack:
        writer = None
        if settings.with_dicom:
            target = settings.folder / dicom_name
            written.append(target)
            writer = stack.enter_context(NativeDicomWriter(target, clean, len(planned.slices)))
        for frame, stored in enumerate(iter_frames(path, header)):
            if planned.boxes:
                stored = np.array(stored)
                _mask(stored, header, planned.boxes)
            if writer is not None:
                writer.write_frame(stored)
            names, window = _write_pictures(settings, planned, header, frame, stored, written)
            if _ignores_preset(settings.windows, header):
                notes.add("a preset in Hounsfield units was not used: this is no CT")
            one = _slice(planned, header, clean, frame, window, len(planned.slices))
            one_file = dicom_name if writer is not None else None
            tasks.append(_task(settings, planned, one, one_file, names, stored.shape, done.patient))
    removed = set(done.removed)
    for tag in writer.unwritable if writer is not None else ():
        shown = f"({tag >> 16:04X},{tag & 0xFFFF:04X})"
        removed.add(Removed(shown, "", "removed: it cannot be written"))
    return Converted(
        number=planned.indexed.file.number,
        series=planned.series,
        tasks=tuple(sorted(tasks, key=lambda task: int(task["data"]["frame"]))),
        removed=tuple(sorted(removed)),
        notes=tuple(sorted(notes)),
        key=_key(planned, done) if settings.with_key else None,
    )


def fill_in_uids(header: Dataset, planned: PlannedFile, path: Path) -> None:
    """Give a header the UIDs that it lacks, in place; the same for the same content."""
    indexed = planned.indexed
    if not indexed.sop_class_uid or not _is_uid(indexed.sop_class_uid):
        header.SOPClassUID = _SECONDARY_CAPTURE
    if not indexed.uid:
        with path.open("rb") as file:
            header.SOPInstanceUID = f"content {hashlib.file_digest(file, 'sha256').hexdigest()}"
    if not str(header.get("SeriesInstanceUID") or ""):
        header.SeriesInstanceUID = f"series of {header.SOPInstanceUID}"
    if not indexed.series_key[0]:
        header.StudyInstanceUID = f"study of {header.SeriesInstanceUID}"


def _is_uid(text: str) -> bool:
    return 0 < len(text) <= 64 and all(part.isdecimal() for part in text.split("."))


def _write_pictures(
    settings: ConvertSettings, planned: PlannedFile, header: Dataset, frame: int,
    stored: npt.NDArray[Any], written: list[Path],
) -> tuple[list[str], Window | None]:  # fmt: skip
    """Write a frame's picture for each window; return their names and the first one's window."""
    wanted: Sequence[Window | None] = settings.windows or (None,)
    names, windows = [], []
    for asked in wanted:
        window = chosen_window(header, frame, asked, planned.window)
        suffix = f"-{asked.name}" if asked is not None and len(wanted) > 1 else ""
        name = f"images/{planned.series}/{planned.slices[frame]:04}{suffix}.png"
        target = settings.folder / name
        written.append(target)
        _write_png(target, to_8bit(stored, header, frame, window))
        names.append(name)
        windows.append(window)
    return names, windows[0]


def _ignores_preset(windows: Sequence[Window], header: Dataset) -> bool:
    return header.get("Modality") != "CT" and any(window.for_ct for window in windows)


def _write_png(path: Path, picture: npt.NDArray[np.uint8]) -> None:
    import cv2

    # OpenCV writes pixels and nothing else: no text, no time.
    ordered = picture if picture.ndim == 2 else cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
    is_written, encoded = cv2.imencode(".png", np.ascontiguousarray(ordered))
    if not is_written:
        raise DicomFileError("Its picture cannot be written as PNG.")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encoded.tobytes())


def _mask(
    stored: npt.NDArray[Any], header: Dataset, boxes: Sequence[tuple[int, int, int, int]]
) -> None:
    dark: Any = 0
    if stored.ndim == 2 and header.get("PhotometricInterpretation") != "PALETTE COLOR":
        is_inverse = header.get("PhotometricInterpretation") == "MONOCHROME1"
        dark = stored.max() if is_inverse else stored.min()
    black_out(stored, boxes, dark)


def _slice(
    planned: PlannedFile, header: Dataset, clean: Dataset, frame: int, window: Window | None,
    frames: int,
) -> DicomSlice:  # fmt: skip
    reference = str(clean.get("FrameOfReferenceUID") or "")
    return DicomSlice(
        series=planned.series,
        slice=planned.slices[frame],
        slices=planned.slices_of_series,
        study_uid=str(clean.StudyInstanceUID),
        series_uid=str(clean.SeriesInstanceUID),
        sop_class_uid=str(clean.SOPClassUID),
        sop_instance_uid=str(clean.SOPInstanceUID),
        rows=int(header.Rows),
        columns=int(header.Columns),
        modality=code_of(header, "Modality"),
        frame_number=frame + 1 if frames > 1 else None,
        frame_of_reference_uid=reference if _is_uid(reference) else None,
        pixel_spacing_mm=spacing_of(header, frame),
        image_orientation=orientation_of(header, frame),
        image_position_mm=position_of(header, frame),
        slice_thickness_mm=length_of(header, frame, "SliceThickness"),
        slice_spacing_mm=planned.spacing_mm[frame],
        window=None if window is None else DicomWindow(window.name, window.center, window.width),
        rescale=DicomRescale(*rescale_of(header, frame)),
        photometric=code_of(header, "PhotometricInterpretation"),
    )


def _task(
    settings: ConvertSettings, planned: PlannedFile, one: DicomSlice, dicom_file: str | None,
    names: Sequence[str], shape: Sequence[int], patient: str,
) -> dict[str, Any]:  # fmt: skip
    root = settings.image_root_url or LOCAL_FILES
    between = "" if root.endswith(("/", "=")) else "/"
    images = {
        key: f"{root}{between}{quote(name)}"
        for key, name in zip(settings.image_keys, names, strict=True)
    }
    imported = {"format": "dicom", "file_name": names[0],
                "width_px": int(shape[1]), "height_px": int(shape[0])}  # fmt: skip
    return {
        "data": {
            **images,
            "video": planned.series,
            "frame": one.slice,
            "patient": patient,
            "dicom": {**one.as_task_data(), "file": dicom_file},
        },
        "meta": {"segstudio": {"import": imported}},
    }


def _key(planned: PlannedFile, done: Deidentified) -> dict[str, object]:
    file = planned.indexed.file
    return key_entry(file.name, file.original, done.uids, done.patient, done.identity)
