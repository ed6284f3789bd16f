"""The estimators that the evaluations of a process share: to trace their graphs takes seconds.

A graph depends on the settings of a model and on the shape of its data, and not on its weights,
which are variables. So a run gives its weights to the estimator of another one that is alike.
"""

import contextlib
import dataclasses
import functools
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import NamedTuple

from tfp_smvi.config import EvaluateConfig, ModelConfig
from tfp_smvi.evaluation.estimator import BlockEstimator
from tfp_smvi.models.protocol import LatentVariableModel
from tfp_smvi.models.vae import VAE

__all__ = ["SHARED", "SharedEstimators", "estimators_of"]

# Those of the default model take some 100 MB each.
CAPACITY = 4


class _Structure(NamedTuple):
    """All that the graphs of an estimator depend on, beside the weights of the model."""

    model: ModelConfig
    image_shape: tuple[int, ...]
    config: EvaluateConfig


class _Estimator:
    """An estimator with a model of its own, which takes the weights of others."""

    def __init__(self, model: VAE, config: EvaluateConfig) -> None:
        self._model = model.copy()
        self._model.freeze_decoder()
        self._source = weakref.ref(model)
        self.blocks = BlockEstimator(self._model, config)

    def take_weights(self, model: VAE) -> None:
        if self._source() is not model:
            self._model.assign(model)
            self._source = weakref.ref(model)


class SharedEstimators:
    """The estimators that were used last and are not at work.

    An estimator that is at work belongs to one thread, so that nobody changes its weights. Whoever
    needs such an estimator meanwhile makes another.

    Args:
        capacity: how many are kept.
    """

    def __init__(self, capacity: int) -> None:
        """Makes no estimator yet."""
        self._capacity = capacity
        self._lock = threading.Lock()
        self._at_rest: OrderedDict[_Structure, _Estimator] = OrderedDict()

    @contextlib.contextmanager
    def borrow(self, model: VAE, config: EvaluateConfig) -> Iterator[BlockEstimator]:
        """Lends the estimator for the blocks of a model, which has its weights.

        Args:
            model: a model whose networks follow from its settings; its weights do not change.
            config: what is estimated.
        """
        structure = _Structure(model.config, model.image_shape, _as_graphs_see(config))
        with self._lock:
            estimator = self._at_rest.pop(structure, None)
        if estimator is None:
            estimator = _Estimator(model, structure.config)
        estimator.take_weights(model)
        yield estimator.blocks
        with self._lock:
            self._at_rest[structure] = estimator
            while len(self._at_rest) > self._capacity:
                self._at_rest.popitem(last=False)


SHARED = SharedEstimators(CAPACITY)


def estimators_of(
    model: LatentVariableModel, *, given: bool
) -> Callable[[EvaluateConfig], contextlib.AbstractContextManager[BlockEstimator]]:
    """Returns what lends the estimator of some settings for the blocks of a model.

    Estimators are shared with other models if the settings of the model are all that its graphs
    depend on, beside the weights. Any other model has its own.

    Args:
        model: the model; its weights do not change.
        given: whether a user made it, who may have changed its networks, or its weights since.
    """
    if not given and type(model) is VAE and model.config.model is None:
        return functools.partial(SHARED.borrow, model)
    own = functools.cache(lambda config: BlockEstimator(model, config))
    return lambda config: contextlib.nullcontext(own(config))


def _as_graphs_see(config: EvaluateConfig) -> EvaluateConfig:
    """The settings without those that only choose the blocks and their seeds."""
    return dataclasses.replace(
        config,
        split="test",
        num_examples=1,
        num_simulated=2,
        num_calibration=0,
        seed=0,
        accuracy=None,
        block_size=config.examples_of_block,
    )
