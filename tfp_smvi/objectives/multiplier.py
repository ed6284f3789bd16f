"""lam as a Lagrange multiplier: a controller that keeps a constraint while a model trains.

Each training step moves lam so that the divergence of its batch stays at a set point (a PI
controller). At the end of each epoch the set point is corrected, so that the constrained quantity
of the averaged model reaches its bound.

References:
    [1] D. J. Rezende and F. Viola. Taming VAEs. 2018. arXiv:1810.00597.
    [2] A. Stooke, J. Achiam, P. Abbeel. Responsive Safety in Reinforcement Learning by PID
        Lagrangian Methods. ICML 2020.
"""

import math
from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

from tfp_smvi.objectives.constraints import Constraint, Place
from tfp_smvi.objectives.weights import FixedWeight

if TYPE_CHECKING:
    import tensorflow as tf

__all__ = ["ControllerState", "Multiplier", "Timing", "log_multiplier", "observe"]

# Batches differ by 5 to 20 % in their divergence: an average over FAST_WINDOW steps by 1 to 3 %.
FAST_WINDOW = 50.0
# The divergence answers lam within 100 to 1,000 steps. Of a change of lam that is needed, the
# proportional part makes most at once, and the integral the rest over INTEGRAL_STEPS steps.
PROPORTIONAL_GAIN = 2.0
INTEGRAL_STEPS = 200.0
# The divergence spans ten orders of magnitude in the first steps.
LARGEST_ERROR = 1.0
LARGEST_LOG_DIVERGENCE = 30.0
# The multiplier's range: lam times the divergence asked for, in nats. At the least it has no
# effect that could be measured; at the largest the ELBO has none.
LEAST_NATS, MOST_NATS = 0.01, 1_000.0
# The steps in which the averages settle if there is no warm-up.
SETTLING_STEPS = 100
# A gap or a divergence of less than RELAXATION times the bound more is allowed when control begins,
# and the bound itself from this many times the frozen steps on.
RELAXATION, RELAXED_UNTIL = 0.5, 3.0
# The log set point before the first measurement: lam is next to nothing.
UNKNOWN = 20.0


class ControllerState(NamedTuple):
    """What the controller remembers; numbers or float32 scalars.

    Attributes:
        log_divergence: log D of the training batches, averaged over FAST_WINDOW steps.
        slow_log_divergence: the same, averaged over as many steps as the model's weights.
        integral: the integral part of log(lam D).
        log_set_point: the log D to keep.
    """

    log_divergence: "float | tf.Tensor"
    slow_log_divergence: "float | tf.Tensor"
    integral: "float | tf.Tensor"
    log_set_point: "float | tf.Tensor"


class Timing(NamedTuple):
    """How a controller moves with the steps of a training.

    Attributes:
        frozen_steps: the steps before the multiplier is controlled.
        averaging_steps: the steps that the model's weights are averaged over, at most.
    """

    frozen_steps: int
    averaging_steps: int


def log_multiplier(state: ControllerState) -> "tf.Tensor":
    """The multiplier that follows from a state, in the log.

        log lam = clip(integral + PROPORTIONAL_GAIN error, log LEAST_NATS, log MOST_NATS) - log D*
        error = clip(log D - log D*, -LARGEST_ERROR, LARGEST_ERROR)

    D* is the set point. log(lam D*) is controlled in place of log lam: it is a number of nats,
    which has the same size for all data and divergences, and lam follows a change of D* at once.
    """
    return _bounded(state.integral + PROPORTIONAL_GAIN * _error(state)) - state.log_set_point


def observe(
    state: ControllerState, log_divergence: "tf.Tensor", step: "tf.Tensor", timing: Timing
) -> ControllerState:
    """The state after a step of training.

        integral <- clip(integral + PROPORTIONAL_GAIN / INTEGRAL_STEPS error)

    It stops at the bounds of the multiplier, and so does not wind up. It is 0 until the warm-up has
    ended and the first measurement is there: then lam D* = (D / D*)^PROPORTIONAL_GAIN nats.

    Args:
        state: the state before it.
        log_divergence: the log of the batch's mean divergence: float32 scalar.
        step: the steps taken before: float32 scalar.
        timing: the time scales of the training.

    Source: [Stooke et al., section 5], in the log; the exponential average is that of [Rezende &
        Viola, algorithm 1].
    """
    import tensorflow as tf

    observed = tf.clip_by_value(log_divergence, -LARGEST_LOG_DIVERGENCE, LARGEST_LOG_DIVERGENCE)
    # As the weights' average, which covers at most the last tenth of the steps.
    window = tf.clip_by_value(0.1 * step, FAST_WINDOW, max(FAST_WINDOW, timing.averaging_steps))
    state = state._replace(
        log_divergence=_averaged(state.log_divergence, observed, FAST_WINDOW, step),
        slow_log_divergence=_averaged(state.slow_log_divergence, observed, window, step),
    )
    moved = _bounded(state.integral + PROPORTIONAL_GAIN / INTEGRAL_STEPS * _error(state))
    frozen = (step < timing.frozen_steps) | (state.log_set_point >= UNKNOWN)
    return state._replace(integral=tf.where(frozen, tf.zeros_like(moved), moved))


