"""File names of images: the source's own base name wherever only one image has it."""

from __future__ import annotations

import re
from hashlib import blake2b
from typing import Final
from urllib.parse import parse_qs, unquote, urlsplit

from segstudio.images import AnnotatedImage, base_name

# Names that Windows keeps for devices, whatever their ending.
_DEVICES: Final = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)


class StemNames:
    """Chooses stems over a whole export: first `add` every image once, then ask `stem`.

    An image keeps its base name ("0001" of ".../0001.jpg"), so that a mask and its image match by
    name. Where two images have the same one, up to upper and lower case, each of them becomes
    "0001-task12". Of a name only its hash is kept: 16 bytes an image.
    """

    def __init__(self) -> None:
        self._seen: set[bytes] = set()
        self._shared: set[bytes] = set()

    def add(self, image: AnnotatedImage) -> None:
        """Count an image's name."""
        key = _key(base_name(image.reference))
        (self._shared if key in self._seen else self._seen).add(key)

    def stem(self, image: AnnotatedImage) -> str:
        """Return the image's file name without ending: safe, and no other image's."""
        own = base_name(image.reference)
        if own and _key(own) not in self._shared and not _DEVICES.fullmatch(own):
            return own
        # The long name could be another image's own base name; a tilde never is in one.
        longer = image.file_stem
        while _key(longer) in self._seen:
            longer += "~"
        return longer


def _key(name: str) -> bytes:
    return blake2b(name.casefold().encode("utf-8"), digest_size=8).digest()


def image_ending(reference: str) -> str:
    """Return the ending of an image's file with its dot, "" where there is none.

    >>> image_ending("/data/local-files/?d=a/0001.JPG"), image_ending("data:image/png;base64,AA")
    ('.JPG', '.png')
    """
    if reference[:5].lower() == "data:":
        kind = re.match(r"data:image/(\w{1,5})[;,]", reference, re.IGNORECASE)
        return f".{kind[1].lower()}" if kind else ""
    try:
        url = urlsplit(reference)
    except ValueError:
        return ""
    local = parse_qs(url.query).get("d") if url.path.rstrip("/").endswith("local-files") else None
    path = local[0] if local else unquote(url.path)
    ending = re.search(r"[^/\\](\.\w{1,5})$", path)
    return ending[1] if ending else ""
