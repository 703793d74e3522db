"""Removes patient data from a DICOM data set: PS3.15's Basic Application Confidentiality Profile.

The table of the profile (which attribute is removed, emptied or replaced) and the dummy values are
those of the library dicom-anonymizer. What that library leaves undone when it is called on a file
is done here: attributes in nested sequences, UIDs that stay consistent under a secret, whole
overlay groups, the file meta information and preamble (`dicom_write` makes both anew), attributes
that no dictionary knows, attributes that cannot be read, and identifying values that stand a
second time in an attribute that the profile keeps.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any, Final

from segstudio.dicom_uids import UidReplacer

if TYPE_CHECKING:
    from pydicom.dataelem import DataElement
    from pydicom.dataset import Dataset
    from pydicom.tag import BaseTag

TABLE: Final = "dicomfields_2026c"
METHOD: Final = "segstudio: DICOM PS3.15 Basic Profile"
LEAST_VALUE_CHARS: Final = 4
"""Shorter identifying values are not looked for elsewhere: they are in too many words."""

_PROFILE_CODE: Final = ("113100", "Basic Application Confidentiality Profile")
_CLEAN_PIXELS_CODE: Final = ("113101", "Clean Pixel Data Option")
_META_GROUPS: Final = (0x0000, 0x0002, 0x0004, 0x0006)
_PIXEL_GROUP: Final = 0x7FE0
_IMAGE_GROUP: Final = 0x0028
_CURVES: Final = range(0x5000, 0x5020)
_OVERLAYS: Final = range(0x6000, 0x6020)
_TEXT_VRS: Final = frozenset(
    ("AE", "AS", "CS", "DA", "DS", "DT", "IS", "LO", "LT", "PN", "SH", "ST", "TM", "UC", "UI",
     "UR", "UT")
)  # fmt: skip
_NUMBER_VRS: Final = frozenset(("DS", "IS"))
_FREE_TEXT_VRS: Final = frozenset(("LO", "LT", "PN", "SH", "ST", "UC", "UR", "UT"))
# Where a pixel lies: numbers that name nobody and that nothing else can tell.
_PLACES: Final = frozenset(
    ("ImagePositionPatient", "ImageOrientationPatient", "SliceLocation", "SliceThickness",
     "SpacingBetweenSlices", "GridFrameOffsetVector", "ImagePositionVolume",
     "ImageOrientationVolume", "ImagerPixelSpacing", "NominalScannedPixelSpacing")
)  # fmt: skip
_NAMING_VRS: Final = frozenset(("AE", "LO", "LT", "PN", "SH", "ST", "UC", "UT"))
# What these say describes the examination, not the patient: the same words rightly stand elsewhere.
_DESCRIBING: Final = ("Description", "Protocol", "Reason", "Ethnic", "Species", "Breed", "Meaning")
_CLASS_UIDS: Final = frozenset(("CodingSchemeUID", "ContextUID", "MappingResourceUID"))

# From the names of the library's functions to the actions of PS3.15, table E.1-1.
_ACTIONS: Final[Mapping[str, str]] = {
    "replace": "D",
    "empty": "Z",
    "delete": "X",
    "replace_UID": "U",
    "empty_or_replace": "Z/D",
    "delete_or_empty": "X/Z",
    "delete_or_replace": "X/D",
    "delete_or_empty_or_replace": "X/Z/D",
    "delete_or_empty_or_replace_UID": "X/Z/U*",
}


@dataclass(frozen=True, slots=True, order=True)
class Removed:
    """One attribute that was changed: its path of tags, its keyword, and what became of it.

    Never its value. `keyword` is empty for private and unknown attributes.
    """

    tag: str
    keyword: str
    action: str


@dataclass(slots=True)
class Deidentified:
    """What a data set had: the changes, the UIDs as they were replaced, the patient's pseudonym.

    `uids` and `identity` hold original values: they are for the key file alone.
    """

    removed: set[Removed] = field(default_factory=set)
    uids: dict[str, str] = field(default_factory=dict)
    identity: dict[str, str] = field(default_factory=dict)
    patient: str = ""


def deidentify(
    dataset: Dataset, replacer: UidReplacer, *, clean_pixels: bool = False
) -> Deidentified:
    """Remove patient data from a data set, in place, and say so in it.

    Args:
        dataset: without pixels; its file meta information is not touched.
        replacer: the same one for all files of a set.
        clean_pixels: whether text in the pixels is masked too, which the data set then states.
    """
    found = Deidentified(patient=patient_pseudonym(dataset, replacer))
    values: set[str] = set()
    found.identity = {
        keyword: str(dataset.get(keyword, ""))
        for keyword in ("PatientID", "PatientName", "PatientBirthDate", "AccessionNumber")
    }
    _clean(dataset, replacer, found, values, "")
    _remove_echoes(dataset, frozenset(values), found, "")
    _state_method(dataset, found.patient, clean_pixels)
    return found


def patient_pseudonym(dataset: Dataset, replacer: UidReplacer) -> str:
    """Return the pseudonym of a data set's patient; of the study where no patient is named."""
    parts = [_text(dataset, key) for key in ("PatientID", "PatientName", "PatientBirthDate")]
    if parts[0]:
        identity = f"id\0{parts[0]}\0{_text(dataset, 'IssuerOfPatientID')}"
    elif any(parts):
        identity = "name\0" + "\0".join(parts)
    else:
        identity = f"study\0{_text(dataset, 'StudyInstanceUID')}"
    return replacer.pseudonym("patient", identity)


