"""The objective against closed forms, to rounding.

With a linear-Gaussian model, all that is averaged over z ~ q is quadratic in z, and the mean of a
quadratic over the 2 * latent_dim points m +- sqrt(latent_dim) * s_i e_i is its exact expectation.
So nothing here has a sampling error: values and gradients must agree to float64 rounding, and the
smallest wrong factor or sign fails.
"""

import math

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

from tests.support.exact import LinearGaussianModel
from tests.support.finite_differences import assert_slopes
from tfp_smvi.core.errors import SMVIError
from tfp_smvi.objectives.divergences import DIVERGENCES, score_matching_divergence
from tfp_smvi.objectives.smvi import elbo, smvi_objective, trade_off

tfd = tfp.distributions

LATENT_DIM, OBSERVED_DIM, BATCH = 3, 7, 4
# float64 rounding, with room for sums of some hundred terms of different sizes.
ROUNDING = 1e-9


class Problem:
    """A linear-Gaussian model p and a diagonal Gaussian q, with parameters as float64 variables."""

    def __init__(self, seed: int = 0) -> None:
        model = LinearGaussianModel.simulate(
            BATCH,
            latent_dim=LATENT_DIM,
            observed_dim=OBSERVED_DIM,
            weight_scale=0.7,
            noise=0.8,
            seed=seed,
        )
        rng = np.random.default_rng(seed + 1)
        self.model, self.x = model, tf.constant(model.x)
        self.weights = tf.Variable(model.weights)
        self.log_noise = tf.Variable(np.log(model.noise))
        self.mean = tf.Variable(rng.standard_normal((BATCH, LATENT_DIM)))
        self.log_stddev = tf.Variable(0.3 * rng.standard_normal((BATCH, LATENT_DIM)))
        self.prior = tfd.MultivariateNormalDiag(tf.zeros(LATENT_DIM, tf.float64))

    @property
    def parameters(self) -> list[tf.Variable]:
        return [self.weights, self.log_noise, self.mean, self.log_stddev]

    def posterior(self) -> tfd.Distribution:
        return tfd.MultivariateNormalDiag(self.mean, tf.exp(self.log_stddev))

    def log_likelihood(self, z: tf.Tensor) -> tf.Tensor:
        mean = tf.linalg.matvec(self.weights, z)
        return tfd.Independent(tfd.Normal(mean, tf.exp(self.log_noise)), 1).log_prob(self.x)

    def points(self) -> tf.Tensor:
        """Points [2 * latent_dim, batch, latent_dim] with the mean and covariance of q."""
        unit = math.sqrt(LATENT_DIM) * np.concatenate([np.eye(LATENT_DIM), -np.eye(LATENT_DIM)])
        return self.mean + tf.exp(self.log_stddev) * tf.constant(unit[:, None, :])

    def exact_elbo(self) -> tf.Tensor:
        """E_q log N(x; Wz, s^2 I) - KL(N(m, S), N(0, I)), written out."""
        variance, noise = tf.exp(2.0 * self.log_stddev), tf.exp(2.0 * self.log_noise)
        residual = self.x - tf.linalg.matvec(self.weights, self.mean)
        spread = tf.linalg.matvec(self.weights**2, variance)
        reconstruction = -0.5 * tf.reduce_sum(
            (residual**2 + spread) / noise + tf.math.log(2.0 * np.pi * noise), axis=-1
        )
        kl = 0.5 * tf.reduce_sum(self.mean**2 + variance - 1.0 - 2.0 * self.log_stddev, axis=-1)
        return reconstruction - kl

    def exact_divergence(self) -> tf.Tensor:
        """tr(A S A) + |Sigma^-1 (m - mu)|^2 with A = Sigma^-1 - S^-1."""
        noise = tf.exp(2.0 * self.log_noise)
        precision = (
            tf.eye(LATENT_DIM, dtype=tf.float64)
            + tf.matmul(self.weights, self.weights, True) / noise
        )
        # Sigma^-1 mu = W' x / s^2
        pull = tf.linalg.matvec(precision, self.mean) - tf.matmul(self.x, self.weights) / noise
        variance = tf.exp(2.0 * self.log_stddev)
        difference = precision - tf.linalg.diag(1.0 / variance)
        trace = tf.linalg.trace(difference @ (variance[..., None] * difference))
        return trace + tf.reduce_sum(pull**2, axis=-1)


