"""What estimators refuse, in one table for all of them: shapes and dtypes that do not fit.

Each would be broadcast to a wrong number, or end in an error of TensorFlow's.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

from tests.support.errors import refused
from tfp_smvi.core.densities import ONE_NUMBER
from tfp_smvi.inference.ais import (
    annealed_importance_sampling,
    reverse_annealed_importance_sampling,
)
from tfp_smvi.inference.importance import importance_weighted_bound
from tfp_smvi.inference.tuning import tune_step_sizes
from tfp_smvi.objectives.divergences import score_matching_divergence
from tfp_smvi.objectives.smvi import elbo, smvi_objective

tfd, tfb = tfp.distributions, tfp.bijectors

BATCH, LATENT_DIM = 4, 3
Density = Callable[[tf.Tensor], Any]


def gaussian(*batch: int, dtype: tf.DType = tf.float32) -> tfd.Distribution:
    """N(0, I), with a batch shape."""
    return tfd.MultivariateNormalDiag(tf.zeros([*batch, LATENT_DIM], dtype))


def density(z: tf.Tensor) -> tf.Tensor:
    return -tf.reduce_sum((z - 1.0) ** 2, axis=-1)


def sample() -> tf.Tensor:
    return gaussian(BATCH).sample(seed=[1, 2])


PRIOR = gaussian()


def bound_by(q: Any, f: Density, z: Any) -> tf.Tensor:
    return elbo(q, PRIOR, f, z).elbo


def objective_by(q: Any, f: Density, z: Any) -> tf.Tensor:
    return smvi_objective(q, PRIOR, f, 0.5, z).objective


def divergence_by(q: Any, f: Density, z: Any) -> tf.Tensor:
    return score_matching_divergence(q, f, z)


# By the name of the density: estimators of (posterior, density, z).
OBJECTIVES = [
    ("log_likelihood_fn", bound_by),
    ("log_likelihood_fn", objective_by),
    ("log_joint_fn", divergence_by),
]
# By the name of the distribution: estimators of (distribution, density).
INFERENCE = [
    (
        "initial_distribution",
        lambda q, f: annealed_importance_sampling(f, q, step_size=0.3, seed=1),
    ),
    (
        "initial_distribution",
        lambda q, f: reverse_annealed_importance_sampling(f, q, sample(), step_size=0.3, seed=1),
    ),
    ("initial_distribution", lambda q, f: tune_step_sizes(f, q, seed=1)),
    ("posterior", lambda q, f: importance_weighted_bound(f, q, num_samples=4, seed=1)),
]
NO_DISTRIBUTION_OF_FLOATS = {
    "nothing": None,
    "a tensor": tf.zeros([BATCH, LATENT_DIM]),
    "discrete": tfd.Independent(tfd.Bernoulli(logits=tf.zeros([BATCH, LATENT_DIM])), 1),
    "one-hot": tfd.Independent(tfd.OneHotCategorical(logits=tf.zeros([BATCH, LATENT_DIM, 2])), 2),
    "one-hot floats": tfd.OneHotCategorical(tf.zeros([BATCH, LATENT_DIM]), dtype=tf.float32),
    "counts": tfd.Independent(tfd.Poisson(tf.ones([BATCH, LATENT_DIM])), 1),
    "several tensors": tfd.JointDistributionSequential([gaussian(BATCH), gaussian(BATCH)]),
}
WRONG_DENSITIES: dict[str, Density] = {
    "float64": lambda z: density(tf.cast(z, tf.float64)),
    "float16": lambda z: tf.cast(density(z), tf.float16),
    "float64 of NumPy": lambda z: np.zeros(z.shape[:-1]),
    "float64 data": lambda z: density(z) + tf.constant(1.0, tf.float64) * z[..., 0],
    "integer data": lambda z: density(z) + tf.constant(1, tf.uint8) * z[..., 0],
    "nothing": lambda z: None,
    "a sum over the batch": lambda z: tf.reduce_sum(density(z)),
    "one of the batch": lambda z: density(z)[..., :1],
    "a number for each latent": lambda z: -(z**2),
}


@pytest.mark.parametrize("given", NO_DISTRIBUTION_OF_FLOATS)
def test_no_distribution_of_floats_is_refused(given: str) -> None:
    distribution = NO_DISTRIBUTION_OF_FLOATS[given]
    for _, estimate in OBJECTIVES:
        with refused("posterior"):
            estimate(distribution, density, sample())
    for field, estimate in INFERENCE:
        with refused(field):
            estimate(distribution, density)
    with refused("prior"):
        elbo(gaussian(BATCH), distribution, density, sample())


@pytest.mark.parametrize("given", WRONG_DENSITIES)
def test_a_density_that_does_not_fit_is_refused(given: str) -> None:
    for field, estimate in OBJECTIVES:
        with refused(field):
            estimate(gaussian(BATCH), WRONG_DENSITIES[given], sample())
    # One kind of each is enough where a graph has to be traced.
    traced = given in ("float64", "a sum over the batch")
    for _, estimate in INFERENCE if traced else INFERENCE[-1:]:
        with refused("target_log_prob_fn"):
            estimate(gaussian(BATCH), WRONG_DENSITIES[given])


def test_an_error_of_the_density_itself_is_passed_on() -> None:
    """Catches an error of the user's own code that is taken for wrong dtypes or NumPy."""
    for error in (ValueError("no such file"), AttributeError("no shape"), TypeError("not int32")):

        def broken(z: tf.Tensor, error: Exception = error) -> tf.Tensor:
            raise error

        with pytest.raises(type(error), match=str(error)):
            bound_by(gaussian(BATCH), broken, sample())


