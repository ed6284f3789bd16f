"""The signatures of the best q(z|x) of each example, which a search finds from the encoder's.

References:
    [1] C. Cremer, X. Li, D. Duvenaud. Inference Suboptimality in Variational Autoencoders.
        ICML 2018.
"""

from collections.abc import Mapping

import tensorflow as tf

from tfp_smvi.config import ModelConfig
from tfp_smvi.export.signatures import Encodes, Moments, Part, encoder_part
from tfp_smvi.inference.arguments import require_positive_integer
from tfp_smvi.inference.local import refine
from tfp_smvi.models.protocol import TrainableModel
from tfp_smvi.runs.given_units import in_given_units
from tfp_smvi.runs.loading import LoadedRun

__all__ = ["refined_part"]


def refined_part(run: LoadedRun, num_steps: int) -> Part:
    """Makes the signatures of `encoder_part` for the best q(z|x) in the diagonal family.

        mean = mean0 + stddev0 * shift,      stddev = stddev0 * exp(log_scale)

    mean0 and stddev0 are those of the encoder's q(z|x), at which the search for the highest ELBO
    starts.

    Args:
        run: the run.
        num_steps: the most steps of the search.

    Raises:
        SMVIError: num_steps is not allowed.

    Source: [1, section 3.2].
    """
    require_positive_integer("refine", num_steps)
    model = in_given_units(
        _Refining(run.model, run.image_shape, run.config.model, num_steps), run.standardization
    )
    return encoder_part(model, run.kind or "intensities")


class _Refining(Encodes):
    """A model whose q(z|x) is the best one of each example."""

    def __init__(
        self,
        model: TrainableModel,
        image_shape: tuple[int, ...],
        config: ModelConfig,
        num_steps: int,
    ) -> None:
        self.image_shape, self.config = image_shape, config
        self._model, self._num_steps = model, num_steps

    @property
    def named_variables(self) -> Mapping[str, tf.Variable]:
        """All variables by name."""
        return self._model.named_variables

    def encode(self, x: tf.Tensor) -> Moments:
        """Returns the moments of the best q(z|x)."""
        start = self._model.encode(x)
        best = refine(
            lambda z: self._model.log_joint(x, z), start, num_steps=self._num_steps, seed=0
        )
        mean, stddev = start.mean(), start.stddev()
        # The size of the batch is free, and a loop loses the other one, too.
        shift, log_scale = (
            tf.ensure_shape(best.parameters[name], mean.shape) for name in ("shift", "log_scale")
        )
        return Moments(mean + stddev * shift, stddev * tf.exp(log_scale))