def action_for(tag: BaseTag, vr: str) -> str:
    """Return what the profile and our supplements do to an attribute: "" keeps it.

    X removes, Z empties, D puts a dummy, U replaces a UID; combinations as in PS3.15.
    """
    from pydicom.datadict import dictionary_has_tag, keyword_for_tag

    if tag.is_private or tag.group in _META_GROUPS or tag.group == _PIXEL_GROUP:
        return "X"
    if tag.element == 0 or tag.group in _OVERLAYS or tag.group in _CURVES:
        return "X"
    listed = profile_actions().get((tag.group, tag.element))
    if listed is not None:
        return listed
    if not dictionary_has_tag(tag):
        return "X"
    keyword = keyword_for_tag(tag)
    if vr == "UI" and not keyword.endswith("ClassUID") and keyword not in _CLASS_UIDS:
        return "U"
    return ""


@cache
def profile_actions() -> Mapping[tuple[int, int], str]:
    """Return the profile's table as the library has it, for single attributes."""
    from dicomanonymizer.simpledicomanonymizer import initialize_actions

    table: Mapping[Any, Callable[..., None]] = initialize_actions(TABLE)
    return {
        (tag[0], tag[1]): _ACTIONS[function.__name__]
        for tag, function in table.items()
        if len(tag) == 2
    }


def _clean(
    dataset: Dataset, replacer: UidReplacer, found: Deidentified, values: set[str], path: str
) -> None:
    for tag in list(dataset.keys()):
        shown = f"{path}({tag.group:04X},{tag.element:04X})"
        try:
            element = dataset[tag]
            _ = element.value
        except Exception:  # a damaged value may fail anywhere in the library
            del dataset[tag]
            found.removed.add(Removed(shown, _keyword(tag), "removed: it cannot be read"))
            continue
        action = action_for(tag, element.VR)
        if element.VR == "SQ":
            _clean_sequence(dataset, element, action, replacer, found, values, shown)
        elif action:
            _collect(element, values)
            done = _apply(dataset, element, action, replacer, found)
            if done:
                found.removed.add(Removed(shown, _keyword(tag), done))


def _clean_sequence(
    dataset: Dataset, element: DataElement, action: str, replacer: UidReplacer,
    found: Deidentified, values: set[str], shown: str,
) -> None:  # fmt: skip
    """Remove or clean a sequence; what is in it is always looked through for its values."""
    keeps = action in ("", "X/Z/U*", "D", "Z/D")
    # Of what is removed as a whole neither its parts nor its UIDs are reported.
    inner = found if keeps else Deidentified()
    for item in element.value or ():
        _clean(item, replacer, inner, values, f"{shown} > ")
        if action in ("D", "Z/D"):
            for tag in list(item.keys()):
                if item[tag].VR not in ("SQ", "UI"):
                    _dummy(item, item[tag])
    if not keeps:
        found.removed.add(Removed(shown, _keyword(element.tag), "removed"))
        del dataset[element.tag]


def _apply(
    dataset: Dataset, element: DataElement, action: str, replacer: UidReplacer, found: Deidentified
) -> str:
    """Change one attribute; return what was done, empty when there was nothing to do."""
    if "U" in action and element.VR == "UI":
        return _replace_uids(element, replacer, found)
    if action in ("X", "X/Z/U*") or element.VR == "UI":
        del dataset[element.tag]
        return "removed"
    if element.is_empty:
        return ""
    if action in ("Z", "X/Z"):
        return _empty(dataset, element)
    return _dummy(dataset, element)


