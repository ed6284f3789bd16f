"""Which distributions have a density: all that TFP can make from those that do, and no other."""

import pytest
import tensorflow as tf
import tensorflow_probability as tfp

from tfp_smvi.core.supports import is_discrete

tfd, tfb = tfp.distributions, tfp.bijectors

NORMAL = tfd.Normal(tf.zeros([4, 3]), 1.0)
POISSON = tfd.Poisson(tf.ones([4, 3]))


def families(part: tfd.Distribution) -> list[tfd.Distribution]:
    """What is made from scalars of batch shape [4, 3]."""
    vectors = tfd.Independent(part, 1)
    choice = tfd.Categorical(logits=tf.zeros([4, 2]))
    mixture = tfd.MixtureSameFamily(tfd.Categorical(logits=tf.zeros([3])), part)
    return [
        part,
        vectors,
        mixture,
        tfd.Mixture(choice, [vectors, vectors]),
        tfd.Sample(part, 2),
        tfd.BatchBroadcast(part, [5, 4, 3]),
        tfd.BatchBroadcast(mixture, [5, 4]),
        tfd.BatchReshape(part, [12]),
        tfd.Blockwise([tfd.Independent(NORMAL, 1), vectors]),
        tfd.TransformedDistribution(vectors, tfb.Scale(2.0)),
        tfd.TransformedDistribution(mixture, tfb.Scale(2.0)),
    ]


@pytest.mark.parametrize("index", range(len(families(NORMAL))))
def test_what_has_a_density_is_told_by_the_parts(index: int) -> None:
    assert not is_discrete(families(NORMAL)[index])
    assert is_discrete(families(POISSON)[index])


@pytest.mark.parametrize(
    "distribution",
    [
        tfd.TransformedDistribution(
            tfd.MultivariateNormalDiag(tf.zeros([4, 3])),
            tfb.MaskedAutoregressiveFlow(tfb.AutoregressiveNetwork(2, hidden_units=[4])),
        ),
        tfd.LogNormal(tf.zeros(3), 1.0),
        tfd.VonMisesFisher(tf.constant([1.0, 0.0, 0.0]), 1.0),
        tfd.TruncatedNormal(0.0, 1.0, -1.0, 1.0),
        tfd.Dirichlet(tf.ones(3)),
        tfd.RelaxedOneHotCategorical(1.0, logits=tf.zeros(3)),
    ],
)
def test_continuous_distributions_have_a_density(distribution: tfd.Distribution) -> None:
    assert not is_discrete(distribution)


@pytest.mark.parametrize(
    "distribution",
    [
        tfd.OneHotCategorical(logits=tf.zeros(3), dtype=tf.float32),
        tfd.Bernoulli(logits=0.0, dtype=tf.float32),
        tfd.Binomial(5.0, logits=0.0),
        tfd.Deterministic(0.0),
        tfd.Empirical(tf.zeros([9])),
        tfd.QuantizedDistribution(NORMAL),
    ],
)
def test_counts_and_points_have_none(distribution: tfd.Distribution) -> None:
    assert is_discrete(distribution)
