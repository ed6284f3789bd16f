"""The posteriors against closed forms, quadrature in two dimensions, and finite differences."""

from typing import get_args

import numpy as np
import pytest
import tensorflow as tf
from scipy import stats
from tensorflow_probability import bijectors as tfb
from tensorflow_probability import distributions as tfd

from tests.support.errors import refused
from tfp_smvi.config import FlowTransform, ModelConfig, PosteriorName
from tfp_smvi.models.flows import PARAMETER_SCALE, CouplingFlow
from tfp_smvi.models.posteriors import POSTERIORS, FullGaussian, diagonal_gaussian
from tfp_smvi.models.transforms import BOUND, MAX_LOG, NUM_BINS, TRANSFORMS
from tfp_smvi.objectives.divergences import score_matching_divergence, weighted_divergence
from tfp_smvi.objectives.smvi import analytic_kl

BATCH = 3
FLOWS = get_args(FlowTransform)
# float32 rounding of sums of some dozen terms.
ROUNDING = 1e-5


def settings(posterior: PosteriorName = "diagonal", latent_dim: int = 3, **others) -> ModelConfig:
    return ModelConfig("bernoulli", latent_dim, (8,), posterior=posterior, **others)


def outputs(posterior, scale: float = 1.0) -> tf.Tensor:
    """What an encoder might give."""
    return tf.random.stateless_normal((BATCH, posterior.num_outputs), (1, 2), stddev=scale)


def make_posterior(transform: FlowTransform, latent_dim: int, strength: float, **others):
    """A flow posterior whose layers do something."""
    scale = strength * {"affine": 0.25, "spline": 0.05}[transform] / PARAMETER_SCALE
    config = settings("flow", latent_dim, flow_transform=transform, **others)
    posterior = POSTERIORS["flow"](config, 0)
    for number, network in enumerate(posterior.networks):
        kernel = network.layers[-1].kernel.value
        kernel.assign(tf.random.stateless_normal(kernel.shape, (3, number), stddev=scale))
    return posterior


def make_flow(transform: FlowTransform, strength: float = 1.0):
    """Its distributions of two latents."""
    posterior = make_posterior(transform, 2, strength)
    return posterior.distribution(outputs(posterior), "float32")


def grid(q: tfd.Distribution, points: int = 221, widths: float = 7.0):
    """Points [points^2, 3, 2] around the means of q, log q there, and the area of a cell [3]."""
    axis = np.linspace(-widths, widths, points)
    mesh = np.stack(np.meshgrid(axis, axis, indexing="ij"), axis=-1).reshape(-1, 1, 2)
    z = (q.mean() + q.stddev() * mesh).numpy().astype(np.float32)
    cell = np.prod(q.stddev().numpy().astype(np.float64), axis=-1) * (axis[1] - axis[0]) ** 2
    return z, over_pieces(q.log_prob, z).astype(np.float64), cell


def over_pieces(function, z: np.ndarray) -> np.ndarray:
    """A function at many points, some at a time: the networks of a flow fill the memory."""
    return np.concatenate([function(tf.constant(part)) for part in np.array_split(z, 10)])


def test_every_posterior_can_be_chosen():
    assert tuple(POSTERIORS) == get_args(PosteriorName)
    assert set(FLOWS) == {"affine", "spline"}


@pytest.mark.parametrize("name", list(POSTERIORS))
@pytest.mark.parametrize("latent_dim", [2, 5])
def test_a_posterior_is_a_distribution_of_z_for_each_x(name, latent_dim):
    posterior = POSTERIORS[name](settings(name, latent_dim), 0)
    q = posterior.distribution(outputs(posterior), "float32")
    assert (q.batch_shape, q.event_shape) == ([BATCH], [latent_dim])
    assert q.reparameterization_type == tfd.FULLY_REPARAMETERIZED
    z = q.sample(4, seed=(0, 0))
    assert q.log_prob(tf.identity(z)).shape == (4, BATCH)
    assert q.mean().shape == q.stddev().shape == (BATCH, latent_dim)
    assert np.all(q.stddev() > 0.0)


@pytest.mark.parametrize("name", ["diagonal", "full"])
def test_gaussians_of_one_latent_are_the_same(name):
    posterior = POSTERIORS[name](settings(name, 1), 0)
    q = posterior.distribution(tf.constant([[0.5, 0.0]]), "float32")
    np.testing.assert_allclose(q.log_prob([[1.0]]), stats.norm.logpdf(0.5), rtol=1e-3)


