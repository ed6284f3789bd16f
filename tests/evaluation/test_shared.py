"""Evaluations of models that are alike share graphs, and get the bits of graphs of their own."""

import contextlib
import dataclasses
import gc
import threading
import weakref
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tfp_smvi.config import AISConfig, EvaluateConfig, ModelConfig
from tfp_smvi.evaluation.estimator import BlockEstimator
from tfp_smvi.evaluation.shared import SharedEstimators, estimators_of
from tfp_smvi.models.vae import VAE

MODEL = ModelConfig("bernoulli", 3, (17, 9))
AIS = AISConfig(
    num_chains=2,
    num_temperatures=4,
    num_segments=2,
    num_pilot_chains=2,
    num_pilot_temperatures=4,
    leapfrog_precision="bfloat16",
)
CONFIG = EvaluateConfig(
    AIS,
    num_elbo_samples=3,
    num_divergence_samples=2,
    num_importance_samples=3,
    block_size=6,
)
Arrays = dict[str, np.ndarray]


def vae(seed: int, config: ModelConfig = MODEL) -> VAE:
    """A model whose chains move, with weights of its own."""
    model = VAE(config, (4, 5), seed)
    for variable in model.trainable_variables:
        variable.assign(2.0 * variable + 0.1 * seed)
    return model


def estimates(estimator: BlockEstimator) -> Arrays:
    """What a block gives, of data and of simulated examples."""
    x = tf.cast(tf.random.stateless_uniform([6, 4, 5], (1, 2)) < 0.5, tf.float32)
    seed = tf.constant([5, 6])
    return (
        estimator.bounds(x, seed) | estimator.bracketed(seed) | estimator.calibration.ranked(seed)
    )


def assert_same_bits(one: Arrays, other: Arrays) -> None:
    assert one.keys() == other.keys()
    assert {name for name in one if one[name].tobytes() != other[name].tobytes()} == set()


@pytest.mark.slow
def test_models_in_turn_get_the_bits_of_graphs_of_their_own() -> None:
    """Catches weights of another model, also in the frozen decoder, in either precision."""
    shared, first, second = SharedEstimators(2), vae(1), vae(2)
    found = []
    for model in (first, second, first):
        with shared.borrow(model, CONFIG) as estimator:
            found.append(estimates(estimator))
    assert estimator._annealed.experimental_get_tracing_count() == 1
    assert_same_bits(found[0], found[2])
    second.freeze_decoder()
    assert_same_bits(found[1], estimates(BlockEstimator(second, CONFIG)))
    for name in ("elbo", "divergence", "iwae_bound", "lower_bound", "upper_bound", "ranks"):
        assert np.any(found[0][name] != found[1][name]), name


# Of each setting another value, and whether graphs depend on it.
SETTINGS: dict[str, tuple[Any, bool]] = {
    "ais": (dataclasses.replace(AIS, num_chains=5), True),
    "split": ("both", False),
    "num_examples": (None, False),
    "num_elbo_samples": (4, True),
    "num_divergence_samples": (4, True),
    "num_importance_samples": (4, True),
    "num_simulated": (7, False),
    "seed": (1, False),
    "num_calibration": (3, False),
    "accuracy": (0.1, False),
    "local": (True, True),
    "local_steps": (3, True),
    "local_objective": ("divergence", True),
    "local_families": (("full",), True),
    "block_size": (50, True),
}


def test_graphs_are_shared_by_settings_that_they_do_not_depend_on() -> None:
    assert {*SETTINGS} == {field.name for field in dataclasses.fields(EvaluateConfig)}
    model = vae(1)
    shared = SharedEstimators(100)
    with shared.borrow(model, CONFIG) as estimator:
        pass
    for name, (value, differs) in SETTINGS.items():
        with shared.borrow(model, dataclasses.replace(CONFIG, **{name: value})) as other:
            assert (other is not estimator) == differs, name
    for changed in (
        vae(1, dataclasses.replace(MODEL, activation="tanh")),
        vae(1, dataclasses.replace(MODEL, missing=True)),
        VAE(MODEL, (5, 4)),
    ):
        with shared.borrow(changed, CONFIG) as other:
            assert other is not estimator


def test_an_estimator_at_work_is_lent_to_nobody_else() -> None:
    """A task that was interrupted goes on in its thread while the next one has begun."""
    shared, model, lent = SharedEstimators(2), vae(1), []

    def borrow() -> None:
        with shared.borrow(model, CONFIG) as estimator:
            lent.append(estimator)

    with shared.borrow(model, CONFIG) as estimator:
        thread = threading.Thread(target=borrow)
        thread.start()
        thread.join()
    assert len(lent) == 1
    assert lent[0] is not estimator
    # Nor is one whose task failed.
    with contextlib.suppress(ZeroDivisionError), shared.borrow(model, CONFIG) as failed:
        raise ZeroDivisionError
    with shared.borrow(model, CONFIG) as other:
        assert other is not failed


def test_what_is_not_kept_is_freed_with_its_graphs() -> None:
    """Catches a global table of TensorFlow or TFP that holds a graph: 10 MB and more each."""
    shared, model = SharedEstimators(1), vae(1)
    with shared.borrow(model, CONFIG) as estimator:
        estimator.bounds(tf.zeros([6, 4, 5]), tf.constant([5, 6]))
    graph = weakref.ref(estimator._bounds.get_concrete_function(*_arguments()).graph)
    held = weakref.ref(estimator)
    del estimator
    gc.collect()
    assert held() is not None
    with shared.borrow(model, dataclasses.replace(CONFIG, block_size=7)):
        pass
    gc.collect()
    assert held() is None
    assert graph() is None


def _arguments() -> tuple[tf.TensorSpec, tf.TensorSpec]:
    return tf.TensorSpec([6, 4, 5]), tf.TensorSpec([2], tf.int32)


@pytest.mark.parametrize("name", ["another class", "a subclass", "given"])
def test_models_of_a_user_have_estimators_of_their_own(name: str) -> None:
    """Catches old weights: a user may give a model again, with other ones."""

    class Subclass(VAE):
        pass

    class Model:
        prior = vae(1).prior

    def lend() -> Any:
        made: Any = {"another class": Model, "a subclass": lambda: Subclass(MODEL, (4, 5))}
        return estimators_of(made.get(name, lambda: given)(), given=name == "given")

    given = vae(1)
    config = dataclasses.replace(CONFIG, ais=dataclasses.replace(AIS, leapfrog_precision="float32"))
    mine = lend()
    with mine(config) as estimator, mine(config) as again, lend()(config) as other:
        assert again is estimator
        assert other is not estimator
