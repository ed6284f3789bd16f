"""What a data set was taken for, in words, and what looks like a mistake."""

import math
from collections.abc import Iterator
from typing import Literal, NamedTuple

import numpy as np

from tfp_smvi.config import Kind, LikelihoodName
from tfp_smvi.data.assembly import DiskSplit
from tfp_smvi.data.dataset import Dataset, default_likelihood
from tfp_smvi.data.splits import ArraySplit, Split, blocks
from tfp_smvi.data.standardization import doubts_of_rounding, find_moments
from tfp_smvi.data.values import WHITE, Range, measure, parts_of

__all__ = ["Values", "describe", "describe_values", "doubts", "examine"]

Content = Literal["bits", "grey levels", "intensities", "counts", "real values"]
# How far the values of an entry may be from 0, in the root of their mean square.
_FAR = 10.0
# Examples of a split on disk that are examined.
_SAMPLE = 1000


class Values(NamedTuple):
    """The values of a split; missing ones are left out.

    Attributes:
        content: what they are.
        low: the smallest; of grey levels 0 to 255.
        high: the largest.
        whole: whether all are whole numbers.
        share_outside: the fraction outside [0, 1]; 0 unless they are real values.
        share_missing: the fraction that is missing.
    """

    content: Content
    low: float
    high: float
    whole: bool
    share_outside: float = 0.0
    share_missing: float = 0.0


def describe(dataset: Dataset, likelihood: LikelihoodName) -> str:
    """Returns the line that says what a data set is taken for, and the likelihood of the model."""
    values = describe_values(dataset, likelihood == "bernoulli").removesuffix(".")
    why = f", the default for {_usual(dataset)}" * (likelihood == dataset.default_likelihood)
    return f"{values}; likelihood {likelihood}{why}."


def describe_values(dataset: Dataset, binarize: bool) -> str:
    """Returns the line that says what a data set is taken for.

    Args:
        dataset: the data.
        binarize: whether bits are drawn from intensities.
    """
    train, test = dataset.train.num_examples, dataset.test.num_examples
    values = examine(dataset.train)
    meaning = {
        "bits": "bits, 0 and 1",
        "grey levels": f"integers of 0 to {WHITE}: grey levels",
        "intensities": f"numbers in [0, 1]: intensities from {values.low:g} to {values.high:g}",
        "counts": f"whole numbers of at least 0: counts from {values.low:g} to {values.high:g}",
        "real values": f"real values from {values.low:g} to {values.high:g}",
    }[values.content]
    if binarize and values.content != "bits":
        how = "bits are drawn from them"
    else:
        how = "taken as they are" if dataset.standardization is None else "standardized"
    missing = f"; {values.share_missing:.2g} of them missing" if values.share_missing else ""
    return (
        f"Data: {train} to train and {test} to test, {_layout(dataset.image_shape)}; {meaning}, "
        f"{how}{missing}."
    )


def _usual(dataset: Dataset) -> str:
    """What a default likelihood is the default of."""
    if dataset.kind == "intensities":
        return "intensities" if dataset.default_likelihood == "bernoulli" else "colours"
    return {"real": "real values", "counts": "counts"}[dataset.kind]


def doubts(dataset: Dataset, likelihood: LikelihoodName) -> list[str]:
    """Returns a line for everything about a data set that looks like a mistake."""
    return [
        *_doubts_of_shape(dataset.kind, dataset.image_shape),
        *_doubts_of_values(dataset, likelihood),
    ]


def examine(split: Split) -> Values:
    """Examines the values of a split; of one on disk the first 1000 examples."""
    if isinstance(split, DiskSplit) and split.meaning.storage == "floats":
        return _values(split.kind, split.values, math.prod(split.image_shape) * split.num_examples)
    if isinstance(split, ArraySplit):
        values = split.stored
    else:
        values = split.images(np.arange(min(_SAMPLE, split.num_examples)))
        if split.kind == "intensities" and not split.has_missing:  # they are grey levels / 255
            values = np.rint(values * WHITE).astype(np.uint8)
    if values.dtype != np.uint8:
        return _values(split.kind, measure(parts_of(values), "x"), values.size)
    only_bits = not any(((part > 0) & (part < WHITE)).any() for part in parts_of(values))
    low, high = (float(values.min()), float(values.max())) if values.size else (0.0, 0.0)
    return Values("bits" if only_bits else "grey levels", low, high, True)


