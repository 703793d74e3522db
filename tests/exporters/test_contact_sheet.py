"""The contact sheet takes the pixels that Pillow takes."""

import numpy as np
import pytest
from PIL import Image

from exporters.contact_sheet import _nearest


@pytest.mark.parametrize(
    ("shape", "size"), [((1024, 768), (240, 320)), ((7, 5), (229, 320)), ((320, 3), (3, 320))]
)
def test_lines_are_taken_as_pillow_takes_them_of_an_image(shape, size):
    numbers = np.random.default_rng(0).integers(0, 1000, shape, dtype=np.int32)
    rows, columns = _nearest(shape[0], size[1]), _nearest(shape[1], size[0])
    expected = Image.fromarray(numbers).resize(size, Image.Resampling.NEAREST)
    assert (numbers[rows][:, columns] == np.asarray(expected)).all()
