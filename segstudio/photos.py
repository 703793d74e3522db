"""Where a check gets the photo of a task: folders named by the user, the project's own server."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from segstudio.client import Client


@dataclass(frozen=True, slots=True)
class PhotoSource:
    """Opens photos; picklable, so that a worker opens them itself with connections of its own.

    What may be opened at all decides `segstudio.media`: with neither a folder nor a server, data
    URIs and hosts that `SEGSTUDIO_ALLOWED_HOSTS` names.

    Attributes:
        roots: folders that references of a task may lead into.
        client: the server that the tasks come from.
    """

    roots: tuple[Path, ...] = ()
    client: Client | None = None

    def load(self, reference: str, task_id: int) -> NDArray[np.uint8]:
        """Return a photo's pixels, RGB uint8 of shape (height, width, 3), as the browser shows it.

        Raises:
            MediaError: not allowed, not there, too large or no picture; the sentence says which.
        """
        from segstudio.media import image_bytes, load_image

        return load_image(image_bytes(reference, self.client, self.roots, task_id=task_id))
