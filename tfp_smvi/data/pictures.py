"""Images as people see them: values as shades of grey or colours, many images as one."""

import math

import numpy as np
import numpy.typing as npt

__all__ = ["image_grid", "shades"]

# The shade of a missing pixel.
MISSING = 0.5


def shades(images: np.ndarray, originals: np.ndarray) -> npt.NDArray[np.float32]:
    """Turns the values of images into shades, from 0 (black) to 1; what is beyond them is clipped.

    Intensities keep their values. If the data have other values, black is the least of them and 1
    the largest. Missing values, NaN, are mid-grey.

    Args:
        images: uint8 with 255 for 1, or float, [n, ...].
        originals: the data, uint8 or float, which give the range of values, [m, ...].
    """
    images, originals = _fractions(images), _fractions(originals)
    observed = originals[~np.isnan(originals)]
    low, high = observed.min(initial=0.0), observed.max(initial=0.0)
    if low >= 0.0 and high <= 1.0:
        low, high = 0.0, 1.0
    return np.nan_to_num(np.clip((images - low) / (high - low), 0.0, 1.0), nan=MISSING)


def image_grid(images: np.ndarray, columns: int = 8) -> npt.NDArray[np.float32]:
    """Lays images out in rows; places without an image are black.

    Args:
        images: shades, float [n, height, width] or [n, height, width, channels].
        columns: the images in a row.

    Returns:
        [1, rows * height, columns * width, channels].
    """
    if images.ndim == 3:
        images = images[..., None]
    count, height, width, channels = images.shape
    rows = math.ceil(count / columns)
    grid = np.zeros((rows * columns, height, width, channels), np.float32)
    grid[:count] = images
    grid = grid.reshape(rows, columns, height, width, channels).swapaxes(1, 2)
    return grid.reshape(1, rows * height, columns * width, channels)


def _fractions(images: np.ndarray) -> npt.NDArray[np.float32]:
    return images.astype(np.float32) / np.float32(255.0 if images.dtype == np.uint8 else 1.0)