def gradients(function, parameters):
    with tf.GradientTape() as tape:
        value = tf.reduce_sum(function())
    return value, tape.gradient(value, parameters)


def assert_same(estimate, exact, parameters):
    """Values and gradients with respect to all parameters agree to rounding."""
    value, slopes = gradients(estimate, parameters)
    expected_value, expected_slopes = gradients(exact, parameters)
    np.testing.assert_allclose(value, expected_value, rtol=ROUNDING)
    for slope, expected in zip(slopes, expected_slopes, strict=True):
        scale = np.max(np.abs(expected)) if expected is not None else 0.0
        np.testing.assert_allclose(
            slope if slope is not None else 0.0, expected if expected is not None else 0.0,
            rtol=ROUNDING, atol=ROUNDING * scale,
        )  # fmt: skip


def test_elbo_and_its_gradients_equal_the_closed_form():
    problem = Problem()

    def estimate():
        terms = elbo(problem.posterior(), problem.prior, problem.log_likelihood, problem.points())
        return tf.reduce_mean(terms.elbo, axis=0)

    assert_same(estimate, problem.exact_elbo, problem.parameters)


def test_divergence_and_its_gradients_equal_the_closed_form():
    problem = Problem()

    def estimate():
        def log_joint(z):
            return problem.prior.log_prob(z) + problem.log_likelihood(z)

        return tf.reduce_mean(
            score_matching_divergence(problem.posterior(), log_joint, problem.points()), axis=0
        )

    assert_same(estimate, problem.exact_divergence, problem.parameters)


@pytest.mark.parametrize("lam", [-0.3, 0.0, 0.5, 10.0, math.inf])
def test_objective_and_its_gradients_equal_the_closed_form_for_every_lam(lam):
    problem = Problem()

    def estimate():
        terms = smvi_objective(
            problem.posterior(), problem.prior, problem.log_likelihood, lam, problem.points()
        )
        return tf.reduce_mean(tf.broadcast_to(terms.objective, [2 * LATENT_DIM, BATCH]), axis=0)

    def exact():
        if math.isinf(lam):
            return -problem.exact_divergence()
        return problem.exact_elbo() - lam * problem.exact_divergence()

    assert_same(estimate, exact, problem.parameters)


def test_elbo_is_the_log_likelihood_where_the_posterior_is_exact():
    problem = Problem()
    mean, covariance = problem.model.posterior()
    posterior = tfd.MultivariateNormalTriL(
        tf.constant(mean), tf.linalg.cholesky(tf.constant(covariance))
    )
    unit = math.sqrt(LATENT_DIM) * np.concatenate([np.eye(LATENT_DIM), -np.eye(LATENT_DIM)])
    z = mean + (unit @ np.linalg.cholesky(covariance).T)[:, None, :]
    terms = elbo(posterior, problem.prior, problem.log_likelihood, tf.constant(z))
    np.testing.assert_allclose(
        tf.reduce_mean(terms.elbo, axis=0), problem.model.log_likelihood(), rtol=ROUNDING
    )


def test_divergence_is_zero_where_the_posterior_is_exact():
    problem = Problem()
    mean, covariance = problem.model.posterior()
    posterior = tfd.MultivariateNormalTriL(
        tf.constant(mean), tf.linalg.cholesky(tf.constant(covariance))
    )
    z = posterior.sample(100, seed=(1, 2))
    divergence = score_matching_divergence(
        posterior, lambda z: problem.prior.log_prob(z) + problem.log_likelihood(z), z
    )
    # Squares of differences of scores of size 10, each with float64 rounding.
    np.testing.assert_allclose(divergence, 0.0, atol=1e-20)


