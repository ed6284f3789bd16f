"""A user's model is taken as it is, or refused in one line, before anything is estimated."""

import types
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from tensorflow_probability import distributions as tfd

from tfp_smvi.core.errors import SMVIError
from tfp_smvi.models.outside import AdaptedModel
from tfp_smvi.models.outside_check import check_model

LATENT_DIM, SHAPE = 2, (3, 1)
PRIOR = tfd.MultivariateNormalDiag(tf.zeros(LATENT_DIM))
X = tf.random.stateless_normal([5, *SHAPE], seed=(0, 0))


def decode(z: tf.Tensor) -> tfd.Distribution:
    """p(x|z) = N(sum(z), 1)."""
    mean = tf.reduce_sum(z, axis=-1)[..., None, None] * tf.ones(SHAPE)
    return tfd.Independent(tfd.Normal(mean, 1.0), len(SHAPE))


def log_likelihood(x: tf.Tensor, z: tf.Tensor) -> tf.Tensor:
    return decode(z).log_prob(x)


def simulate(z: tf.Tensor, seed: Any) -> tf.Tensor:
    return decode(z).sample(seed=seed)


def encode(x: tf.Tensor) -> tfd.Distribution:
    mean = tf.reduce_mean(x, axis=(1, 2))[:, None] * tf.ones(LATENT_DIM)
    return tfd.MultivariateNormalDiag(mean, tf.ones(LATENT_DIM))


def check(**members: Any) -> AdaptedModel:
    model = AdaptedModel(types.SimpleNamespace(**members), "my_model:build", __file__)
    check_model(model, X)
    return model


def plain(function: Callable[[tf.Tensor, tf.Tensor], Any]) -> dict[str, Any]:
    """The members of a model with this log-likelihood."""
    return {"prior": PRIOR, "log_likelihood": function, "simulate": simulate}


@pytest.mark.parametrize(
    ("members", "has_encoder"),
    [
        ({"prior": PRIOR, "decode": decode}, False),
        ({"prior": PRIOR, "decode": decode, "encode": encode}, True),
        ({"prior": PRIOR, "decode": decode, "encode": None}, False),
        (plain(log_likelihood), False),
        (plain(log_likelihood) | {"simulate": None, "decode": decode}, False),
    ],
)
def test_a_model_is_taken_in_every_form(members: dict[str, Any], has_encoder: bool) -> None:
    model = check(**members)
    assert model.has_encoder == has_encoder
    z = PRIOR.sample([4, 5], seed=(0, 1))
    expected = PRIOR.log_prob(z) + decode(z).log_prob(X)
    np.testing.assert_array_equal(model.log_joint(X, z), expected)
    np.testing.assert_array_equal(model.decode(z).log_prob(X), decode(z).log_prob(X))
    x = model.decode(z[0]).sample(seed=(0, 2))
    np.testing.assert_array_equal(x, decode(z[0]).sample(seed=(0, 2)))
    start = model.encode(X)
    assert (start.batch_shape, start.event_shape) == ([5], [LATENT_DIM])
    if not has_encoder:
        np.testing.assert_array_equal(start.log_prob(z), PRIOR.log_prob(z))


def test_bits_are_drawn_as_floats() -> None:
    """Catches int32, the dtype that TFP gives the draws of a Bernoulli distribution."""
    logits = tfd.Independent(tfd.Bernoulli(logits=tf.zeros([5, *SHAPE])), len(SHAPE))
    given = types.SimpleNamespace(prior=PRIOR, decode=lambda z: logits)
    model = AdaptedModel(given, "my_model:build")
    assert model.decode(tf.zeros([5, LATENT_DIM])).sample(seed=(0, 0)).dtype == tf.float32


class Bad:
    """A model whose members are properties that raise errors."""

    @property
    def prior(self) -> Any:
        raise ValueError("no weights")

    @property
    def decode(self) -> Any:
        return self.nothing  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", ["prior", "decode", "encode"])
def test_a_property_that_raises_an_error_is_one_line(name: str) -> None:
    members = {"prior": PRIOR, "decode": decode}
    given = type("Given", (), members | {name: getattr(Bad, name, Bad.decode)})()
    with pytest.raises(SMVIError, match=rf"fails for {name}: \w+Error, line \d+ of ") as caught:
        check_model(AdaptedModel(given, "my_model:build", __file__), X)
    assert caught.value.field == "model"


def mixture(x: tf.Tensor) -> tfd.Distribution:
    """A q(z|x) whose draws carry no gradient."""
    two = tfd.MultivariateNormalDiag(tf.zeros([len(x), 2, LATENT_DIM]))
    return tfd.MixtureSameFamily(tfd.Categorical(tf.zeros([len(x), 2])), two)


def leave(x: tf.Tensor, z: tf.Tensor) -> tf.Tensor:
    raise SystemExit(7)