def test_a_wrong_number_is_not_taken_for_wrong_dtypes() -> None:
    """TensorFlow's checks of numbers name a dtype, and what they found, too."""

    def broken(z: tf.Tensor) -> tf.Tensor:
        raise tf.errors.InvalidArgumentError(None, None, "NaN in float32 of op Where (bool)")

    with pytest.raises(tf.errors.InvalidArgumentError, match="NaN"):
        bound_by(gaussian(BATCH), broken, sample())


def test_numpy_in_a_graph_is_named() -> None:
    with refused("target_log_prob_fn"):
        annealed_importance_sampling(
            lambda z: tf.constant(z.numpy().sum(-1)), gaussian(BATCH), step_size=0.3, seed=1
        )


@pytest.mark.parametrize(
    "prior",
    [
        tfd.Normal(tf.zeros(LATENT_DIM), 1.0),  # not tfd.Independent
        tfd.Normal(0.0, 1.0),
        tfd.MultivariateNormalDiag(tf.zeros(LATENT_DIM + 1)),
        gaussian(BATCH + 1),
        gaussian(BATCH, BATCH),
        gaussian(dtype=tf.float64),
    ],
)
@pytest.mark.parametrize("lam", [0.0, 0.5])
def test_a_prior_that_does_not_fit_is_refused(prior: tfd.Distribution, lam: float) -> None:
    """Catches an ELBO of shape [batch, batch] or [batch, latent_dim]."""
    with refused("prior"):
        smvi_objective(gaussian(BATCH), prior, density, lam, sample())


def test_a_prior_may_have_the_posteriors_batch() -> None:
    values = [
        elbo(gaussian(BATCH), gaussian(*batch), density, sample()).elbo
        for batch in ((), (1,), (BATCH,))
    ]
    for value in values[1:]:
        np.testing.assert_array_equal(value, values[0])


@pytest.mark.parametrize(
    "z",
    [
        None,
        tf.zeros([BATCH, LATENT_DIM], tf.float64),
        tf.zeros([BATCH, LATENT_DIM], tf.int32),
        tf.zeros([LATENT_DIM]),
        tf.zeros([1, LATENT_DIM]),
        tf.zeros([BATCH, 1]),
    ],
)
def test_z_that_is_no_sample_is_refused(z: object) -> None:
    for _, estimate in OBJECTIVES:
        with refused("z"):
            estimate(gaussian(BATCH), density, z)


def test_z_may_be_an_array() -> None:
    z = sample()
    for _, estimate in OBJECTIVES:
        np.testing.assert_array_equal(
            estimate(gaussian(BATCH), density, z.numpy()), estimate(gaussian(BATCH), density, z)
        )


def mixture(**options: bool) -> tfd.Distribution:
    components = tfd.Independent(tfd.Normal(tf.zeros([BATCH, 2, LATENT_DIM]), 1.0), 1)
    return tfd.MixtureSameFamily(
        tfd.Categorical(logits=tf.zeros([BATCH, 2])), components, **options
    )


@pytest.mark.parametrize(
    "posterior",
    [
        mixture(),
        tfd.Mixture(tfd.Categorical(logits=tf.zeros([BATCH, 2])), [gaussian(BATCH)] * 2),
        tfd.TransformedDistribution(mixture(), tfb.Scale(2.0)),
        tfd.BatchReshape(mixture(), [BATCH]),
        tfd.Blockwise([gaussian(BATCH), mixture()]),
    ],
)
def test_a_posterior_whose_samples_carry_no_gradient_is_refused(
    posterior: tfd.Distribution,
) -> None:
    """Catches a wrapper that hides a mixture, whose encoder would lose a part of its gradient."""
    z = posterior.sample(seed=[1, 2])
    for _, estimate in OBJECTIVES:
        with refused("posterior"):
            estimate(posterior, lambda z: -tf.reduce_sum(z**2, axis=-1), z)


def test_inference_takes_a_posterior_without_gradient() -> None:
    """The mixture is N(0, I) here, so that the integral of exp(-|z - 1|^2) is pi^(3/2)."""
    bound = importance_weighted_bound(
        density, mixture(), num_samples=10_000, chunk_size=10_000, seed=1
    )
    error = np.abs(bound.bound - 1.5 * np.log(np.pi))
    assert np.all(bound.standard_error < 0.05)
    assert np.all(error < 5.0 * bound.standard_error)