def test_full_gaussian_is_scipys_with_an_analytic_kl_divergence():
    posterior = POSTERIORS["full"](settings("full", 4), 0)
    output = outputs(posterior, scale=5.0)
    q = posterior.distribution(output, "float32")
    mean, covariance = q.mean().numpy().astype(float), q.covariance().numpy().astype(float)
    np.testing.assert_array_equal(mean, output[:, :4])
    assert np.abs(np.tril(covariance[0], -1)).max() > 0.1
    z = q.sample(seed=(0, 0)).numpy()
    prior = diagonal_gaussian(tf.constant([0.5, -1.0, 0.0, 2.0]), tf.fill([4], 0.7), "prior")
    for i in range(BATCH):
        expected = stats.multivariate_normal.logpdf(z[i], mean[i], covariance[i])
        np.testing.assert_allclose(q.log_prob(z)[i], expected, rtol=1e-4)
        difference = mean[i] - prior.mean().numpy()
        # KL(N(m, S), N(0, s^2 I)) = (tr(S) / s^2 + |m|^2 / s^2 - d + d log s^2 - log det S) / 2
        terms = (np.trace(covariance[i]) + difference @ difference) / 0.49 - 4.0
        logs = 4.0 * np.log(0.49) - np.linalg.slogdet(covariance[i])[1]
        np.testing.assert_allclose(analytic_kl(q, prior)[i], (terms + logs) / 2.0, rtol=1e-4)


def test_the_kl_divergence_of_a_full_gaussian_to_other_priors_is_sampled():
    q = FullGaussian(tf.zeros((BATCH, 2)), tf.eye(2, batch_shape=[BATCH]))
    assert analytic_kl(q, tfd.Independent(tfd.Laplace(tf.zeros(2), 1.0), 1)) is None
    assert analytic_kl(q, tfd.MultivariateNormalTriL(tf.zeros(2), tf.eye(2))).shape == [BATCH]