BAD_PRIOR = "give a TFP distribution of event shape"


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({}, r"has no prior \(it is a SimpleNamespace\); give an object with prior and decode"),
        ({"prior": PRIOR}, r"has neither decode\(z\) nor log_likelihood\(x, z\)"),
        (
            {"prior": PRIOR, "log_likelihood": log_likelihood},
            r"has no simulate\(z, seed\); give it, or decode\(z\)",
        ),
        ({"prior": 3, "decode": decode}, f"has a prior that is a int; {BAD_PRIOR}"),
        (
            {"prior": tfd.Normal([0.0, 0.0], 1.0), "decode": decode},
            rf"has a prior of batch shape \(2,\) and event shape \(\); {BAD_PRIOR}",
        ),
        (
            {"prior": tfd.MultivariateNormalDiag(tf.zeros(2, tf.float64)), "decode": decode},
            "has a prior of float64; give float32",
        ),
        (
            {"prior": tfd.Independent(tfd.Cauchy([0.0, 0.0], 1.0), 1), "decode": decode},
            "has a prior whose mean is not finite; give one with finite parameters that has a mean",
        ),
        (
            {"prior": PRIOR, "decode": lambda z: tf.zeros([2, 3, *SHAPE])},
            r"has a decode\(z\) that returns a EagerTensor; give a TFP distribution",
        ),
        (
            {"prior": PRIOR, "decode": lambda z: tfd.Normal(decode(z).mean(), 1.0)},
            r"has a decode\(z\) of batch shape \(2, 3, 3, 1\) and event shape \(\) for z "
            r"\[2, 3, 2\], and an x of the data has shape \(3, 1\); give batch shape \(2, 3\)",
        ),
        (plain(lambda x, z: z.nothing), r"fails for log p\(x\|z\): AttributeError, line \d+ of "),
        (plain(lambda x, z: 0.5), r"gives a float as log p\(x\|z\); give a tensor of float32"),
        (
            plain(lambda x, z: tf.cast(log_likelihood(x, z), tf.float64)),
            r"gives log p\(x\|z\) of float64; give float32",
        ),
        (
            plain(lambda x, z: tf.reduce_sum(log_likelihood(x, z))),
            r"gives log p\(x\|z\) of shape \[\] for x \[3, 3, 1\] and z \[2, 3, 2\]; give \[2, 3\]",
        ),
        (
            plain(lambda x, z: np.nan * log_likelihood(x, z)),
            r"gives NaN as log p\(x\|z\) at a draw of the prior; mend the function",
        ),
        (
            plain(lambda x, z: np.inf * -tf.ones(z.shape[:-1])),
            r"gives -inf as log p\(x\|z\) at all draws of the prior; see that the data",
        ),
        (
            plain(lambda x, z: log_likelihood(x - tf.reduce_mean(x, 0), z)),
            r"gives another log p\(x\|z\) for an example if others are in its batch: -?\d",
        ),
        (
            plain(lambda x, z: tf.constant(log_likelihood(x, z).numpy())),
            r"fails for log p\(x\|z\) in a tf.function: AttributeError",
        ),
        (
            plain(
                lambda x, z: tf.ensure_shape(
                    tf.numpy_function(lambda z: z.sum(-1), [z], tf.float32), z.shape[:-1]
                )
            ),
            r"has a log p\(x\|z\) without a gradient with respect to z; write it in operations",
        ),
        (
            plain(lambda x, z: tf.sqrt(tf.reduce_sum(z - tf.stop_gradient(z), -1))),
            r"has a gradient of log p\(x\|z\) with respect to z that is not finite",
        ),
        (
            plain(log_likelihood) | {"simulate": lambda z, seed: tf.zeros([3, 3])},
            r"gives a simulated x of shape \[3, 3\] for z \[3, 2\]; give \[3, 3, 1\]",
        ),
        (
            plain(log_likelihood) | {"simulate": lambda z, seed: tf.random.normal([3, *SHAPE])},
            "simulates another x from the same z and seed; give the seed, int32",
        ),
        (
            plain(log_likelihood) | {"simulate": lambda z, seed: np.nan * tf.ones([3, *SHAPE])},
            "simulates x with NaN; mend",
        ),
        (
            {"prior": PRIOR, "decode": decode, "encode": lambda x: (x, x)},
            r"has an encode\(x\) that returns a tuple; give a TFP distribution of float32",
        ),
        (
            {"prior": PRIOR, "decode": decode, "encode": lambda x: PRIOR},
            r"has an encode\(x\) that returns float32 of batch shape \(\) and event shape \(2,\)",
        ),
        (
            {
                "prior": PRIOR,
                "decode": decode,
                "encode": lambda x: tfd.MultivariateNormalDiag(
                    tf.reduce_mean(x) * tf.ones([len(x), LATENT_DIM])
                ),
            },
            r"gives another log q\(z\|x\) for an example if others are in its batch",
        ),
        (
            {
                "prior": PRIOR,
                "decode": decode,
                "encode": lambda x: tfd.Independent(tfd.Poisson(tf.ones([len(x), LATENT_DIM])), 1),
            },
            r"has a q\(z\|x\) that cannot be used: it \(\w+\) has no density: its values are",
        ),
        (
            {"prior": PRIOR, "decode": decode, "encode": mixture},
            r"has a q\(z\|x\) that cannot be used: it \(MixtureSameFamily\) is not reparam",
        ),
        (
            {
                "prior": PRIOR,
                "decode": decode,
                "encode": lambda x: tfd.MultivariateNormalDiag(0.0 * x.numpy()[:, :2, 0]),
            },
            r"fails for log q\(z\|x\) in a tf.function: AttributeError",
        ),
        (
            {"prior": tfd.Independent(tfd.Poisson([1.0, 1.0]), 1), "decode": decode},
            r"has a prior that cannot be used: it \(\w+\) has no density",
        ),
        (
            {"prior": tfd.JointDistributionSequential([PRIOR, PRIOR]), "decode": decode},
            "has a prior that cannot be used: it is a distribution of several tensors",
        ),
        (plain(leave), r"fails for log p\(x\|z\): SystemExit, line \d+ of \w+\.py \(7\)"),
    ],
)  # fmt: skip
def test_what_cannot_be_evaluated_is_refused_in_one_line(
    members: dict[str, Any], message: str
) -> None:
    with pytest.raises(SMVIError, match=message) as caught:
        check(**members)
    assert caught.value.field == "model"
    assert caught.value.remedy
    assert "\n" not in str(caught.value)