@pytest.mark.parametrize("autograph", [True, False])
def test_a_graph_refuses_the_same(autograph: bool) -> None:
    """Catches an error that AutoGraph replaces by its own."""

    @tf.function(autograph=autograph)
    def estimate(mean: tf.Tensor) -> tf.Tensor:
        q = tfd.MultivariateNormalDiag(mean)
        return smvi_objective(q, tfd.Normal(0.0, 1.0), density, 0.5, q.sample(seed=[1, 2]))

    with refused("prior"):
        estimate(tf.zeros([BATCH, LATENT_DIM]))


def objective_graph(shape: list[int | None], f: Density) -> Any:
    @tf.function(input_signature=[tf.TensorSpec(shape)], autograph=False)
    def estimate(mean: tf.Tensor) -> tf.Tensor:
        q = tfd.MultivariateNormalDiag(mean)
        return smvi_objective(q, PRIOR, f, 0.5, q.sample(seed=[1, 2])).objective

    return estimate


def test_a_graph_compares_shapes_that_are_unknown_when_it_is_traced() -> None:
    zeros = tf.zeros([BATCH, LATENT_DIM])
    objective_graph([None, LATENT_DIM], density)(zeros)
    with pytest.raises(tf.errors.InvalidArgumentError, match=f"log_likelihood_fn {ONE_NUMBER}"):
        objective_graph([None, LATENT_DIM], lambda z: density(z)[:1])(zeros)
    with refused("posterior"):
        objective_graph(None, density)(zeros)


@pytest.mark.parametrize(
    ("rows", "problem"),
    [
        ((1, 3, 1), "prior must have no batch axes"),
        ((3, 2, 3), "shape"),  # whichever operation meets it first
        ((1, 1, 4), "z must be samples"),
        ((3, 3, 1), "z must be samples"),
        ((3, 3, 3), None),
        ((3, 1, 3), None),
    ],
)
def test_a_graph_of_unknown_batches_broadcasts_only_the_prior(
    rows: tuple[int, int, int], problem: str | None
) -> None:
    @tf.function(input_signature=[tf.TensorSpec([None, 2])] * 3, autograph=False)
    def estimate(a: tf.Tensor, b: tf.Tensor, z: tf.Tensor) -> list[tf.Tensor]:
        q, p = tfd.MultivariateNormalDiag(a), tfd.MultivariateNormalDiag(b)
        values = [elbo(q, p, density, z).elbo, smvi_objective(q, p, density, 0.5, z).objective]
        return [*values, score_matching_divergence(q, density, z)]

    arguments = [tf.zeros([count, 2]) for count in rows]
    if problem is None:
        assert [value.shape for value in estimate(*arguments)] == [[3]] * 3
    else:
        with pytest.raises(tf.errors.InvalidArgumentError, match=problem):
            estimate(*arguments)


def test_a_divergence_of_another_shape_is_refused() -> None:
    """Catches one that is broadcast over the batch."""

    class Total(tfd.MultivariateNormalDiag):
        pass

    @tfd.RegisterKL(Total, tfd.MultivariateNormalDiag)
    def total(q: Any, p: Any, name: str | None = None) -> tf.Tensor:
        return tf.reduce_sum(q.mean(), axis=-1, keepdims=True)

    with refused("prior"):
        elbo(Total(tf.zeros([BATCH, LATENT_DIM])), PRIOR, density, sample())


def test_checks_of_known_shapes_cost_a_graph_nothing() -> None:
    """Catches an operation that checks in each step of a training."""
    graph = objective_graph([BATCH, LATENT_DIM], density).get_concrete_function().graph
    assert not [op for op in graph.get_operations() if op.type == "Assert"]


def test_an_eager_call_names_a_density_whose_shape_shows_when_it_runs() -> None:
    def density_of_unknown_shape(z: tf.Tensor) -> tf.Tensor:
        return tf.py_function(lambda z: density(z)[:, :1], [z], tf.float32)

    with refused("target_log_prob_fn"):
        annealed_importance_sampling(
            density_of_unknown_shape, gaussian(BATCH), step_size=0.3, seed=1, num_temperatures=8
        )


@pytest.mark.parametrize(
    "lam_scale", [None, "0.5", tf.constant(0.5, tf.float64), tf.ones([BATCH, 1])]
)
def test_a_lam_scale_that_is_no_number_is_refused(lam_scale: object) -> None:
    with refused("lam_scale"):
        smvi_objective(gaussian(BATCH), PRIOR, density, 0.5, sample(), lam_scale)


@pytest.mark.parametrize("kind", [np.float32, np.float64, tf.constant, tf.Variable])
def test_a_lam_scale_is_any_number(kind: Callable[[float], Any]) -> None:
    given, plain = (
        smvi_objective(gaussian(BATCH), PRIOR, density, 0.5, sample(), scale).objective
        for scale in (kind(0.5), 0.5)
    )
    np.testing.assert_array_equal(given, plain)