@pytest.mark.parametrize("lam", [0.5, math.inf])
def test_a_sample_that_tfp_remembers_gives_the_same_divergence_as_its_copy(lam):
    """TFP's cache of bijectors would make the score of q vanish at the tensor of q's own sample."""
    problem = Problem()
    posterior = problem.posterior()
    z = posterior.sample(seed=(1, 2))
    copy = tf.constant(z.numpy())

    def log_joint(z):
        return problem.prior.log_prob(z) + problem.log_likelihood(z)

    expected = score_matching_divergence(posterior, log_joint, copy)
    np.testing.assert_allclose(
        score_matching_divergence(posterior, log_joint, z), expected, rtol=ROUNDING
    )
    terms = smvi_objective(posterior, problem.prior, problem.log_likelihood, lam, z)
    np.testing.assert_allclose(terms.divergence, expected, rtol=ROUNDING)


def test_divergence_ignores_the_normalizer():
    problem = Problem()
    posterior, z = problem.posterior(), problem.points()

    def log_joint(z):
        return problem.prior.log_prob(z) + problem.log_likelihood(z)

    shifted = score_matching_divergence(posterior, lambda z: log_joint(z) + 123.0, z)
    np.testing.assert_array_equal(shifted, score_matching_divergence(posterior, log_joint, z))


def test_divergence_takes_any_differentiable_posterior_and_target():
    """Laplace(0, 1) against N(0, 1): E (-sign(z) + z)^2 = 1 - 2 E|z| + E z^2 = 1 - 2 + 2 = 1.

    This is the divergence of each dimension.
    """
    posterior = tfd.Independent(tfd.Laplace(tf.zeros(2, tf.float64), 1.0), 1)
    z = posterior.sample(200_000, seed=(3, 4))
    target = tfd.MultivariateNormalDiag(tf.zeros(2, tf.float64))
    divergence = score_matching_divergence(posterior, target.log_prob, z).numpy()
    standard_error = divergence.std() / math.sqrt(len(divergence))  # about 0.006
    assert abs(divergence.mean() - 2.0) < 5.0 * standard_error


def test_gradients_equal_finite_differences_of_a_nonlinear_model():
    """A tanh encoder and a Bernoulli decoder have second-order terms; a linear model has none."""
    rng = np.random.default_rng(5)
    x = tf.constant((rng.random((6, 5)) < 0.5).astype(float))
    noise = tf.constant(rng.standard_normal((6, 2)))
    parameters = [
        tf.Variable(0.5 * rng.standard_normal(shape)) for shape in [(5, 4), (2, 5), (2, 5)]
    ]
    prior = tfd.MultivariateNormalDiag(tf.zeros(2, tf.float64))

    def objective():
        encoder, hidden, output = parameters
        mean, h = tf.split(tf.tanh(x @ encoder), 2, axis=-1)
        posterior = tfd.MultivariateNormalDiag(mean, tf.exp(h))
        z = mean + tf.exp(h) * noise

        def log_likelihood(z):
            logits = tf.tanh(z @ hidden) * output[0] + output[1]
            return tfd.Independent(tfd.Bernoulli(logits=logits), 1).log_prob(x)

        return smvi_objective(posterior, prior, log_likelihood, 0.7, z).objective

    _, slopes = gradients(objective, parameters)
    assert_slopes(lambda: tf.reduce_sum(objective()), parameters, slopes, rng)


def test_parts_of_the_objective_are_those_of_its_bound():
    problem = Problem()
    arguments = (problem.posterior(), problem.prior, problem.log_likelihood)
    terms = smvi_objective(*arguments, 0.5, problem.points())
    bound = elbo(*arguments, problem.points())
    for part, expected in zip((terms.elbo, terms.reconstruction, terms.kl), bound, strict=True):
        np.testing.assert_allclose(part, expected, rtol=ROUNDING)
    np.testing.assert_array_equal(terms.objective, trade_off(terms.elbo, terms.divergence, 0.5))


def test_lam_scale_multiplies_lam():
    problem = Problem()
    arguments = (problem.posterior(), problem.prior, problem.log_likelihood)
    whole = smvi_objective(*arguments, 0.25, problem.points())
    scaled = smvi_objective(*arguments, 0.5, problem.points(), lam_scale=0.5)
    np.testing.assert_allclose(whole.objective, scaled.objective, rtol=ROUNDING)


