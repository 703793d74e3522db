"""A task's image: which one a prompt means, its bytes from Label Studio, its pixels.

Pixels are as the browser shows them (EXIF orientation applied). An editor that shows the stored
orientation names the sides the other way round; then the stored orientation is used.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from io import BytesIO
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ml_backend.settings import Settings
from segstudio.errors import SegstudioError
from segstudio.label_config import LabelConfig

if TYPE_CHECKING:
    from segstudio.client import Client

__all__ = [
    "ImageError",
    "ImageFetcher",
    "image_reference",
    "image_references",
    "is_turned",
    "label_studio_client",
    "label_studio_fetcher",
    "load_pixels",
]

_ORIENTATION_TAG = 0x0112


class ImageError(SegstudioError):
    """A task's image that is not named, cannot be had or cannot be read; a sentence says why."""


class ImageFetcher(Protocol):
    """Whatever turns a task's reference into encoded bytes. Raises SegstudioError."""

    def __call__(self, reference: str, task_id: int | None) -> bytes:
        """Return the encoded image."""


def image_reference(
    data: Mapping[str, Any], config: LabelConfig, to_name: str = "", item_index: int = 0
) -> str:
    """Return the URL or path of the image that a prompt is on.

    Without `to_name` it is the first Image tag's. Raises ImageError where the interface has no such
    Image tag or the task no such key.
    """
    tag = config.image(to_name) if to_name else config.images[0]
    if tag is None:
        names = ", ".join(image.name for image in config.images)
        raise ImageError(f"The interface has no Image tag {to_name!r}, only {names}.")
    found = _value_of(data, tag.value_key) if tag.value_key else tag.value
    if isinstance(found, list | tuple):
        if not 0 <= item_index < len(found):
            raise ImageError(f"The task has {len(found)} images, none of number {item_index}.")
        found = found[item_index]
    if not isinstance(found, str) or not found.strip():
        raise ImageError(f"The task's data have no image under {tag.value_key or tag.value!r}.")
    return found.strip()


def image_references(data: Mapping[str, Any], config: LabelConfig) -> tuple[str, ...]:
    """Return the URLs or paths of all images of a task: each Image tag's, each page of a list.

    Raises ImageError where the task lacks one of them, or the interface has no Image tag.
    """
    if not config.images:
        raise ImageError("The labelling interface has no Image tag.")
    found: dict[str, None] = {}
    for tag in config.images:
        pages = _value_of(data, tag.value_key)
        amount = len(pages) if isinstance(pages, list | tuple) else 1
        for page in range(max(1, amount)):
            found[image_reference(data, config, tag.name, page)] = None
    return tuple(found)


def label_studio_client(settings: Settings) -> Client | None:
    """Return the connection to the configured Label Studio; None where none is configured."""
    from segstudio.client import connect

    if not settings.label_studio_url:
        return None
    return connect(settings.label_studio_url, settings.api_key)


def label_studio_fetcher(settings: Settings, client: Client | None = None) -> ImageFetcher:
    """Fetch through the configured Label Studio, or hosts and folders that the operator allows."""
    from segstudio import media

    client = client or label_studio_client(settings)

    def fetch(reference: str, task_id: int | None) -> bytes:
        if client is None and not settings.local_roots and reference.startswith("/data/"):
            raise ImageError(
                "The image lies in Label Studio, whose address the server was not told: start it "
                "with --label-studio-url and an access token in LABEL_STUDIO_API_KEY."
            )
        return media.image_bytes(
            reference,
            client,
            settings.local_roots,
            task_id=task_id,
            allowed_hosts=settings.allowed_hosts or None,
            max_bytes=settings.max_image_bytes,
        )

    return fetch


def load_pixels(content: bytes, *, max_pixels: int, as_stored: bool = False) -> NDArray[np.uint8]:
    """Decode to RGB (height, width, 3). Raises SegstudioError for anything but a sane image."""
    from segstudio import media

    pixels = media.load_image(content, max_pixels=max_pixels)
    return turn_back(pixels, _orientation(content)) if as_stored else pixels


def is_turned(content: bytes) -> bool:
    """Say whether EXIF swaps the sides of the image as it is shown."""
    return _orientation(content) in {5, 6, 7, 8}


def turn_back(pixels: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """Undo the turn that an EXIF orientation asks for."""
    turns: dict[int, Callable[[NDArray[np.uint8]], NDArray[np.uint8]]] = {
        2: np.fliplr,
        3: lambda array: np.rot90(array, 2),
        4: np.flipud,
        5: lambda array: array.swapaxes(0, 1),
        6: np.rot90,
        7: lambda array: np.rot90(array, 2).swapaxes(0, 1),
        8: lambda array: np.rot90(array, -1),
    }
    turn = turns.get(orientation)
    return pixels if turn is None else np.ascontiguousarray(turn(pixels))


def _value_of(data: Mapping[str, Any], key: str) -> Any:
    """Return the value under a key of a task's data, or under its parts ("a.b"); else None."""
    found: Any = data.get(key)
    for part in [] if found is not None else key.split("."):
        holder = found if found is not None else data
        found = holder.get(part) if isinstance(holder, Mapping) else None
    return found


def _orientation(content: bytes) -> int:
    """Read the EXIF orientation of the formats in which `load_pixels` follows it."""
    from PIL import Image

    try:
        with Image.open(BytesIO(content), formats=("JPEG", "PNG", "TIFF")) as image:
            return int(image.getexif().get(_ORIENTATION_TAG, 1))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return 1
