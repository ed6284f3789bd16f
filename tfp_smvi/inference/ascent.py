"""The ascent of an objective by parameters of a q(z|x) of each example, which stops by itself.

Adam [1] follows new draws at each step. The iterates of WINDOW steps are averaged [2], and the mean
is compared with the best so far at draws that are always the same and that no step uses. An example
that gains too little goes on from its best parameters with a smaller step, and stops when it gains
too little again.

References:
    [1] D. P. Kingma, J. Ba. Adam: A Method for Stochastic Optimization. ICLR 2015.
    [2] B. T. Polyak, A. B. Juditsky. Acceleration of Stochastic Approximation by Averaging. SIAM
        Journal on Control and Optimization, 1992.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import tensorflow as tf

from tfp_smvi.core.densities import LogDensity
from tfp_smvi.inference.families import (
    Family,
    LocalDistribution,
    Parameters,
    diagonal_parameters,
)

__all__ = [
    "NUM_COMMON_DRAWS",
    "NUM_DRAWS",
    "WINDOW",
    "Ascent",
    "LocalObjective",
    "Refined",
]

# Steps between comparisons, whose iterates are averaged [2].
WINDOW = 50
NUM_DRAWS = 4
NUM_COMMON_DRAWS, CHUNK_SIZE = 128, 32
# The learning rate of an example that gains too little, relative to that of its family.
RATE_FACTOR, SMALLEST_RATE = 0.25, 0.25
# Adam's; a gradient of EPSILON nats per stddev of q would gain a millionth of a nat.
BETA_1, BETA_2, EPSILON = 0.9, 0.99, 1e-3


class LocalObjective(NamedTuple):
    """What the best q is best at.

    An example has converged if WINDOW steps gain less than

        absolute_tolerance + relative_tolerance |value|

    Attributes:
        values: (q, log_joint, z: [n, batch, latent_dim]) -> [n, batch], whose mean over draws z of
            q is to be as large as possible. Its gradient with respect to the parameters of q, also
            through z, must be the gradient of that mean but for noise.
        absolute_tolerance: in the unit of the values.
        relative_tolerance: a share.
    """

    values: Callable[[LocalDistribution, LogDensity, tf.Tensor], tf.Tensor]
    absolute_tolerance: float
    relative_tolerance: float


class Refined(NamedTuple):
    """The best q of each example.

    Attributes:
        parameters: of the family, float32 [batch, ...] by name.
        value: the objective at the common draws: float32 [batch].
        converged: whether the last steps gained too little to go on: bool [batch].
        num_steps: the steps until then: int32 [batch].
    """

    parameters: Parameters
    value: tf.Tensor
    converged: tf.Tensor
    num_steps: tf.Tensor


class _State(NamedTuple):
    """What a step needs of the one before; each has the batch as its first axis.

    Attributes:
        parameters: the iterate.
        mean: Adam's running mean of the gradient.
        square: Adam's running mean of its square.
        total: the sum of the iterates of this window.
        active: whether the example still moves.
        rate: its learning rate relative to the family's.
    """

    parameters: Parameters
    mean: Parameters
    square: Parameters
    total: Parameters
    active: tf.Tensor
    rate: tf.Tensor


class Ascent:
    """The ascent of all examples of a batch.

    Args:
        log_joint: as in `tfp_smvi.inference.local.refine`.
        start: as in `refine`.
        family: the family of the maps.
        objective: what to improve.
        num_steps: the most steps.
        seed: int32 [2].
    """

    def __init__(
        self,
        log_joint: LogDensity,
        start: Any,
        family: Family,
        objective: LocalObjective,
        num_steps: int,
        seed: tf.Tensor,
    ) -> None:
        """Runs nothing yet."""
        self._log_joint, self._start, self._family = log_joint, start, family
        self._objective, self._num_steps = objective, num_steps
        self._moments = start.mean(), start.stddev()
        self._step_seed, self._common_seed = tf.unstack(tf.random.split(seed))

    def run(self, shared: Mapping[str, tf.Tensor]) -> Refined:
        """Returns the best parameters.

        Args:
            shared: `shift` and `log_scale` to begin with; 0 if they are not given.
        """
        dim = self._start.event_shape[0]
        batch = self._start.batch_shape[0] or self._start.batch_shape_tensor()[0]
        parameters = diagonal_parameters(batch, dim) | self._family.initial(batch, dim)
        parameters |= shared
        zeros = tf.nest.map_structure(tf.zeros_like, parameters)
        value = self._value(parameters)
        value = tf.where(tf.math.is_nan(value), -float("inf"), value)
        active = tf.ones_like(value, tf.bool)
        state = _State(parameters, zeros, zeros, zeros, active, tf.ones_like(value))
        best = Refined(parameters, value, ~active, tf.zeros_like(value, tf.int32))
        _, _, best = tf.while_loop(
            lambda first, state, best: (first < self._num_steps) & tf.reduce_any(state.active),
            self._window,
            (tf.constant(0), state, best),
        )
        return best

    def _window(
        self, first: tf.Tensor, state: _State, best: Refined
    ) -> tuple[tf.Tensor, _State, Refined]:
        """Steps from number `first` on, and the comparison of their mean with the best."""
        last = tf.minimum(first + WINDOW, self._num_steps)
        state = state._replace(total=tf.nest.map_structure(tf.zeros_like, state.total))
        _, state = tf.while_loop(
            lambda number, state: number < last,
            lambda number, state: (number + 1, self._step(number, state)),
            (first, state),
        )
        count = tf.cast(last - first, tf.float32)
        mean = tf.nest.map_structure(lambda total: total / count, state.total)
        value = self._value(mean)
        objective = self._objective
        # Without a relative tolerance infinity counts as 0.
        relative = tf.math.multiply_no_nan(tf.abs(best.value), objective.relative_tolerance)
        tolerance = objective.absolute_tolerance + relative
        # NaN is no gain.
        stalls = state.active & ~(value - best.value >= tolerance) & (last - first == WINDOW)
        better = state.active & (value > best.value)
        ends = stalls & (state.rate <= SMALLEST_RATE)
        parameters = _choose(better, mean, best.parameters)
        num_steps = tf.where(state.active, last, best.num_steps)
        best_value = tf.where(better, value, best.value)
        converged = best.converged | (ends & tf.math.is_finite(best_value))
        state = state._replace(
            parameters=_choose(stalls, parameters, state.parameters),
            active=state.active & ~ends,
            rate=tf.where(stalls, RATE_FACTOR * state.rate, state.rate),
        )
        return last, state, Refined(parameters, best_value, converged, num_steps)

    def _step(self, number: tf.Tensor, state: _State) -> _State:
        """A step of Adam [1] with new draws; examples that have stopped stay."""
        gradient = self._gradient(state.parameters, tf.random.fold_in(self._step_seed, number))
        mean = tf.nest.map_structure(
            lambda m, g: BETA_1 * m + (1.0 - BETA_1) * g, state.mean, gradient
        )
        square = tf.nest.map_structure(
            lambda s, g: BETA_2 * s + (1.0 - BETA_2) * g**2, state.square, gradient
        )
        count = tf.cast(number + 1, tf.float32)
        correction = tf.sqrt(1.0 - BETA_2**count) / (1.0 - BETA_1**count)
        rate = tf.where(state.active, state.rate, 0.0) * self._family.learning_rate * correction
        parameters = tf.nest.map_structure(
            lambda p, m, s: p + _along(rate, p) * m / (tf.sqrt(s) + EPSILON),
            state.parameters,
            mean,
            square,
        )
        total = tf.nest.map_structure(tf.add, state.total, parameters)
        return state._replace(parameters=parameters, mean=mean, square=square, total=total)

    def _gradient(self, parameters: Parameters, seed: tf.Tensor) -> Parameters:
        """The gradient of the objective, 0 where it is not finite."""
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(parameters)
            # Of each example: no example's value depends on another's parameters.
            total = tf.reduce_sum(self._values(parameters, NUM_DRAWS, seed)) / NUM_DRAWS
        gradient = tape.gradient(total, parameters, unconnected_gradients="zero")
        return tf.nest.map_structure(lambda g: tf.where(tf.math.is_finite(g), g, 0.0), gradient)

    def _value(self, parameters: Parameters) -> tf.Tensor:
        """The objective at the common draws: [batch]."""
        num_chunks = NUM_COMMON_DRAWS // CHUNK_SIZE
        chunks = tf.map_fn(
            lambda index: tf.reduce_mean(
                self._values(parameters, CHUNK_SIZE, tf.random.fold_in(self._common_seed, index)), 0
            ),
            tf.range(num_chunks),
            parallel_iterations=1,
            fn_output_signature=tf.TensorSpec(self._start.batch_shape, tf.float32),
        )
        return tf.reduce_mean(chunks, axis=0)

    def _values(self, parameters: Parameters, num_draws: int, seed: tf.Tensor) -> tf.Tensor:
        q = LocalDistribution(self._start, self._family, parameters, self._moments)
        return self._objective.values(q, self._log_joint, q.sample(num_draws, seed=seed))


def _choose(condition: tf.Tensor, first: Parameters, second: Parameters) -> Parameters:
    """The first parameters of an example or the second, by a condition [batch]."""
    return tf.nest.map_structure(lambda a, b: tf.where(_along(condition, a), a, b), first, second)


def _along(values: tf.Tensor, like: tf.Tensor) -> tf.Tensor:
    """[batch] with the rank of another tensor, whose first axis is the batch."""
    return tf.reshape(values, [-1, *[1] * (like.shape.rank - 1)])