@pytest.mark.parametrize("transform", FLOWS)
def test_a_flow_begins_as_the_diagonal_gaussian(transform):
    config = settings("flow", 5, flow_transform=transform)
    posterior = POSTERIORS["flow"](config, 0)
    output = outputs(posterior)
    q = posterior.distribution(output, "float32")
    diagonal = POSTERIORS["diagonal"](config, 0).distribution(output[:, :10], "float32")
    np.testing.assert_allclose(q.mean(), diagonal.mean(), atol=ROUNDING)
    np.testing.assert_allclose(q.stddev(), diagonal.stddev(), rtol=ROUNDING)
    z = diagonal.sample(100, seed=(0, 0))
    np.testing.assert_allclose(q.log_prob(z), diagonal.log_prob(z), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("transform", FLOWS)
def test_the_density_of_a_flow_integrates_to_one_with_the_moments_of_its_draws(transform):
    """Cells of 0.07 widths leave 2e-3 of the integral, since splines have kinks at knots."""
    q = make_flow(transform)
    z, log_q, cell = grid(q)
    mass = np.exp(log_q) * cell
    np.testing.assert_allclose(mass.sum(axis=0), 1.0, atol=2e-3)
    mean = np.sum(mass[..., None] * z, axis=0)
    stddev = np.sqrt(np.sum(mass[..., None] * (z - mean) ** 2, axis=0))
    # 64 antithetic pairs: what is odd in the noise cancels, and a standard error of what is even,
    # a fraction of the stddev, remains.
    np.testing.assert_allclose(q.mean() / stddev, mean / stddev, atol=0.15)
    np.testing.assert_allclose(q.stddev(), stddev, rtol=0.15)
    draws = q.sample(20000, seed=(5, 5)).numpy()
    np.testing.assert_allclose(draws.mean(axis=0), mean, atol=4.0 * stddev.max() / 20000**0.5)
    # Skew or heavy tails show that the layers do something.
    shape = np.abs(stats.skew(draws)) + np.abs(stats.kurtosis(draws))
    assert shape.max() > 0.2


@pytest.mark.parametrize("transform", FLOWS)
@pytest.mark.parametrize("strength", [1.0, 4.0])
@pytest.mark.parametrize("num_layers", [1, 2, 3])
def test_a_flow_is_inverted_whatever_its_weights(transform, strength, num_layers):
    posterior = make_posterior(transform, 5, strength, flow_layers=num_layers)
    flow, features = posterior._flow, tf.random.stateless_normal((BATCH, 10), (6, 6))
    eps = tf.random.stateless_normal((1000, BATCH, 5), (7, 7))
    u, log_det = flow.forward(eps, features, "float32")
    back, inverse_log_det = flow.inverse(u, features, "float32")
    # A layer multiplies rounding by at most a factor of exp(3) in each coordinate.
    np.testing.assert_allclose(back, eps, atol=0.01)
    np.testing.assert_allclose(inverse_log_det, -log_det, atol=0.05)
    assert np.abs(u - eps).max() > 0.1


@pytest.mark.parametrize("transform", FLOWS)
def test_the_score_of_a_flow_is_that_of_finite_differences(transform):
    q = make_flow(transform)
    z = tf.identity(q.sample(50, seed=(0, 0)))
    with tf.GradientTape() as tape:
        tape.watch(z)
        log_q = q.log_prob(z)
    score = tape.gradient(log_q, z).numpy()
    step = 5e-3 * q.stddev().numpy()
    for axis in range(2):
        shift = step * np.eye(2, dtype=np.float32)[axis]
        slope = (q.log_prob(z + shift) - q.log_prob(z - shift)).numpy() / (2.0 * step[..., axis])
        # Rounding of 1e-5 over a step of 5e-3. A spline's score jumps at its knots, which some
        # steps cross.
        error = np.abs(slope - score[..., axis]) * q.stddev().numpy()[..., axis]
        assert np.quantile(error, 0.9 if transform == "spline" else 1.0) < 0.01


@pytest.mark.slow
@pytest.mark.parametrize("transform", FLOWS)
def test_the_divergence_from_a_flow_to_a_gaussian_is_that_of_quadrature(transform):
    q = make_flow(transform, 0.5)  # slopes that cells of 0.06 widths resolve
    z, log_q, cell = grid(q)
    mean, stddev = q.mean(), 1.3 * q.stddev()
    p = diagonal_gaussian(mean, stddev, "p")

    def score(points):
        with tf.GradientTape() as tape:
            tape.watch(points)
            density = q.log_prob(points)
        return tape.gradient(density, points)

    score_p = -(z - mean.numpy()) / stddev.numpy() ** 2
    squares = np.sum((over_pieces(score, z) - score_p) ** 2, axis=-1)
    expected = np.sum(squares * np.exp(log_q) * cell, axis=0)
    draws = score_matching_divergence(q, p.log_prob, q.sample(20000, seed=(7, 7))).numpy()
    error = draws.std(axis=0) / 20000**0.5
    # Cells that a knot crosses have the score of one of its sides.
    np.testing.assert_array_less(np.abs(draws.mean(axis=0) - expected), 4 * error + 0.01 * expected)


def test_transforms_are_those_of_tfp():
    """Values, slopes and inverses, inside and outside of the bound, and at it."""
    x = np.concatenate([np.linspace(-7.0, 7.0, 300), [-BOUND, BOUND, 0.0]]).astype(np.float32)
    for name, transform in TRANSFORMS.items():
        size = (len(x), transform.num_parameters)
        parameters = tf.random.stateless_normal(size, (4, 4), stddev=2.0)
        bounded = MAX_LOG * tf.tanh(parameters / MAX_LOG)
        if name == "affine":
            reference = tfb.Chain([tfb.Shift(parameters[:, 0]), tfb.Scale(tf.exp(bounded[:, 1]))])
        else:
            reference = tfb.RationalQuadraticSpline(
                2.0 * BOUND * tf.nn.softmax(bounded[:, :NUM_BINS]),
                2.0 * BOUND * tf.nn.softmax(bounded[:, NUM_BINS : 2 * NUM_BINS]),
                tf.exp(bounded[:, 2 * NUM_BINS :]),
                range_min=-BOUND,
            )
        y, log_slope = transform.forward(x, parameters)
        np.testing.assert_allclose(y, reference.forward(x), rtol=1e-4, atol=1e-4)
        expected = reference.forward_log_det_jacobian(x, event_ndims=0)
        # Slopes change within a bin by some factors of e, and its edges are rounded at 1e-6.
        np.testing.assert_allclose(log_slope, expected, atol=1e-3)
        back, inverse_log_slope = transform.inverse(y, parameters)
        np.testing.assert_allclose(back, x, atol=1e-4)
        np.testing.assert_allclose(inverse_log_slope, -log_slope, atol=1e-3)


@pytest.mark.parametrize("transform", FLOWS)
def test_the_kl_divergence_of_a_flow_has_less_noise_and_the_same_mean(transform):
    prior = diagonal_gaussian(tf.zeros(2), tf.ones(2), "prior")
    q = make_flow(transform)
    z = tf.identity(q.sample(20000, seed=(8, 8)))
    plain, reduced = (
        (log_q(z) - prior.log_prob(z)).numpy() for log_q in (q.log_prob, q.log_prob_for_kl)
    )
    difference = reduced - plain
    error = difference.std(axis=0) / 20000**0.5
    np.testing.assert_array_less(np.abs(difference.mean(axis=0)), 4.0 * error)
    # A flow that is not trained yet has the analytic divergence at every z.
    posterior = POSTERIORS["flow"](settings("flow", 2, flow_transform=transform), 0)
    output = outputs(posterior)
    q = posterior.distribution(output, "float32")
    diagonal = diagonal_gaussian(q.mean(), q.stddev(), "posterior")
    kl = q.log_prob_for_kl(z[:100]) - prior.log_prob(z[:100])
    exact = np.broadcast_to(analytic_kl(diagonal, prior), (100, BATCH))
    # Rounding of squares, which are large far from q's mean.
    np.testing.assert_allclose(kl, exact, atol=1e-5 * float(tf.reduce_max(z**2 / q.stddev() ** 2)))


def test_a_flow_of_one_latent_is_refused():
    with refused("latent_dim", 1):
        settings("flow", 1)


def test_the_weights_of_a_flow_follow_from_the_seed():
    def kernels(seed):
        flow = CouplingFlow(3, 4, 2, "affine", "tanh", seed)
        return [network.layers[0].kernel.numpy() for network in flow.networks]

    first, again, other = kernels(1), kernels(1), kernels(2)
    np.testing.assert_array_equal(first[0], again[0])
    assert not np.array_equal(first[0], other[0])
    assert not np.array_equal(first[0], first[1])


@pytest.mark.parametrize("transform", FLOWS)
def test_the_weighted_divergence_of_a_flow_is_that_of_its_noise(transform):
    """|| grad_eps [log N(eps) - log |det df/deps| - log p(f(eps))] ||^2, without an inverse."""
    q = make_flow(transform)
    p = diagonal_gaussian(q.mean() + 0.3, 1.3 * q.stddev(), "p")
    eps = tf.random.stateless_normal((2000, BATCH, 2), (9, 9))
    with tf.GradientTape() as tape:
        tape.watch(eps)
        u, log_det = q._flow.forward(eps, q._features, "float32")
        z = q._shift + q._scale * u
        log_ratio = -0.5 * tf.reduce_sum(eps**2, axis=-1) - log_det - p.log_prob(z)
    expected = tf.reduce_sum(tape.gradient(log_ratio, eps) ** 2, axis=-1).numpy()
    found = weighted_divergence(q, p.log_prob, z).numpy()
    # A spline's score jumps at its knots, and rounding may put a point on the other side of one.
    error = np.abs(found - expected) / (1.0 + expected)
    assert np.quantile(error, 0.99 if transform == "spline" else 1.0) < 1e-3
    assert np.quantile(np.abs(expected), 0.5) > 0.1


@pytest.mark.parametrize("transform", FLOWS)
def test_the_weighted_divergence_of_a_flow_that_is_affine_is_that_of_its_gaussian(transform):
    posterior = POSTERIORS["flow"](settings("flow", 4, flow_transform=transform), 0)
    output = outputs(posterior)
    q = posterior.distribution(output, "float32")
    p = diagonal_gaussian(tf.zeros(4), tf.fill([4], 1.5), "p")
    z = tf.identity(q.sample(50, seed=(0, 0)))
    expected = weighted_divergence(diagonal_gaussian(q.mean(), q.stddev(), "q"), p.log_prob, z)
    np.testing.assert_allclose(weighted_divergence(q, p.log_prob, z), expected, rtol=1e-3)