@pytest.mark.parametrize("divergence", DIVERGENCES)
def test_no_divergence_is_computed_at_lam_zero(divergence):
    problem = Problem()

    def count_operations(function):
        return len(tf.function(function).get_concrete_function().graph.get_operations())

    def objective(lam):
        arguments = (
            problem.posterior(),
            problem.prior,
            problem.log_likelihood,
            lam,
            problem.points(),
        )
        return smvi_objective(*arguments, divergence=divergence).objective

    def bound():
        return elbo(
            problem.posterior(), problem.prior, problem.log_likelihood, problem.points()
        ).elbo

    assert count_operations(lambda: objective(0.0)) == count_operations(bound)
    assert count_operations(lambda: objective(0.5)) > count_operations(bound)


def test_the_likelihood_is_evaluated_once():
    problem, calls = Problem(), []

    def log_likelihood(z):
        calls.append(z)
        return problem.log_likelihood(z)

    smvi_objective(problem.posterior(), problem.prior, log_likelihood, 0.5, problem.points())
    assert len(calls) == 1


@pytest.mark.parametrize("lam", [float("nan"), -float("inf"), "0.5", None, tf.constant(0.5)])
def test_a_lam_that_is_no_number_is_refused(lam):
    problem = Problem()
    with pytest.raises(SMVIError) as caught:
        smvi_objective(
            problem.posterior(), problem.prior, problem.log_likelihood, lam, problem.points()
        )
    assert caught.value.field == "lam"


@pytest.mark.parametrize("lam", [0.0, 0.5])
def test_what_is_not_one_number_for_each_z_is_refused(lam):
    """It would be broadcast or summed, and the result be wrong by the size of the batch."""
    problem = Problem()
    wrong = [
        lambda z: tf.reduce_sum(problem.log_likelihood(z)),
        lambda z: problem.log_likelihood(z)[..., tf.newaxis],
        lambda z: tf.reduce_sum(problem.log_likelihood(z), axis=0),
    ]
    for function in wrong:
        with pytest.raises(
            SMVIError, match=r"log_likelihood_fn has shape .* one number for each z"
        ):
            smvi_objective(problem.posterior(), problem.prior, function, lam, problem.points())
        with pytest.raises(SMVIError, match=r"log_joint_fn has shape .* one number for each z"):
            score_matching_divergence(problem.posterior(), function, problem.points())


def test_a_lost_gradient_is_not_taken_for_perfect_inference():
    problem = Problem()

    def log_likelihood(z):
        return problem.log_likelihood(tf.stop_gradient(z))

    def by_numpy(z):
        return problem.log_likelihood(z).numpy()

    def lost(estimate, *arguments):
        """The argument that has no gradient."""
        with pytest.raises(SMVIError, match="has no gradient with respect to z") as caught:
            estimate(problem.posterior(), *arguments)
        return caught.value.field

    z = problem.points()
    assert lost(score_matching_divergence, by_numpy, z) == "log_joint_fn"
    assert lost(score_matching_divergence, log_likelihood, z) == "log_joint_fn"
    arguments = (problem.prior, log_likelihood, 0.5, z)
    assert lost(smvi_objective, *arguments) == "log_likelihood_fn"


def test_a_posterior_without_an_analytic_divergence_has_the_same_elbo():
    """A mixture of one component is that component, and TFP knows no KL divergence of mixtures."""
    problem = Problem()
    posterior, z = problem.posterior(), problem.posterior().sample(20000, seed=1)
    mixture = tfd.MixtureSameFamily(
        tfd.Categorical(logits=tf.zeros([*posterior.batch_shape, 1], tf.float64)),
        tfd.Independent(
            tfd.Normal(problem.mean[:, tf.newaxis], tf.exp(problem.log_stddev)[:, tf.newaxis]), 1
        ),
        reparameterize=True,
    )
    with pytest.raises(NotImplementedError):
        tfd.kl_divergence(mixture, problem.prior)
    analytic, sampled = (
        elbo(q, problem.prior, problem.log_likelihood, z) for q in (posterior, mixture)
    )
    differences = (sampled.elbo - analytic.elbo).numpy()
    errors = differences.std(axis=0) / np.sqrt(len(differences))
    assert (np.abs(differences.mean(axis=0)) < 5.0 * errors).all()
    assert (np.abs((sampled.reconstruction - analytic.reconstruction).numpy()) == 0.0).all()
