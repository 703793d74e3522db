"""The labelling interface of several windows: one Image tag a window, drawn on the first."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final
from xml.sax.saxutils import quoteattr

from defusedxml.ElementTree import fromstring

from segstudio.errors import UsageError

_IMAGE: Final = re.compile(r"<Image\b[^>]*?/>", re.DOTALL)
_VALUE: Final = re.compile(r'\bvalue="\$[\w.]+"')


def windowed_label_config(xml: str, windows: Sequence[str]) -> str:
    """Return a labelling interface that shows an image for each window.

    The controls stay on the interface's own Image tag, which shows the first window; the others
    are shown below it to read from. A region holds for all: they show the same pixels.

    Args:
        xml: an interface with one Image tag.
        windows: names; with fewer than two the interface is returned as it is.

    Raises:
        UsageError: the interface has no Image tag, or several.
    """
    if len(windows) < 2:
        return xml
    tags = _IMAGE.findall(xml)
    if len(tags) != 1 or not _VALUE.search(tags[0]):
        raise UsageError(
            f"The labelling interface has {len(tags)} Image tags with a value such as $image; for "
            "several windows it needs exactly one, which is repeated for each."
        )
    own = _VALUE.sub(f'value="$image_{windows[0]}"', tags[0])
    indent = re.search(r"([ \t]*)<Image\b", xml)
    between = "\n" + (indent[1] if indent else "")
    parts = [f'<Header size="6" value={quoteattr(f"Draw here: {windows[0]}")}/>', own]
    for name in windows[1:]:
        parts.append(f'<Header size="6" value={quoteattr(f"To read from: {name}")}/>')
        parts.append(
            f'<Image name="image_{name}" value="$image_{name}" zoom="true" zoomControl="true"/>'
        )
    made = xml.replace(tags[0], between.join(parts))
    fromstring(made)  # what we made is XML still
    return made
