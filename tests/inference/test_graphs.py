"""Eager calls leave no graph behind, whatever the densities are made of."""

import gc

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

from tests.support.errors import refused
from tests.support.memory import kept_megabytes
from tfp_smvi.config import ModelConfig
from tfp_smvi.inference.ais import (
    annealed_importance_sampling,
    reverse_annealed_importance_sampling,
)
from tfp_smvi.inference.tuning import tune_step_sizes
from tfp_smvi.models.vae import VAE

tfd, tfb = tfp.distributions, tfp.bijectors


def num_graphs() -> int:
    """The graphs of functions that are in memory."""
    gc.collect()
    return sum(
        isinstance(value, tf.Graph) and hasattr(value, "outer_graph") for value in gc.get_objects()
    )


@pytest.mark.slow
def test_eager_calls_leave_no_graph() -> None:
    """Catches graphs that TFP's cache of bijectors and TensorFlow's custom gradients keep.

    The start is a transformed distribution, and the softplus of the target has a custom gradient.
    Each of the four calls would leave five graphs or more, and some 10 MB.
    """
    start = tfd.MultivariateNormalDiag(tf.zeros([2, 3]))
    data = tf.ones([2, 3])
    settings = {"num_temperatures": 2, "num_segments": 1, "num_leapfrog_steps": 1, "seed": 1}

    def log_joint(z: tf.Tensor) -> tf.Tensor:
        likelihood = tfd.TransformedDistribution(tfd.Normal(z, 1.0), tfb.Softplus())
        return start.log_prob(z) + tf.reduce_sum(likelihood.log_prob(data), axis=-1)

    before = num_graphs()
    step_size = tune_step_sizes(log_joint, start, **settings)
    settings |= {"step_size": step_size, "num_chains": 2}
    annealed_importance_sampling(log_joint, start, **settings)
    reverse_annealed_importance_sampling(log_joint, start, data, **settings)
    with refused("target_log_prob_fn"):
        annealed_importance_sampling(lambda z: log_joint(z)[0], start, **settings)
    assert num_graphs() == before


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning")  # 9 chains along 2 temperatures tell little
def test_30_eager_calls_leave_less_than_20_megabytes() -> None:
    """A graph that stays takes 10 MB or more, of a decoder with gradients of its own."""
    model = VAE(ModelConfig("bernoulli", 3, (8,)), (4, 4))
    x = tf.ones([2, 4, 4])
    posterior = model.encode(x)
    settings = {"num_temperatures": 2, "num_segments": 1, "num_leapfrog_steps": 1, "num_chains": 9}

    def call(seed: int) -> None:
        annealed_importance_sampling(
            lambda z: model.log_joint(x, z), posterior, step_size=0.1, seed=seed, **settings
        )

    call(30)  # what it loads stays
    before = kept_megabytes()
    for seed in range(30):
        call(seed)
    assert kept_megabytes() - before < 20.0


def test_what_the_caller_remembers_stays() -> None:
    """Catches a cache that is emptied: this bijector has no inverse but in the cache."""

    class OneWay(tfb.Bijector):
        def __init__(self) -> None:
            super().__init__(forward_min_event_ndims=0)

        def _forward(self, x: tf.Tensor) -> tf.Tensor:
            return 2.0 * x

        def _forward_log_det_jacobian(self, x: tf.Tensor) -> tf.Tensor:
            return tf.math.log(2.0) * tf.ones_like(x)

    flow = tfd.TransformedDistribution(tfd.MultivariateNormalDiag(tf.zeros([2, 3])), OneWay())
    z = flow.sample(seed=[1, 2])
    before = flow.log_prob(z)
    start = tfd.MultivariateNormalDiag(tf.zeros([2, 3]))
    annealed_importance_sampling(
        start.log_prob, start, step_size=0.3, seed=1, num_temperatures=2, num_segments=1
    )
    np.testing.assert_array_equal(flow.log_prob(z), before)


def test_a_target_may_refer_to_other_data_at_the_next_call() -> None:
    """Catches a graph that is kept for the same function: log Z is the constant that it adds."""
    start, constants = tfd.MultivariateNormalDiag(tf.zeros([2, 3])), [0.0]

    def target(z: tf.Tensor) -> tf.Tensor:
        return start.log_prob(z) + constants[0]

    for constant in (1.0, 2.0):
        constants[0] = constant
        result = annealed_importance_sampling(
            target, start, step_size=0.3, seed=1, num_temperatures=2, num_segments=1
        )
        np.testing.assert_allclose(result.log_normalizer(), constant, atol=1e-5)