def _values(kind: Kind, span: Range, num_values: int) -> Values:
    content: Content = "bits" if span.whole else "intensities"
    if kind != "intensities":
        content = "counts" if kind == "counts" else "real values"
    num_observed = max(num_values - span.num_missing, 1)
    return Values(
        content,
        span.low,
        span.high,
        span.whole,
        span.num_outside / num_observed if kind == "real" else 0.0,
        span.num_missing / max(num_values, 1),
    )


def _layout(shape: tuple[int, ...]) -> str:
    """Such as "28 x 28 pixels (height x width) with 1 channel"."""
    if len(shape) == 1:
        return f"vectors of {shape[0]} numbers"
    sizes = " x ".join(map(str, shape[:2]))
    channels = "".join(f" with {c} channel{'s' * (c != 1)}" for c in shape[2:])
    return f"images of {sizes} pixels (height x width){channels}"


def _doubts_of_shape(kind: Kind, shape: tuple[int, ...]) -> Iterator[str]:
    if len(shape) != 3:
        return
    first, last = shape[0], shape[-1]
    if first <= 4 and (min(shape[1:]) > 4 or first < shape[1] == last):
        yield (
            f"Images of shape {shape} look like channels first, and are taken as {first} x "
            f"{shape[1]} pixels with {last} channels{_other_likelihood(kind, shape)}; transpose "
            "them with x.transpose(0, 2, 3, 1)."
        )
    elif last in (2, 4):
        names = "grey and alpha" if last == 2 else "red, green, blue and alpha"
        yield (
            f"Images with {last} channels look like {names}, and alpha is learned like a colour; "
            f"leave it out with x[..., :{last - 1}]."
        )


def _other_likelihood(kind: Kind, shape: tuple[int, ...]) -> str:
    """What the order of the channels changes in a model, apart from its convolutions."""
    here, there = (default_likelihood(kind, order) for order in (shape, (*shape[1:], shape[0])))
    return f", whose default {{likelihood}} is {here} and not {there}" if here != there else ""


def _doubts_of_values(dataset: Dataset, likelihood: LikelihoodName) -> Iterator[str]:
    values, test = examine(dataset.train), examine(dataset.test)
    high = max(values.high, test.high)
    if values.content == "grey levels" and high < WHITE / 2:
        yield (
            f"The largest of all grey levels is {high:.0f} of {WHITE}, so that all examples are "
            "dark; if it is white, divide by it and give floats; give counts as floats, too."
        )
    elif values.content == "intensities" and high < 0.5:
        yield (
            f"The largest of all intensities is {high:.2g} of 1, so that all examples are dark; if "
            "it is white, divide by it."
        )
    if values.content == "real values":
        reasons = list(_doubts_of_real_values(values, test))
        yield from reasons or _doubts_of_scale(dataset)
        if dataset.standardization is not None:
            yield from doubts_of_rounding(dataset.standardization, dataset.names)
    elif values.content == "bits" and likelihood == "gaussian":
        yield "All values are 0 or 1, to which a gaussian {likelihood} gives densities without end."


def _doubts_of_scale(dataset: Dataset) -> Iterator[str]:
    """Doubts about real values that are far from mean 0 and standard deviation 1."""
    mean, stddev = (moments.reshape(-1) for moments in find_moments(blocks(dataset.train)))
    spread = stddev[stddev > 0.0]
    size = np.hypot(mean, stddev)  # the root of the mean square of each entry
    if not spread.size or (size.max() <= _FAR and spread.max() >= 1.0 / _FAR):
        return
    entry = int(size.argmax())
    name = dataset.names[entry] if dataset.names else f"entry {entry}"
    yield (
        f"Real values are far from mean 0 and standard deviation 1, such as {name} with mean "
        f"{mean[entry]:.3g} and standard deviation {stddev[entry]:.3g}: training may diverge; "
        "scale them with {standardize}."
    )


def _doubts_of_real_values(values: Values, test: Values) -> Iterator[str]:
    low, high = min(values.low, test.low), max(values.high, test.high)
    if (values.high <= 1.0) != (test.high <= 1.0) and high > 2.0:
        yield (
            f"Training data go up to {values.high:g} and test data up to {test.high:g}; scale both "
            "in the same way."
        )
    elif values.whole and test.whole and low >= 0.0:
        yield (
            f"All values are whole numbers from {low:g} to {high:g}, and are taken as real values; "
            f"give grey levels of 0 to {WHITE} as integers."
        )
    elif max(values.share_outside, test.share_outside) < 0.01:
        yield (
            f"Values from {low:g} to {high:g} are taken as real values, although at most 1 % of "
            "them are outside [0, 1]; for intensities clip them with numpy.clip(x, 0, 1)."
        )
