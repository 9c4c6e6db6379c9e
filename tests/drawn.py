"""Where something is in a picture."""

import numpy as np


def places(picture, part):
    """The corners (top, left) of every place in ``picture`` where the pixels ``part`` (H, W, 3) are, exactly."""
    pixels, part = np.asarray(picture), np.asarray(part)
    height, width = part.shape[:2]
    alike = (pixels[: pixels.shape[0] - height + 1, : pixels.shape[1] - width + 1] == part[0, 0]).all(2)
    found = [tuple(map(int, at)) for at in np.argwhere(alike)]
    return [(y, x) for y, x in found if (pixels[y : y + height, x : x + width] == part).all()]
