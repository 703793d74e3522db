"""The demo's photos: real ones that scikit-image's package carries, so that none is downloaded."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Photo:
    """One photo: its name in the demo, its function in `skimage.data`, the file we write."""

    name: str
    function: str
    file_name: str
    shows: str


PHOTOS: tuple[Photo, ...] = (
    Photo("coins", "coins", "coins.png", "24 Greek coins on a dark ground"),
    Photo("coffee", "coffee", "coffee.jpg", "a cup of espresso on its saucer"),
    Photo("camera", "camera", "camera.png", "a man with a camera on a tripod"),
    Photo("rocket", "rocket", "rocket.jpg", "a rocket on its launch pad at dusk"),
    Photo("chelsea", "chelsea", "chelsea.png", "the face of a cat"),
    Photo("astronaut", "astronaut", "astronaut.png", "an astronaut in a pressure suit"),
    Photo("tissue", "immunohistochemistry", "tissue.png", "stained colon tissue"),
    Photo("retina", "retina", "retina.jpg", "the fundus of an eye"),
    Photo("cell", "cell", "cell.png", "one cell under a microscope"),
    Photo("galaxies", "hubble_deep_field", "galaxies.jpg", "galaxies of the Hubble deep field"),
)


def load_photo(photo: Photo) -> NDArray[np.uint8]:
    """The photo as (height, width, 3) RGB."""
    from skimage import data

    pixels = np.asarray(getattr(data, photo.function)())
    if pixels.ndim == 2:
        pixels = np.repeat(pixels[:, :, np.newaxis], 3, axis=2)
    return np.ascontiguousarray(pixels[:, :, :3], dtype=np.uint8)


def save_photos(folder: Path) -> Mapping[str, Path]:
    """Writes the photos that are not there yet; gives each one's file by its name."""
    from PIL import Image

    folder.mkdir(parents=True, exist_ok=True)
    paths = {photo.name: folder / photo.file_name for photo in PHOTOS}
    for photo in PHOTOS:
        path = paths[photo.name]
        if path.exists():
            continue
        descriptor, temporary = tempfile.mkstemp(dir=folder, suffix=path.suffix)
        os.close(descriptor)
        Image.fromarray(load_photo(photo)).save(temporary, quality=95)
        Path(temporary).replace(path)
    return paths
