"""Values as they are stored: the one place where arrays become intensities, reals or counts.

    bool                         bits, 0 and 1    intensities   stored as uint8, 0 and 255
    integers, none above 1       bits, 0 and 1    intensities   stored as uint8, 0 and 255
    integers of 0 to 255         grey levels      intensities   stored as uint8; not if [n, d]
    floats in [0, 1]             intensities      intensities   stored as float32
    [n, d], whole, at least 0    counts           counts        stored as float32
    others                       real values      real          stored as float32

NaN in floats is a missing value. What values mean is decided on a whole set, training and test data
together: a single batch may be all dark. Floats that leave [0, 1] by rounding alone are clipped.
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from tfp_smvi.config import Kind
from tfp_smvi.core.errors import SMVIError
from tfp_smvi.data.rows import spans

__all__ = [
    "WHITE",
    "Meaning",
    "Range",
    "are_bits",
    "bits_to_levels",
    "find_meaning",
    "measure",
    "parts_of",
    "store_values",
    "to_float",
]

# The stored integer that means 1.
WHITE = 255
# How far rounding alone takes intensities out of [0, 1]: resizing in float32 by some 1e-6.
_ROUNDING = 1e-5
# Whole numbers up to it are exact in float32.
_LARGEST_COUNT = 1 << 24
_DTYPES = {"b": "b", "u": "i", "i": "i", "f": "f"}


class Range(NamedTuple):
    """What the values of an array are, without their meaning.

    Attributes:
        dtype: "b" (bool), "i" (integers) or "f" (floats).
        low: the smallest; 0 if there is none.
        high: the largest; 0 if there is none.
        whole: whether all are whole numbers.
        num_missing: the number of NaN.
        num_outside: the number of values outside [0, 1].
        num_empty: the number of examples without any value.
    """

    dtype: str
    low: float
    high: float
    whole: bool
    num_missing: int = 0
    num_outside: int = 0
    num_empty: int = 0


class Meaning(NamedTuple):
    """What the values of a data set are taken for.

    Attributes:
        kind: what they are.
        storage: "levels" (uint8), "bits" (which become levels) or "floats" (float32).
        clip: whether floats are clipped to [0, 1].
        notes: what is changed, one line each.
    """

    kind: Kind
    storage: str
    clip: bool = False
    notes: tuple[str, ...] = ()

    def store(self, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Returns values, all or some of them, as they are stored."""
        is_float = values.dtype.kind == "f"  # so are integers of which some are missing
        if self.storage == "bits" and not is_float:
            return bits_to_levels(values)
        if self.storage == "levels":
            if is_float:
                return values.astype(np.float32) / np.float32(WHITE)
            return values.astype(np.uint8, copy=False)
        stored = values.astype(np.float32, copy=False)
        return np.clip(stored, 0.0, 1.0) if self.clip else stored


def store_values(
    arrays: Mapping[str, npt.NDArray[Any]], kind: Kind | None = None
) -> tuple[list[npt.NDArray[Any]], Meaning]:
    """Returns the arrays of a data set as they are stored, and what they mean.

    Args:
        arrays: all arrays of the set, [n, ...], by a name for messages.
        kind: what the values are; None to find out.

    Raises:
        SMVIError: they are not of the kinds above, or do not mean the same.
    """
    ranges = {name: measure(parts_of(array), name) for name, array in arrays.items()}
    is_table = all(array.ndim == 2 for array in arrays.values())
    meaning = find_meaning(ranges, is_table=is_table, kind=kind)
    return [meaning.store(array) for array in arrays.values()], meaning


def measure(
    parts: Iterable[npt.NDArray[Any]], name: str, dtype: np.dtype[Any] | None = None
) -> Range:
    """Looks at the values of an array, which comes in parts.

    Args:
        parts: the parts, [n, ...] each.
        name: the array, for messages.
        dtype: what it was given in; None if that is the dtype of the parts.

    Raises:
        SMVIError: it is no array of numbers, or has infinite or far too large values or nothing
            but missing ones.
    """
    total = Range("f", math.inf, -math.inf, True)
    for part in parts:
        given = dtype or part.dtype
        if given.kind not in "buif":
            raise SMVIError(f"{name} has dtype {given}", remedy="give bool, integers or floats")
        total = _join(total, _measure_part(part, name)._replace(dtype=_DTYPES[given.kind]))
    if total.low > total.high:
        if total.num_missing:
            raise SMVIError(
                f"{name} has no value that is not NaN", remedy="give at least one observed value"
            )
        return total._replace(low=0, high=0)
    return total


def _measure_part(part: npt.NDArray[Any], name: str) -> Range:
    num_missing = num_empty = 0
    whole = True
    if part.dtype.kind == "f":
        values = _to_float32(part, name)
        missing = np.isnan(values)
        if missing.any():
            num_missing = int(missing.sum())
            num_empty = int(missing.reshape(len(part), -1).all(1).sum())
            values = values[~missing]
        whole = not (values % 1 != 0).any()
    else:
        values = part
    if not values.size:
        return Range("", math.inf, -math.inf, True, num_missing, 0, num_empty)
    low, high = values.min().item(), values.max().item()
    outside = int(((values < 0) | (values > 1)).sum()) if low < 0 or high > 1 else 0
    return Range("", low, high, whole, num_missing, outside, num_empty)


