"""What annealed importance sampling found: the bounds, their errors, and when to distrust them."""

from typing import NamedTuple

import tensorflow as tf

from tfp_smvi.core.errors import SMVIError, name_fields
from tfp_smvi.core.runtime import numerics_unchecked
from tfp_smvi.core.warnings import warn
from tfp_smvi.inference.arguments import known_numbers
from tfp_smvi.inference.warnings import weight_warnings
from tfp_smvi.inference.weights import covering_errors, sum_weights

__all__ = ["FORWARD", "REVERSE", "AISResult", "warned"]

# The directions of a result: log Z is estimated by direction * log mean(w).
FORWARD, REVERSE = 1, -1


class AISResult(NamedTuple):
    """What annealing between the initial distribution and the target found.

    Attributes:
        log_weights: `log w` with `E[w] = Z` forwards and `E[w] = 1 / Z` in reverse: float
            [num_chains, batch], nats.
        final_state: z at the end of each chain: float [num_chains, batch, latent_dim].
        acceptance_rate: the mean over chains and transitions: float [num_segments, batch]; segment
            0 is the one at the initial distribution, in both directions.
        step_size: the step sizes used, before scaling per dimension: float [num_segments, batch],
            in the same order.
        num_gradient_evaluations: of the target's log-prob, for one chain of one data point: int32
            scalar.
        direction: FORWARD, from the initial distribution to the target, or REVERSE, from exact
            samples of the target to the initial distribution.
    """

    log_weights: tf.Tensor
    final_state: tf.Tensor
    acceptance_rate: tf.Tensor
    step_size: tf.Tensor
    num_gradient_evaluations: tf.Tensor
    direction: int | tf.Tensor = FORWARD

    @numerics_unchecked()
    def log_normalizer(self) -> tf.Tensor:
        """The estimate `log mean(w)` of log Z, in expectation a lower bound: float [batch], nats.

        Raises:
            SMVIError: the chains ran in reverse.
        """
        self._require(FORWARD, "log_normalizer_upper_bound")
        return sum_weights(self.log_weights).log_mean()

    @numerics_unchecked()
    def log_normalizer_standard_error(self) -> tf.Tensor:
        """The standard error of `log_normalizer` over chains: float [batch], nats.

        An interval of one error holds log Z in about 68 % of data points, and one of 1.96 errors in
        95 %, if there are about ten of them or more and the effective sample size is a quarter of
        the chains or more (`covering_errors`).

        Raises:
            SMVIError: the chains ran in reverse.
        """
        self._require(FORWARD, "log_normalizer_upper_bound_standard_error")
        return covering_errors(sum_weights(self.log_weights).standard_error())

    @numerics_unchecked()
    def log_normalizer_upper_bound(self) -> tf.Tensor:
        """`-log mean(w)` of a reverse run, in expectation an upper bound: float [batch], nats.

        Raises:
            SMVIError: the chains ran forwards.
        """
        self._require(REVERSE, "log_normalizer")
        return -sum_weights(self.log_weights).log_mean()

    @numerics_unchecked()
    def log_normalizer_upper_bound_standard_error(self) -> tf.Tensor:
        """The standard error of the upper bound over chains: float [batch], nats.

        Chains that share one exact sample also share its error, which this does not include: over
        data points, use the spread of the bounds themselves.

        Raises:
            SMVIError: the chains ran forwards.
        """
        self._require(REVERSE, "log_normalizer_standard_error")
        return covering_errors(sum_weights(self.log_weights).standard_error())

    @numerics_unchecked()
    def effective_sample_size(self) -> tf.Tensor:
        """`sum(w)^2 / sum(w^2)`, between 1 and num_chains: float [batch]."""
        return sum_weights(self.log_weights).effective_sample_size()

    def warnings(self) -> tuple[str, ...]:
        """Why the estimates should not be trusted, with numbers; empty if they can be.

        An eager call warns of the same (UserWarning). A call in a `tf.function` cannot: look here
        at the result that it returns. Few chains, or chains that all miss a mode, go unnoticed.

        Raises:
            SMVIError: the result is that of a graph that is being traced.
        """
        log_weights, _, rates, _, _, direction = known_numbers(self)
        return tuple(map(name_fields, weight_warnings(log_weights, rates, int(direction))))

    def _require(self, direction: int, other: str) -> None:
        """Raises an SMVIError if the chains ran in the other direction, as far as that is known."""
        static_direction = tf.get_static_value(tf.convert_to_tensor(self.direction))
        if static_direction is not None and static_direction != direction:
            ran = "in reverse" if direction == FORWARD else "forwards"
            raise SMVIError(f"these chains ran {ran}", remedy=f"call {other}()")


def warned(result: AISResult, direction: int) -> AISResult:
    """A result with its direction, after a warning to an eager caller if it needs one."""
    result = result._replace(direction=direction)
    if not tf.inside_function():
        warn(result.warnings())
    return result
