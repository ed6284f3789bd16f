"""The objective of a model, the step that maximizes it, and its measurement on test data.

References:
    [1] D. Levy and S. Ermon. Trading-off Learning and Inference in Deep Latent Variable Models.
        Sections 4 and 5.
    [2] B. T. Polyak and A. B. Juditsky. Acceleration of Stochastic Approximation by Averaging.
        1992.
    [3] I. Loshchilov and F. Hutter. Decoupled Weight Decay Regularization. 2019. Algorithm 2.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from operator import methodcaller
from typing import Any

import numpy as np
import tensorflow as tf
from tf_keras.optimizers.legacy import Adam

from tfp_smvi.config import DivergenceName, TrainConfig
from tfp_smvi.core.runtime import tf32_products, uses_gpu, uses_xla
from tfp_smvi.core.seeds import fold_seed
from tfp_smvi.data.batches import EvalBatches
from tfp_smvi.data.test_batches import TEST_SEED
from tfp_smvi.models.protocol import TrainableModel
from tfp_smvi.models.vae import VAE
from tfp_smvi.objectives.smvi import Objective, smvi_objective, trade_off
from tfp_smvi.runs.records import TEST_METRICS, TRAIN_METRICS, Metrics
from tfp_smvi.runs.warnings import weight_of
from tfp_smvi.training.devices import Devices, OneDevice
from tfp_smvi.training.plan import SCHEDULES
from tfp_smvi.training.stepping import Stepper

__all__ = ["Trainer"]

_DIVERGENCE = TRAIN_METRICS.index("divergence")
# Steps between updates of the average: frequent enough to be accurate, rare enough to be free.
AVERAGING_INTERVAL = 10
# Early on the weights move fast: the average covers at most the last tenth of the steps.
AVERAGING_SHARE = 0.1


def _objective(
    model: TrainableModel,
    x: tf.Tensor,
    sample: Callable[[Any], tf.Tensor],
    divergence: DivergenceName,
    lam: float,
    lam_scale: float | tf.Tensor = 1.0,
) -> Objective:
    """The objective of each x at one sample of its posterior [1, section 4]."""
    # q(z|x) = N(mean(x), covariance(x))
    posterior = model.encode(x)
    # z ~ q(z|x)
    z = sample(posterior)

    # log p(x|z)
    def log_likelihood(z: tf.Tensor) -> tf.Tensor:
        return model.decode(z).log_prob(x)

    # ELBO - lam * D(q(z|x), p(z|x))
    return smvi_objective(posterior, model.prior, log_likelihood, lam, z, lam_scale, divergence)


class Trainer:
    """A model, its optimizer and the compiled functions that train and test it.

    The optimizer moves a copy of the model, whose exponential moving average is the model itself
    [2]:

        average <- average + share * (weights - average),   share = interval / window; at first 1

    With weight_decay, the weight matrices shrink before each update, as in AdamW [3]:

        weights <- weights - rate(step) * weight_decay * weights

    Adam is tf_keras's, whose update is one fused operation: Keras 3's takes a tenth of the step
    more on a CPU.

    Args:
        model: the model to train, from the weights that it has.
        config: the objective and its optimization, complete.
        steps_per_epoch: of the training; a learning rate that falls depends on it.
        devices: where the steps are taken; the model was made in their scope.

    Attributes:
        model: the model with averaged weights, which is tested and kept.
        optimizer: its `iterations` count the steps taken.
        weight: the weight of the divergence.
    """

    def __init__(
        self,
        model: TrainableModel,
        config: TrainConfig,
        steps_per_epoch: int,
        devices: Devices | None = None,
    ) -> None:
        """Creates the optimizer's variables; the functions are traced at their first call."""
        self.model, self._config, self.weight = model, config, weight_of(config)
        self._devices = devices or OneDevice()
        with self._devices.scope():
            self._make_variables(config, steps_per_epoch)
        # XLA compiles a whole step on one device, and on several what lies before their sums.
        xla, several = uses_xla(config.xla), self._devices.num_replicas > 1
        loss = self._loss_and_gradients
        self._loss = tf.function(loss, jit_compile=xla, autograph=False) if several else loss
        # No divergence at lam = 0, and no marker for it: a debugger that looks for NaN finds none.
        size = len(TRAIN_METRICS) - (self.weight.lam == 0.0)
        whole = xla and not several
        self._stepper = Stepper(self._train_step, size, xla=whole, blocks=whole and uses_gpu())
        self._test = tf.function(self._test_batch, reduce_retracing=True, autograph=False)

    def _make_variables(self, config: TrainConfig, steps_per_epoch: int) -> None:
        self._learner = self.model if config.averaging_steps == 0 else self.model.copy()
        self._variables = list(self._learner.trainable_variables)
        self._reduced = self._learner
        if isinstance(self._learner, VAE):
            self._reduced = self._learner.with_products(config.precision)
        self._rate = SCHEDULES[config.learning_rate_schedule](config, steps_per_epoch)
        self.optimizer = Adam(self._rate)
        self.optimizer._create_all_weights(self._variables)
        assert self.weight.variables is not None  # they are made at their first use

    @property
    def step(self) -> int:
        """The number of steps taken."""
        return int(self.optimizer.iterations.numpy())

    @property
    def lam(self) -> float:
        """The weight of the divergence after these steps."""
        return self.weight.reached(self.step)

    @property
    def learning_rate(self) -> float:
        """The learning rate after these steps."""
        return float(self._rate_at(tf.cast(self.optimizer.iterations, tf.float32)))

    def train(self, batches: Iterator[tf.Tensor], num_steps: int) -> np.ndarray:
        """Takes training steps.

        Args:
            batches: iterator of a tf.data pipeline of x: float32 [batch_size, *image_shape].
            num_steps: the number of steps; the result does not depend on how they are grouped into
                calls.

        Returns:
            TRAIN_METRICS of each step, batch means in nats: float32 [num_steps, 6]. At lam = 0
            the divergence is not computed, and is NaN.
        """
        with tf32_products(self._config.precision == "tf32"):
            rows = self._stepper.take(batches, num_steps)
        if self.weight.lam == 0.0:
            rows = np.insert(rows, _DIVERGENCE, np.nan, axis=1)
        return rows

    def test(self, batches: EvalBatches) -> Metrics:
        """Measures the objective at one posterior sample per example, the same at every call.

        Args:
            batches: those of `eval_batches`: (indices, x: float32 [n, *image_shape]).

        Returns:
            The means over all examples, in nats, with the lam after the steps taken.
        """
        total, count = np.zeros(len(TEST_METRICS)), 0
        for number, (_, x) in enumerate(batches):
            total += self._test(x, tf.constant(number)).numpy()
            count += len(x)
        return Metrics(*(total / count).tolist())

    def arrays(self) -> dict[str, np.ndarray]:
        """Returns copies of the weights and the optimizer's state, by name."""
        return {name: variable.numpy() for name, variable in self._state().items()}

    def assign(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Sets the weights and the optimizer's state to what `arrays` returned."""
        for name, variable in self._state().items():
            variable.assign(arrays[name])

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Returns the shapes of what `arrays` returns, by name."""
        return {name: tuple(variable.shape) for name, variable in self._state().items()}

    def _state(self) -> dict[str, tf.Variable]:
        slots = {
            f"optimizer/{i:03d}": variable for i, variable in enumerate(self.optimizer.variables())
        }
        learner = {} if self._learner is self.model else self._learner.named_variables
        return (
            dict(self.model.named_variables)
            | {f"learner/{name}": v for name, v in learner.items()}
            | {f"weight/{name}": v for name, v in self.weight.variables.items()}
            | slots
        )

    def _train_step(self, x: tf.Tensor) -> tf.Tensor:
        step = tf.identity(self.optimizer.iterations)
        gradients, row = self._devices.run(self._gradients, x, step)
        row = self._devices.first(row)
        if self._config.weight_decay > 0.0:
            self._shrink_weights(tf.cast(step, tf.float32))
        self._devices.run(self._apply, gradients)
        if self._learner is not self.model:
            self._average_weights(tf.cast(step, tf.float32))
        self.weight.observe(step, None if self.weight.lam == 0.0 else row[_DIVERGENCE])
        return row

    def _gradients(self, x: tf.Tensor, step: tf.Tensor) -> tuple[list[tf.Tensor], tf.Tensor]:
        """The clipped gradients, and the row of TRAIN_METRICS; at lam = 0 without divergence."""
        gradients, means = self._devices.mean(self._loss(x, step))
        norm = tf.linalg.global_norm(gradients)
        if math.isfinite(self._config.clip_norm):
            gradients = _clip(gradients, norm, self._config.clip_norm)
        return gradients, tf.stack([*means, norm])

    def _loss_and_gradients(
        self, x: tf.Tensor, step: tf.Tensor
    ) -> tuple[list[tf.Tensor], list[tf.Tensor]]:
        """The gradients of this device's part of a batch, and the means of its metrics."""
        config, weight = self._config, self.weight
        with tf.GradientTape() as tape:
            seed = fold_seed(config.seed, "posterior", step)
            scale = weight.scale(step)
            terms = _objective(
                self._reduced,
                self._devices.part(x),
                lambda posterior: self._devices.sample(posterior, seed),
                config.divergence,
                weight.lam,
                scale,
            )
            loss = -tf.reduce_mean(terms.objective)
        gradients = tape.gradient(
            loss, self._variables, unconnected_gradients=tf.UnconnectedGradients.ZERO
        )
        parts = [terms.objective, *terms.bound]
        if terms.divergence is not None:
            parts.append(terms.divergence)
        return gradients, [tf.reduce_mean(part) for part in parts]

    def _apply(self, gradients: list[tf.Tensor]) -> None:
        # All devices have the same gradients.
        self.optimizer.apply_gradients(
            zip(gradients, self._variables, strict=True), experimental_aggregate_gradients=False
        )

    def _rate_at(self, step: tf.Tensor) -> float | tf.Tensor:
        return self._rate(step) if callable(self._rate) else self._rate

    def _shrink_weights(self, step: tf.Tensor) -> None:
        """Decays the weight matrices, and no biases or scales [3]."""
        factor = 1.0 - self._rate_at(step) * self._config.weight_decay
        for weight in self._variables:
            if weight.shape.rank >= 2:
                weight.assign(factor * weight)

    def _average_weights(self, step: tf.Tensor) -> None:
        def update() -> tf.Tensor:
            window = tf.minimum(
                float(self._config.averaging_steps), AVERAGING_INTERVAL + AVERAGING_SHARE * step
            )
            share = tf.where(few, 1.0, tf.minimum(1.0, AVERAGING_INTERVAL / window))
            for average, weight in zip(
                self.model.trainable_variables, self._variables, strict=True
            ):
                average.assign_add(share * (weight - average))
            return share

        few = step < AVERAGING_INTERVAL  # a training that ends here has its last weights
        tf.cond(few | tf.equal(step % AVERAGING_INTERVAL, 0.0), update, lambda: 0.0)

    def _test_batch(self, x: tf.Tensor, number: tf.Tensor) -> tf.Tensor:
        # Not at lam = 0, which would skip the divergence.
        seed = fold_seed(TEST_SEED, "test", number)
        draw = methodcaller("sample", seed=seed)
        terms = _objective(self.model, x, draw, self._config.divergence, lam=1.0)
        bound = [tf.reduce_sum(term) for term in terms.bound]
        divergence = tf.reduce_sum(terms.divergence)
        scale = self.weight.scale(self.optimizer.iterations)
        objective = trade_off(bound[0], divergence, self.weight.lam, scale)
        return tf.stack([objective, *bound, divergence])


def _clip(gradients: list[tf.Tensor], norm: tf.Tensor, clip_norm: float) -> list[tf.Tensor]:
    """Scales gradients down to a global norm; below it, as usual, this costs nothing."""
    return tf.cond(
        norm > clip_norm,
        lambda: [gradient * (clip_norm / norm) for gradient in gradients],
        lambda: gradients,
    )
