"""The basic profile, and what the library behind it leaves to us."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.tag import Tag

from segstudio.dicom_deidentify import action_for, deidentify, profile_actions
from segstudio.dicom_uids import UidReplacer, new_secret, read_secret
from segstudio.dicom_write import encode
from segstudio.errors import UsageError
from tests.segstudio.dicom_cases import IDENTITY, add_hidden_identity, make_dataset

REPLACER = UidReplacer(b"secret of the tests")
UIDS = st.lists(st.integers(0, 10**12), min_size=2, max_size=5).map(
    lambda parts: "1.2." + ".".join(map(str, parts))
)


def clean_bytes(dataset: Dataset) -> bytes:
    deidentify(dataset, REPLACER)
    assert "PixelData" not in dataset  # it is written anew
    return encode(dataset)


def test_no_identifying_value_is_left_wherever_it_was_hidden() -> None:
    dataset = make_dataset()
    add_hidden_identity(dataset)
    original = BytesIO()
    dataset.save_as(original, enforce_file_format=True)
    assert b"Zyxwvut^" in original.getvalue()
    content = clean_bytes(dcmread(BytesIO(original.getvalue()))).lower()
    for value in {*IDENTITY.values(), "Zyxwvut", "Nowherestadt", "1.2.3.4.5.", "MAKER PRIVATE"}:
        assert value.lower().encode() not in content
    assert b"maker of scanners" in content  # the profile keeps the manufacturer


@pytest.mark.parametrize(
    ("tag", "action"),
    [
        # From PS3.15, table E.1-1.
        ((0x0010, 0x0030), "Z"),  # PatientBirthDate
        ((0x0008, 0x0050), "Z"),  # AccessionNumber
        ((0x0008, 0x103E), "X"),  # SeriesDescription
        ((0x0020, 0x000E), "U"),  # SeriesInstanceUID
        ((0x0008, 0x0020), "Z"),  # StudyDate
        ((0x0008, 0x1140), "X/Z/U*"),  # ReferencedImageSequence
        ((0x0010, 0x4000), "X"),  # PatientComments
        ((0x0018, 0x1000), "X/Z/D"),  # DeviceSerialNumber
        ((0x0028, 0x0010), ""),  # Rows
        ((0x0020, 0x0032), ""),  # ImagePositionPatient
        # Ours: whole overlay and curve groups, private and unknown attributes, file meta.
        ((0x6002, 0x1500), "X"),
        ((0x5004, 0x0022), "X"),
        ((0x0009, 0x1001), "X"),
        ((0x0018, 0x9999), "X"),
        ((0x0002, 0x0016), "X"),
    ],
)
def test_actions(tag: tuple[int, int], action: str) -> None:
    assert action_for(Tag(tag), "LO") == action


def test_the_library_knows_the_whole_table() -> None:
    assert len(profile_actions()) >= 650


def test_dates_are_removed_or_blank_and_the_file_says_what_was_done() -> None:
    dataset = make_dataset(ContentDate="20190213", AcquisitionDateTime="20190213131517")
    dataset.PatientBirthTime = "070809"
    deidentify(dataset, REPLACER)
    assert dataset.StudyDate == ""
    assert "PatientBirthTime" not in dataset
    assert "19" not in str(dataset.get("AcquisitionDateTime", ""))
    assert dataset.PatientIdentityRemoved == "YES"
    assert dataset.DeidentificationMethod == "segstudio: DICOM PS3.15 Basic Profile"
    (code,) = dataset.DeidentificationMethodCodeSequence
    assert (code.CodeValue, code.CodingSchemeDesignator) == ("113100", "DCM")
    assert dataset.LongitudinalTemporalInformationModified == "REMOVED"
    assert dataset.PatientID == dataset.PatientName
    assert str(dataset.PatientID).startswith("patient-")


def test_masked_pixels_are_stated() -> None:
    dataset = make_dataset()
    deidentify(dataset, REPLACER, clean_pixels=True)
    codes = [item.CodeValue for item in dataset.DeidentificationMethodCodeSequence]
    assert codes == ["113100", "113101"]


def test_what_was_removed_is_listed_without_values() -> None:
    dataset = make_dataset()
    add_hidden_identity(dataset)
    listed = {(one.tag, one.keyword, one.action) for one in deidentify(dataset, REPLACER).removed}
    assert {
        ("(0008,103E)", "SeriesDescription", "removed"),
        ("(0008,0050)", "AccessionNumber", "emptied"),
        ("(0020,000D)", "StudyInstanceUID", "UID replaced"),
        ("(0009,1010)", "", "removed"),
        ("(0018,0015)", "BodyPartExamined", "removed: it repeats an identifying value"),
        ("(0008,2112) > (0008,1155)", "ReferencedSOPInstanceUID", "UID replaced"),
        ("(0028,3010) > (0010,0010)", "PatientName", "replaced"),
    } <= listed | {(tag, keyword, "replaced") for tag, keyword, _ in listed if ">" in tag}
    for value in IDENTITY.values():
        assert value not in str(listed)


@pytest.mark.parametrize("number", ["1000", "10008", "12500", "0000", "2.84", "7558"])
def test_a_patients_number_takes_no_geometry_and_no_uid_along(number: str) -> None:
    place = ["-124.755859375", "-12500.1000", "0.0000"]
    for key in ("PatientID", "StudyID", "AccessionNumber"):
        dataset = make_dataset(
            ImagePositionPatient=place, SliceLocation="12500", InstanceNumber="12500",
            **{key: number},
        )  # fmt: skip
        listed = deidentify(dataset, REPLACER).removed
        assert dataset.SOPClassUID == "1.2.840.10008.5.1.4.1.1.2"
        assert list(dataset.ImagePositionPatient) == [float(one) for one in place]
        assert {"SOPInstanceUID", "SeriesInstanceUID", "SliceLocation"} <= set(dataset.dir())
        echoes = {one.keyword for one in listed if "repeats" in one.action}
        assert echoes <= {"InstanceNumber"}


@pytest.mark.parametrize(
    ("keyword", "text", "stays"),
    [
        ("WindowCenterWidthExplanation", "for Zyxwvut", False),
        ("SoftwareVersions", "syngo 77114-B", False),
        ("SoftwareVersions", "syngo 9771145", True),
        ("PhotometricInterpretation", "MONOCHROME2", True),
    ],
)
def test_an_attribute_goes_where_a_name_or_number_stands_in_it(
    keyword: str, text: str, stays: bool
) -> None:
    dataset = make_dataset(PatientID="77114", OtherPatientNames="MONOCHROME2")
    setattr(dataset, keyword, text)
    deidentify(dataset, REPLACER)
    assert (keyword in dataset) == stays


def test_references_follow_the_uids_they_refer_to() -> None:
    dataset = make_dataset(uid="1.2.3.4.5.2")
    add_hidden_identity(dataset)
    deidentify(dataset, REPLACER)
    assert dataset.SourceImageSequence[0].ReferencedSOPInstanceUID == dataset.SOPInstanceUID
    assert dataset.SOPClassUID == "1.2.840.10008.5.1.4.1.1.2"


@given(UIDS, UIDS)
def test_new_uids_are_valid_consistent_and_never_shared(one: str, other: str) -> None:
    new = REPLACER.replace(one)
    assert new == REPLACER.replace(one + "\0")
    assert (new == REPLACER.replace(other)) == (one == other)
    assert new != UidReplacer(b"another secret!!").replace(one)
    assert len(new) <= 64
    assert all(part == "0" or not part.startswith("0") for part in new.split("."))


@given(st.lists(UIDS, unique=True, max_size=200))
def test_uid_mapping_is_injective(uids: list[str]) -> None:
    assert len({REPLACER.replace(uid) for uid in uids}) == len(uids)


def test_patients_are_told_apart_by_id_then_by_name() -> None:
    def pseudonym(**attributes: str | None) -> str:
        return deidentify(make_dataset(**attributes), REPLACER).patient

    assert pseudonym() == pseudonym(PatientName="Married^Name")
    assert pseudonym() != pseudonym(PatientID="IDNUMBER-77115")
    assert pseudonym(PatientID=None) != pseudonym(PatientID=None, PatientName="Other^One")
    nobody = {"PatientID": None, "PatientName": None, "PatientBirthDate": None}
    assert pseudonym(**nobody) == pseudonym(**nobody)


def test_a_secret_is_made_once_and_must_be_private(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    first = read_secret(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert read_secret(path) == first != new_secret()
    path.chmod(0o640)
    with pytest.raises(UsageError, match="chmod 600"):
        read_secret(path)
    short = tmp_path / "short"
    short.write_bytes(b"abc")
    short.chmod(0o600)
    with pytest.raises(UsageError, match="holds 3 bytes"):
        read_secret(short)
