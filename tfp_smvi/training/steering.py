"""What a Lagrange multiplier follows: the gap, the divergence or the ELBO of held-out examples."""

import math
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from tfp_smvi.config import RunConfig, TrainConfig
from tfp_smvi.core.seeds import fold_seed
from tfp_smvi.data import Split, eval_batches, train_batches
from tfp_smvi.data.splits import hold_out
from tfp_smvi.data.test_batches import TEST_SEED
from tfp_smvi.models.protocol import LatentVariableModel
from tfp_smvi.objectives.divergences import score_matching_divergence, weighted_divergence
from tfp_smvi.objectives.multiplier import Multiplier
from tfp_smvi.objectives.smvi import elbo
from tfp_smvi.runs.records import ConstraintRecord
from tfp_smvi.training.gaps import GapEstimator

__all__ = ["Steering", "TrainingData", "divide"]

# The examples that are held out: at most, and as a share of the training data. The mean gap or
# divergence of 2,000 examples of MNIST has a standard error of 2 to 3 %.
MOST_HELD_OUT, SHARE_HELD_OUT = 2000, 0.1
# Of these the gap, which takes several draws, is estimated on so many at each epoch.
NUM_GAP_EXAMPLES = 500
BATCH = 100
# A better estimate of the gap, on another batch, follows when the training has this factor more
# steps than at the last one.
CORRECTION_FACTOR = 1.5


_DIVERGENCES = {
    "divergence": score_matching_divergence,
    "weighted_divergence": weighted_divergence,
}


class TrainingData(NamedTuple):
    """What a training takes of the training data.

    Attributes:
        train: the examples to train on.
        held_out: those that a constraint is measured on; None for a fixed lam.
    """

    train: Split
    held_out: Split | None = None

    def steps_per_epoch(self, config: TrainConfig) -> int:
        """The whole batches of the examples to train on."""
        return self.train.num_examples // config.batch_size

    def batches(self, config: RunConfig, first_step: int) -> tf.data.Dataset:
        """The batches of a training from a step to its end, as `train_batches`; perhaps none."""
        train = config.train
        end = train.epochs * self.steps_per_epoch(train)
        return train_batches(
            self.train,
            batch_size=train.batch_size,
            seed=train.seed,
            first_step=first_step,
            num_steps=max(end - first_step, 0),
            binarize=config.model.likelihood == "bernoulli",
        )


def divide(split: Split, config: TrainConfig) -> TrainingData:
    """Holds examples out of the training data if lam follows a constraint.

    A training that saw them would fit them better than others: on MNIST the gap and the divergence
    of test data are a third larger than those of training data. The test data themselves would no
    longer tell how well the model does on data that nobody has looked at.
    """
    if config.constraint is None:
        return TrainingData(split)
    number = min(MOST_HELD_OUT, math.ceil(SHARE_HELD_OUT * split.num_examples))
    return TrainingData(*hold_out(split, number))


class Steering:
    """Measures the constrained quantity at the end of each epoch and corrects the multiplier by it.

    The examples, their bits and all draws are the same at every call, so that the measurements of
    different epochs differ by the model alone.

    Args:
        multiplier: the multiplier of the training.
        model: the model with averaged weights, in float32.
        held_out: the examples.
        binarize: whether to draw bits.
    """

    def __init__(
        self, multiplier: Multiplier, model: LatentVariableModel, held_out: Split, *, binarize: bool
    ) -> None:
        """Traces the functions at their first calls."""
        self._multiplier, self._model = multiplier, model
        self._held_out, self._binarize = held_out, binarize
        self._gap = GapEstimator(model)
        self._one_draw = tf.function(self._estimate, reduce_retracing=True, autograph=False)

    def end_epoch(self, step: int) -> ConstraintRecord:
        """Measures, and moves the multiplier's set point; returns what is logged of it."""
        is_gap = self._multiplier.constraint.quantity == "gap"
        measured = self._measure_gap(step) if is_gap else self._measure()
        self._multiplier.steer(measured, step)
        constraint = self._multiplier.constraint
        return ConstraintRecord(
            quantity=constraint.quantity,
            asked=constraint.bound,
            measured=measured,
            error=constraint.error(measured),
            outcome=constraint.outcome(measured, self._multiplier.place(step)),
        )

    def _measure(self) -> float:
        """The mean of the divergence or of the ELBO."""
        batches = enumerate(self._batches(self._held_out.num_examples))
        return _mean(self._one_draw(x, tf.constant(number)).numpy() for number, x in batches)

    def _estimate(self, x: tf.Tensor, number: tf.Tensor) -> tf.Tensor:
        model, posterior = self._model, self._model.encode(x)
        z = posterior.sample(seed=fold_seed(TEST_SEED, "constraint", number))
        divergence = _DIVERGENCES.get(self._multiplier.constraint.quantity)
        if divergence is not None:
            return divergence(posterior, lambda z: model.log_joint(x, z), z)
        return elbo(posterior, model.prior, lambda z: model.decode(z).log_prob(x), z).elbo

    def _measure_gap(self, step: int) -> float:
        """The cheap estimate of the mean gap, corrected by better ones now and then."""
        state, number = (
            self._multiplier.variables,
            int(self._multiplier.variables["num_corrections"].numpy()),
        )
        due = step >= CORRECTION_FACTOR * float(state["corrected_at"].numpy())
        due = due and self._multiplier.place(step) != "warm-up"
        size = self._held_out.num_examples
        batches = list(self._batches(size if due else min(NUM_GAP_EXAMPLES, size)))
        gaps = [self._gap.cheap(x, index).numpy() for index, x in enumerate(batches)]
        cheap = _mean(gaps[: NUM_GAP_EXAMPLES // BATCH])
        if due:
            chosen = number % max(size // BATCH, 1)
            error = self._gap.better(batches[chosen]) / max(_mean([gaps[chosen]]), 1e-9)
            ratio = error * _mean(gaps) / max(cheap, 1e-9)
            # The geometric mean with those before: each has the noise of other examples.
            before = float(state["correction"].numpy()) if number else ratio
            state["correction"].assign(math.sqrt(before * ratio))
            state["num_corrections"].assign(number + 1)
            state["corrected_at"].assign(step)
        return cheap * float(state["correction"].numpy())

    def _batches(self, num_examples: int) -> Iterator[tf.Tensor]:
        batches = eval_batches(
            self._held_out,
            batch_size=BATCH,
            seed=TEST_SEED,
            binarize=self._binarize,
            num_examples=num_examples,
        )
        return (x for _, x in batches)


def _mean(parts: Iterable[np.ndarray]) -> float:
    return float(np.concatenate([*parts]).mean(dtype=np.float64))
