"""What a training needs of its configuration and data, and of the numbers that come out."""

import dataclasses
import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass, fields

import numpy as np

from tfp_smvi.config import DataConfig, Kind, ModelConfig, RunConfig
from tfp_smvi.core.errors import SMVIError, name_fields
from tfp_smvi.core.warnings import warn as show_warning
from tfp_smvi.data import Dataset
from tfp_smvi.data.description import doubts
from tfp_smvi.models.architectures import require_images
from tfp_smvi.models.likelihoods import LIKELIHOODS
from tfp_smvi.runs.directory import RunDirectory
from tfp_smvi.runs.records import TRAIN_METRICS, EpochRecord, Metrics
from tfp_smvi.runs.warnings import collapse_warnings
from tfp_smvi.training.steering import divide

__all__ = [
    "FiniteCheck",
    "check_fit_arguments",
    "lost_epochs",
    "resolve",
    "warn_of_collapse",
    "warn_of_doubts",
]

_IN_WORDS: dict[Kind, str] = {
    "intensities": "intensities in [0, 1]",
    "real": "real numbers",
    "counts": "counts, which are whole numbers of at least 0",
}

# Numbers that need more are counts, or identifiers that need new numbers.
_MOST_CATEGORIES = 10_000
# A decoder has an output for each category of each entry. With the default 1,024 hidden units a
# million outputs have 4 GB of weights, and a training holds them five times: with their gradient,
# Adam's two moments and the average.
_MOST_OUTPUTS = 1_000_000
_COPIES = 5


def resolve(config: RunConfig, dataset: Dataset) -> RunConfig:
    """Completes a configuration with what follows from the data.

    Raises:
        SMVIError: the data and the configuration do not fit together.
    """
    _check_settings(config.data, dataset)
    _check_networks(config, dataset)
    config.train.require_stopping_metric()
    num_examples = divide(dataset.train, config.train).train.num_examples
    if config.train.batch_size > num_examples:
        raise SMVIError(
            f"is more than the {num_examples} training examples of {dataset.name}",
            field="batch_size",
            value=config.train.batch_size,
            remedy="give a smaller number",
        )
    return dataclasses.replace(config, model=_resolve_model(config.model, dataset))


def _resolve_model(model: ModelConfig, dataset: Dataset) -> ModelConfig:
    """Completes the settings of a model with likelihood, categories and missing values."""
    likelihood = model.likelihood or dataset.default_likelihood
    kinds = LIKELIHOODS[likelihood].kinds
    if dataset.kind not in kinds:
        needed = " or ".join(_IN_WORDS[kind] for kind in kinds)
        fitting = [name for name, other in LIKELIHOODS.items() if dataset.kind in other.kinds]
        raise SMVIError(
            f"needs {needed}, and {dataset.name} has {_IN_WORDS[dataset.kind]}",
            field="likelihood",
            value=likelihood,
            remedy=f"give {' or '.join(fitting)}, or another {{kind}}",
        )
    num_categories = model.num_categories
    if likelihood == "categorical":
        num_categories = _num_categories(num_categories, dataset)
        _check_outputs(num_categories, model, dataset)
    elif num_categories is not None:
        raise SMVIError(
            f"is of a categorical likelihood, and it is {likelihood}",
            field="num_categories",
            value=num_categories,
            remedy="leave it out, or give categorical as {likelihood}",
        )
    return dataclasses.replace(
        model,
        likelihood=likelihood,
        num_categories=num_categories,
        missing=model.missing or dataset.has_missing,
    )


def _check_settings(config: DataConfig, dataset: Dataset) -> None:
    """Raises SMVIError unless the configuration says how the data were loaded."""
    for field in fields(DataConfig):
        given, loaded = getattr(config, field.name), getattr(dataset.config, field.name)
        if given != loaded:
            raise SMVIError(
                f"is not that of the data given, which is {loaded!r}",
                field=field.name,
                value=given,
                remedy="give RunConfig the data set's own `config`, so that the run records what "
                "it was trained on",
            )


def _num_categories(given: int | None, dataset: Dataset) -> int:
    """The number of categories, from 2 to 10,000: all whole numbers up to the largest."""
    least = max(dataset.num_categories or 0, 2)
    if given is not None and given < least:
        raise SMVIError(
            f"is too small for {dataset.name}, whose largest value is {least - 1}",
            field="num_categories",
            value=given,
            remedy=f"give {least} or more, or leave it out",
        )
    number = given or least
    if number > _MOST_CATEGORIES:
        raise SMVIError(
            f"is more than {_MOST_CATEGORIES:,}, too many outputs of the decoder for each entry; "
            f"the largest value of {dataset.name} is {least - 1}",
            field="num_categories",
            value=number,
            remedy="give poisson or negative_binomial as {likelihood} for counts, or number the "
            "categories from 0 without gaps",
        )
    return number