class Multiplier:
    """The weight of a divergence that follows a constraint; see `weights.Weight`.

    Args:
        constraint: what to reach.
        warmup_steps: the steps over which lam grows from 0, without control.
        warmup_power: how it grows.
        averaging_steps: the steps that the model's weights are averaged over; 0 for no average.
    """

    lam = 1.0  # times `scale`

    def __init__(
        self,
        constraint: Constraint,
        warmup_steps: int = 0,
        warmup_power: float = 1.0,
        averaging_steps: int = 0,
    ) -> None:
        """Makes no variables yet."""
        self.constraint = constraint
        self._warmup = FixedWeight(1.0, warmup_steps, warmup_power)
        self._timing = Timing(max(warmup_steps, SETTLING_STEPS), averaging_steps)

    @cached_property
    def variables(self) -> "Mapping[str, tf.Variable]":
        """The state by name: that of the controller, and the correction of the measurements."""
        import tensorflow as tf

        first = ControllerState(0.0, 0.0, 0.0, UNKNOWN)._asdict()
        first |= {"correction": 1.0, "num_corrections": 0.0, "corrected_at": 0.0}
        return {
            name: tf.Variable(value, trainable=False, dtype=tf.float32, name=name)
            for name, value in first.items()
        }

    def scale(self, step: "int | tf.Tensor") -> "tf.Tensor":
        """lam at a step: float32 scalar."""
        import tensorflow as tf

        return tf.exp(log_multiplier(self._state())) * self._warmup.scale(step)

    def observe(self, step: "int | tf.Tensor", divergence: "tf.Tensor | None") -> None:
        """Moves the multiplier after a step of training.

        Args:
            step: the steps taken before it.
            divergence: the mean divergence of its batch: float32 scalar.
        """
        import tensorflow as tf

        state = observe(
            self._state(), tf.math.log(divergence), tf.cast(step, tf.float32), self._timing
        )
        for name, value in state._asdict().items():
            self.variables[name].assign(value)

    def steer(self, measured: float, step: int) -> None:
        """Corrects the set point by the constrained quantity of the averaged model.

        At a given lam the gap still falls when control begins, by a third on MNIST. A lam that held
        it at the bound from the start would be too large for most of the training, and would cost
        likelihood. So the bound is relaxed at first, and lam comes from below.

        Args:
            measured: the constrained quantity.
            step: the steps taken.
        """
        if self.constraint.quantity != "elbo":
            measured /= self._relaxation(step)
        lam = math.exp(float(log_multiplier(self._state())))
        log_divergence = float(self.variables["slow_log_divergence"].numpy())
        set_point = self.constraint.log_set_point(measured, log_divergence, lam)
        self.variables["log_set_point"].assign(set_point)

    def reached(self, step: int) -> float:
        """lam after a number of steps, which are those that were observed."""
        return float(self.scale(step))

    def unfinished(self, step: int, steps_per_epoch: int | None = None) -> str | None:
        """A warning about a training that ends before the multiplier is controlled; else None.

        Args:
            step: the steps of the training.
            steps_per_epoch: with it, the warning names the epochs that are needed.
        """
        frozen = self._timing.frozen_steps
        if step > frozen:
            return None
        needed = f" above {frozen // steps_per_epoch}" if steps_per_epoch else ""
        return (
            f"lam does not follow the {self.constraint.label} yet: the training has {step} "
            f"steps, and control begins after {frozen}. Raise {{epochs}}{needed} or give fewer "
            "{lam_warmup_steps}."
        )

    def place(self, step: int) -> Place:
        """Where the multiplier is after a number of steps."""
        if step < self._timing.frozen_steps:
            return "warm-up"
        state = self._state()
        log_nats = float(log_multiplier(state) + state.log_set_point)
        near = 0.01  # the proportional part moves it by that much
        if log_nats < math.log(LEAST_NATS) + near:
            return "lower"
        return "upper" if log_nats > math.log(MOST_NATS) - near else "free"

    def _relaxation(self, step: int) -> float:
        """The bound that counts after a number of steps, as a multiple of the one asked for."""
        frozen = self._timing.frozen_steps
        left = (RELAXED_UNTIL * frozen - step) / ((RELAXED_UNTIL - 1.0) * frozen)
        return 1.0 + RELAXATION * min(max(left, 0.0), 1.0)

    def _state(self) -> ControllerState:
        return ControllerState(*(self.variables[name] for name in ControllerState._fields))


def _error(state: ControllerState) -> "tf.Tensor":
    import tensorflow as tf

    error = state.log_divergence - state.log_set_point
    return tf.clip_by_value(error, -LARGEST_ERROR, LARGEST_ERROR)


def _bounded(log_nats: "tf.Tensor") -> "tf.Tensor":
    import tensorflow as tf

    return tf.clip_by_value(log_nats, math.log(LEAST_NATS), math.log(MOST_NATS))


def _averaged(
    average: "float | tf.Tensor",
    value: "tf.Tensor",
    window: "float | tf.Tensor",
    step: "tf.Tensor",
) -> "tf.Tensor":
    """An exponential average; at first the mean of all values."""
    import tensorflow as tf

    return average + (value - average) * tf.maximum(1.0 / window, 1.0 / (step + 1.0))
