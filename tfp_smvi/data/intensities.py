"""Pixels as they are stored: the one place where integers become intensities.

    bool                     0 and 1             stored as uint8, 0 and 255
    integers, none above 1   bits, 0 and 1       stored as uint8, 0 and 255
    integers of 0 to 255     grey levels         stored as uint8
    floats in [0, 1]         intensities         stored as float32
    other floats             real values         stored as float32

What integers mean is decided on a whole set, training and test data together: a single batch may be
all dark. Floats that leave [0, 1] by rounding alone are clipped.
"""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from tfp_smvi.core.errors import SMVIError

__all__ = ["WHITE", "StoredPixels", "are_bits", "bits_to_levels", "store_pixels", "to_float"]

# The stored integer that means 1.
WHITE = 255
# How far rounding alone takes intensities out of [0, 1]: resizing in float32 by some 1e-6.
_ROUNDING = 1e-5


class StoredPixels(NamedTuple):
    """The pixels of a data set.

    Attributes:
        arrays: the stored arrays, uint8 or float32, in the order given.
        real_valued: whether they are any real numbers and not intensities.
        notes: what was changed, one line each.
    """

    arrays: tuple[npt.NDArray[Any], ...]
    real_valued: bool
    notes: tuple[str, ...]


def store_pixels(arrays: Mapping[str, npt.NDArray[Any]]) -> StoredPixels:
    """Turns the arrays of a data set into pixels as they are stored.

    Args:
        arrays: all arrays of the set, of one dtype, by a name for messages.

    Raises:
        SMVIError: they are not of the kinds above, or their integers do not mean the same.
    """
    kinds = {array.dtype.kind for array in arrays.values()}
    for name, array in arrays.items():
        if array.dtype.kind not in "buif":
            raise SMVIError(
                f"{name} has dtype {array.dtype}",
                remedy="give bool, integers of 0 to 255, or floats",
            )
    if len(kinds - {"u", "i"}) + bool(kinds & {"u", "i"}) > 1:
        types = " and ".join(f"{name} is of {array.dtype}" for name, array in arrays.items())
        raise SMVIError(types, remedy="give the same dtype, so that their values mean the same")
    if kinds == {"f"}:
        return _store_floats(arrays)
    if kinds == {"b"}:
        levels = [bits_to_levels(array) for array in arrays.values()]
    else:
        levels = _store_integers(arrays)
    return StoredPixels(tuple(levels), False, ())


def to_float(pixels: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """Turns stored pixels into values: uint8 into intensities in [0, 1], float32 as it is."""
    if pixels.dtype == np.uint8:
        return pixels.astype(np.float32) / np.float32(WHITE)
    return pixels.astype(np.float32, copy=False)


def are_bits(parts: Iterable[npt.NDArray[Any]]) -> bool:
    """Whether integers are bits: none of a whole set is above 1. It stops at the first that is."""
    return all(part.size == 0 or part.max() <= 1 for part in parts)


def bits_to_levels(bits: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """Stores bits, bool or integers of 0 and 1."""
    return bits.astype(np.uint8) * np.uint8(WHITE)


def _store_integers(arrays: Mapping[str, npt.NDArray[Any]]) -> list[npt.NDArray[np.uint8]]:
    for name, array in arrays.items():
        low, high = (array.min(), array.max()) if array.size else (0, 0)
        if low < 0 or high > WHITE:
            raise SMVIError(
                f"{name} has integers from {low} to {high}",
                remedy="give grey levels of 0 to 255, or floats: levels of 16 bits divided by "
                "65535, counts as real values",
            )
    bits = {name: are_bits([array]) for name, array in arrays.items()}
    if all(bits.values()):
        return [bits_to_levels(array) for array in arrays.values()]
    for name in (name for name, only_bits in bits.items() if only_bits):
        others = ", ".join(other for other in arrays if other != name)
        raise SMVIError(
            f"{name} has no integer above 1, and {others} has",
            remedy="give both the same meaning: grey levels of 0 to 255, or bits",
        )
    return [array.astype(np.uint8, copy=False) for array in arrays.values()]


def _store_floats(arrays: Mapping[str, npt.NDArray[Any]]) -> StoredPixels:
    stored = {name: _to_float32(name, array) for name, array in arrays.items()}
    low = min((float(array.min()) for array in stored.values() if array.size), default=0.0)
    high = max((float(array.max()) for array in stored.values() if array.size), default=0.0)
    if low >= 0.0 and high <= 1.0:
        return StoredPixels(tuple(stored.values()), False, ())
    if low >= -_ROUNDING and high <= 1.0 + _ROUNDING:
        clipped = tuple(np.clip(array, 0.0, 1.0) for array in stored.values())
        note = f"Values from {low:.8g} to {high:.8g} leave [0, 1] by rounding only: clipped to it."
        return StoredPixels(clipped, False, (note,))
    return StoredPixels(tuple(stored.values()), True, ())


def _to_float32(name: str, array: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    if not np.isfinite(array).all():
        raise SMVIError(f"{name} has values that are NaN or infinite", remedy="give finite values")
    with np.errstate(over="ignore"):
        values = array.astype(np.float32, copy=False)
    if not np.isfinite(values).all():
        raise SMVIError(f"{name} has values too large for float32", remedy="scale them down")
    return values