def _replace_uids(element: DataElement, replacer: UidReplacer, found: Deidentified) -> str:
    from pydicom.multival import MultiValue
    from pydicom.uid import UID

    if element.is_empty:
        return ""
    several = isinstance(element.value, MultiValue | list)
    old = [str(uid) for uid in element.value] if several else [str(element.value)]
    # Registered UIDs (a SOP class, a well-known frame of reference) say nothing about anybody.
    new = [uid if UID(uid).name != uid or not uid else replacer.replace(uid) for uid in old]
    if new == old:
        return ""
    found.uids.update(
        {before: after for before, after in zip(old, new, strict=True) if before != after}
    )
    element.value = new if several else new[0]
    return "UID replaced"


def _empty(dataset: Dataset, element: DataElement) -> str:
    from dicomanonymizer.simpledicomanonymizer import empty_element

    try:
        if element.VR in ("DA", "DT", "TM"):
            element.value = ""  # the library would put a date of the year 1
        else:
            empty_element(element)
    except NotImplementedError:
        del dataset[element.tag]
        return "removed"
    return "emptied"


def _dummy(dataset: Dataset, element: DataElement) -> str:
    from dicomanonymizer.simpledicomanonymizer import replace_element

    try:
        replace_element(element)
    except NotImplementedError:
        del dataset[element.tag]
        return "removed"
    return "replaced"


def _collect(element: DataElement, values: set[str]) -> None:
    """Remember the words that name a person, a place, a device or a case."""
    if element.VR not in _NAMING_VRS or element.tag.is_private:
        return
    keyword = _keyword(element.tag)
    if any(word in keyword for word in _DESCRIBING):
        return
    for text in _texts(element):
        parts = [text, *text.replace("=", "^").split("^")] if element.VR == "PN" else [text]
        values.update(
            part.strip().casefold() for part in parts if len(part.strip()) >= LEAST_VALUE_CHARS
        )


def _remove_echoes(
    dataset: Dataset, values: frozenset[str], found: Deidentified, path: str
) -> None:
    """Remove attributes that the profile keeps but in which an identifying value stands."""
    if not values:
        return
    for tag in list(dataset.keys()):
        element = dataset[tag]
        shown = f"{path}({tag.group:04X},{tag.element:04X})"
        if element.VR == "SQ":
            for item in element.value or ():
                _remove_echoes(item, values, found, f"{shown} > ")
        elif element.VR in _TEXT_VRS and _repeats(element, values):
            del dataset[tag]
            found.removed.add(
                Removed(shown, _keyword(tag), "removed: it repeats an identifying value")
            )


def _repeats(element: DataElement, values: frozenset[str]) -> bool:
    """Say whether an identifying value stands in an attribute.

    In numbers it counts as the whole number only ("1000" is in "-121.1000", too), in text a value
    of digits only where no other digit is beside it. UIDs are registered ones or replaced by now.
    """
    from pydicom.uid import UID

    keyword, texts = _keyword(element.tag), _texts(element)
    if element.tag.group == _IMAGE_GROUP and element.VR not in _FREE_TEXT_VRS:
        return False
    if element.VR == "UI" and all(UID(text).is_valid for text in texts if text):
        return False
    if element.VR in _NUMBER_VRS:
        return keyword not in _PLACES and not values.isdisjoint(texts)
    text = "\\".join(texts).casefold()
    return text != "anonymized" and any(_stands_in(value, text) for value in values)


def _stands_in(value: str, text: str) -> bool:
    if not value.isdecimal():
        return value in text
    return re.search(rf"(?<!\d){value}(?!\d)", text) is not None


def _texts(element: DataElement) -> list[str]:
    from pydicom.multival import MultiValue

    value = element.value
    if value is None:
        return []
    several = isinstance(value, MultiValue | list)
    return [str(one) for one in value] if several else [str(value)]


def _state_method(dataset: Dataset, patient: str, clean_pixels: bool) -> None:
    from pydicom.dataset import Dataset as NewDataset

    dataset.PatientID = patient
    dataset.PatientName = patient
    dataset.PatientIdentityRemoved = "YES"
    dataset.DeidentificationMethod = METHOD
    codes = []
    for value, meaning in (_PROFILE_CODE, _CLEAN_PIXELS_CODE)[: 2 if clean_pixels else 1]:
        code = NewDataset()
        code.CodeValue = value
        code.CodingSchemeDesignator = "DCM"
        code.CodeMeaning = meaning
        codes.append(code)
    dataset.DeidentificationMethodCodeSequence = codes
    dataset.LongitudinalTemporalInformationModified = "REMOVED"


def _keyword(tag: BaseTag) -> str:
    from pydicom.datadict import keyword_for_tag

    return "" if tag.is_private else keyword_for_tag(tag)


def _text(dataset: Dataset, keyword: str) -> str:
    try:
        return str(dataset.get(keyword) or "").strip()
    except Exception:  # a damaged value may fail anywhere in the library
        return ""