def _join(a: Range, b: Range) -> Range:
    return Range(
        b.dtype,
        min(a.low, b.low),
        max(a.high, b.high),
        a.whole and b.whole,
        a.num_missing + b.num_missing,
        a.num_outside + b.num_outside,
        a.num_empty + b.num_empty,
    )


def find_meaning(
    ranges: Mapping[str, Range], *, is_table: bool, kind: Kind | None = None
) -> Meaning:
    """Decides what the values of a data set are.

    Args:
        ranges: of each array of the set, by its name for messages.
        is_table: whether the arrays are [n, d], whose whole numbers are counts.
        kind: what the values are; None to find out.

    Raises:
        SMVIError: they are not of that kind, or do not mean the same in all arrays.
    """
    dtypes = {name: item.dtype for name, item in ranges.items()}
    low = min(item.low for item in ranges.values())
    high = max(item.high for item in ranges.values())
    countable = all(item.whole for item in ranges.values()) and 0 <= low <= high <= _LARGEST_COUNT
    if kind == "counts" and not countable:
        raise SMVIError(
            f"is not what the values are, which go from {low:g} to {high:g}",
            field="kind",
            value=kind,
            remedy=f"give whole numbers of 0 to {_LARGEST_COUNT}, or take them as real",
        )
    if kind in ("counts", "real"):
        return Meaning(kind, "floats")
    if kind is None and is_table and "b" not in dtypes.values():
        if countable and high > 1:
            return Meaning("counts", "floats")
        if set(dtypes.values()) == {"i"} and (low < 0 or high > 1):
            return Meaning("real", "floats")
    if len(set(dtypes.values())) > 1:
        names = {"b": "bool", "i": "integers", "f": "floats"}
        types = " and ".join(f"{name} is of {names[dtype]}" for name, dtype in dtypes.items())
        raise SMVIError(types, remedy="give the same dtype, so that their values mean the same")
    if "f" in dtypes.values():
        return _meaning_of_floats(low, high, kind)
    return _meaning_of_integers(ranges)


def to_float(pixels: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """Turns stored values into values: uint8 into intensities in [0, 1], float32 as it is."""
    if pixels.dtype == np.uint8:
        return pixels.astype(np.float32) / np.float32(WHITE)
    return pixels.astype(np.float32, copy=False)


def are_bits(parts: Iterable[npt.NDArray[Any]]) -> bool:
    """Whether integers are bits: none of a whole set is above 1. It stops at the first that is."""
    return all(part.size == 0 or part.max() <= 1 for part in parts)


def bits_to_levels(bits: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """Stores bits, bool or integers of 0 and 1."""
    return bits.astype(np.uint8) * np.uint8(WHITE)


def parts_of(array: npt.NDArray[Any]) -> Iterator[npt.NDArray[Any]]:
    """Cuts an array [n, ...] into parts of about a million numbers."""
    return (array[start:stop] for start, stop in spans(array.shape))


def _meaning_of_integers(ranges: Mapping[str, Range]) -> Meaning:
    for name, (_, low, high, *_) in ranges.items():
        if low < 0 or high > WHITE:
            raise SMVIError(
                f"{name} has integers from {low:.0f} to {high:.0f}",
                remedy="give grey levels of 0 to 255; divide levels of 16 bits by 65535, and give "
                "counts with {kind}",
            )
    bits = {name: item.high <= 1 for name, item in ranges.items()}
    if all(bits.values()):
        return Meaning("intensities", "bits")
    for name in (name for name, only_bits in bits.items() if only_bits):
        others = ", ".join(other for other in ranges if other != name)
        raise SMVIError(
            f"{name} has no integer above 1, and {others} has",
            remedy="give both the same meaning: grey levels of 0 to 255, or bits",
        )
    return Meaning("intensities", "levels")


def _meaning_of_floats(low: float, high: float, kind: Kind | None) -> Meaning:
    if low >= 0.0 and high <= 1.0:
        return Meaning("intensities", "floats")
    if low >= -_ROUNDING and high <= 1.0 + _ROUNDING:
        note = f"Values from {low:.8g} to {high:.8g} leave [0, 1] by rounding only: clipped to it."
        return Meaning("intensities", "floats", True, (note,))
    if kind == "intensities":
        raise SMVIError(
            f"is not what the values are, which go from {low:g} to {high:g}",
            field="kind",
            value=kind,
            remedy="divide by the largest possible one, or take them as real",
        )
    return Meaning("real", "floats")


def _to_float32(array: npt.NDArray[Any], name: str) -> npt.NDArray[np.float32]:
    if np.isinf(array).any():
        raise SMVIError(
            f"{name} has values that are infinite", remedy="give finite values, or NaN if missing"
        )
    with np.errstate(over="ignore"):
        values = array.astype(np.float32, copy=False)
    if np.isinf(values).any():
        raise SMVIError(f"{name} has values too large for float32", remedy="scale them down")
    return values