def _check_outputs(num_categories: int, model: ModelConfig, dataset: Dataset) -> None:
    """Raises SMVIError if a decoder has more outputs, categories of entries, than fit anywhere."""
    num_entries = math.prod(dataset.image_shape)
    num_outputs = num_entries * num_categories
    if num_outputs <= _MOST_OUTPUTS:
        return
    what = f"makes {num_entries:,} x {num_categories:,} = {num_outputs:,} outputs of the decoder"
    if model.architecture == "dense" and model.model is None and model.hidden_sizes:
        num_bytes = 4 * _COPIES * num_outputs * model.hidden_sizes[0]
        what += f", whose weights take {num_bytes / 1e9:,.0f} GB in training"
    raise SMVIError(
        f"{what}; at most {_MOST_OUTPUTS:,} outputs are allowed",
        field="num_categories",
        value=num_categories,
        remedy="give poisson or negative_binomial as {likelihood}, or fewer entries or categories",
    )


def _check_networks(config: RunConfig, dataset: Dataset) -> None:
    """Raises SMVIError if the architecture cannot take the data or the precision."""
    if config.model.architecture == "conv":
        require_images(dataset.image_shape)
    if config.train.precision == "bfloat16" and config.model.architecture != "dense":
        raise SMVIError(
            "is only for the architecture dense",
            field="precision",
            value=config.train.precision,
            remedy="give float32",
        )


def warn_of_doubts(
    config: RunConfig, dataset: Dataset, warn: Callable[[str], None] | None
) -> list[str]:
    """Warns of what looks like a mistake in the data.

    Args:
        config: the configuration, complete.
        dataset: the data.
        warn: is called with one line for each; None for a UserWarning.

    Returns:
        The lines.
    """
    assert config.model.likelihood is not None
    warn = warn or (lambda message: warnings.warn(name_fields(message), stacklevel=4))
    messages = [*dataset.notes, *doubts(dataset, config.model.likelihood)]
    for message in messages:
        warn(message)
    return messages


def warn_of_collapse(last: EpochRecord, warn: Callable[[str], None] | None) -> None:
    """Warns if the posterior has collapsed; `warn` is as in `warn_of_doubts`."""
    for line in collapse_warnings(last):
        if warn is None:
            show_warning([name_fields(line)])
        else:
            warn(line)


def check_fit_arguments(checkpoint_minutes: float, keep_every: int | None) -> None:
    """Raises SMVIError if an argument of `fit` is out of its range."""
    if keep_every is not None and keep_every < 1:
        raise SMVIError(
            "is not allowed",
            field="keep_every",
            value=keep_every,
            remedy="give a number of epochs of at least 1",
        )
    if not checkpoint_minutes > 0.0:  # NaN is neither
        raise SMVIError(
            "is not allowed",
            field="checkpoint_minutes",
            value=checkpoint_minutes,
            remedy="give a number greater than 0",
        )


@dataclass(frozen=True)
class FiniteCheck:
    """Refuses an objective that is no longer finite, before anything is saved.

    Attributes:
        real_valued: whether the data are any real numbers, whose scale may be the cause.
    """

    real_valued: bool

    def steps(self, rows: np.ndarray, step: int, saved_step: int) -> None:
        """Raises SMVIError if the objective or the gradient of a step is not finite.

        Args:
            rows: TRAIN_METRICS of some steps: float32 [num_steps, 6].
            step: the steps taken before them.
            saved_step: the step of the last checkpoint; -1 for none.
        """
        columns = [TRAIN_METRICS.index(name) for name in ("objective", "gradient_norm")]
        bad = np.flatnonzero(~np.isfinite(rows[:, columns]).all(axis=1))
        if bad.size:
            raise self._error("the objective or its gradient", step + int(bad[0]) + 1, saved_step)

    def test(self, metrics: Metrics, step: int, saved_step: int) -> None:
        """Raises SMVIError if a metric of the test data is not finite."""
        if not all(map(math.isfinite, dataclasses.astuple(metrics))):
            raise self._error("the objective on the test data", step, saved_step)

    def _error(self, what: str, step: int, saved_step: int) -> SMVIError:
        saved = (
            f"the checkpoint at step {saved_step} is intact"
            if saved_step >= 0
            else "no checkpoint was written yet"
        )
        scale = "scale the data to values of about 1 if they are far larger, or "
        return SMVIError(
            f"{what} is not finite at step {step} ({saved})",
            remedy=(scale if self.real_valued else "")
            + "try a smaller {learning_rate} or {clip_norm}, or a longer {lam_warmup_steps}, "
            "in a new directory",
        )


def lost_epochs(run: RunDirectory) -> str | None:
    """A warning if the checkpoints of a run were deleted: a kill loses at most one; else None."""
    log = run.metrics
    if not log.is_file() or len(log.read_bytes().splitlines()) <= 1:
        return None
    return (
        f"{log} has epochs, but there is no checkpoint in {run.checkpoints}; the training starts "
        "from the beginning."
    )
