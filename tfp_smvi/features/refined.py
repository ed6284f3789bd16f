"""Features of the best q(z|x) of each example, which a search finds from the encoder's.

References:
    [1] C. Cremer, X. Li, D. Duvenaud. Inference Suboptimality in Variational Autoencoders.
        ICML 2018.
"""

import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from tfp_smvi.config import ModelConfig
from tfp_smvi.export.signatures import Encodes, encoder_part
from tfp_smvi.inference.arguments import require_positive_integer
from tfp_smvi.inference.local import refine
from tfp_smvi.models.protocol import TrainableModel
from tfp_smvi.runs.loading import load_run
from tfp_smvi.runs.models import weights_digest
from tfp_smvi.serving.encoders import Features, FunctionEncoder, Identity, Images

__all__ = ["RefinedEncoder"]

# Examples that are searched at once, as in an evaluation; the draws that compare iterates take
# memory.
_CHUNK = 50


class RefinedEncoder(FunctionEncoder):
    """The mean and stddev of the best q(z|x) of each example in the diagonal family.

        mean = mean0 + stddev0 * shift,      stddev = stddev0 * exp(log_scale)

    mean0 and stddev0 are those of the encoder's q(z|x), at which the search for the highest ELBO
    starts. The draws follow from the place of an example in its batch.

    Args:
        run_dir: the run directory; an export has no decoder for log p(x, z).
        num_steps: the most steps of the search.
        batch_size: the examples that `encode` gets at a time, which the draws depend on.
        note: receives one line on code that is imported.
        warn: receives the run's warnings; None for Python's.

    Raises:
        SMVIError: there is no trained run, or num_steps is not allowed.

    Source: [1, section 3.2].
    """

    def __init__(
        self,
        run_dir: Path | str,
        num_steps: int,
        batch_size: int,
        *,
        note: Callable[[str], None] = lambda line: None,
        warn: Callable[[str], None] | None = None,
    ) -> None:
        """Loads the run."""
        require_positive_integer("refine", num_steps)
        run = load_run(run_dir, note=note, warn=warn)
        model = _Refining(run.model, run.image_shape, run.config.model, num_steps)
        part = encoder_part(model, run.kind or "intensities")
        identity: Identity = {
            "weights": weights_digest(run.model.named_variables),
            "refine": num_steps,
            "batch_size": batch_size,
        }
        self._lock = threading.Lock()
        super().__init__(part.signatures, identity, run.names, str(run_dir))

    def encode(self, signature: str, images: Images) -> Features:
        """Returns the features of examples; see `tfp_smvi.serving.encoders.Encoder.encode`."""
        starts = range(0, len(images), _CHUNK)
        with self._lock:  # one search at a time uses all cores
            parts = [
                super(RefinedEncoder, self).encode(signature, images[i : i + _CHUNK])
                for i in starts
            ]
        return Features(*(np.concatenate(values) for values in zip(*parts, strict=True)))


class _Moments(NamedTuple):
    """A q(z|x) of which mean and stddev are known."""

    means: tf.Tensor
    stddevs: tf.Tensor

    def mean(self) -> tf.Tensor:
        """Returns the mean: [batch, latent_dim]."""
        return self.means

    def stddev(self) -> tf.Tensor:
        """Returns the standard deviation: [batch, latent_dim]."""
        return self.stddevs


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

    def encode(self, x: tf.Tensor) -> _Moments:
        """Returns the moments of the best q(z|x)."""
        start = self._model.encode(x)
        best = refine(
            lambda z: self._model.log_joint(x, z), start, num_steps=self._num_steps, seed=0
        )
        shift, log_scale = best.parameters["shift"], best.parameters["log_scale"]
        mean, stddev = start.mean(), start.stddev()
        return _Moments(mean + stddev * shift, stddev * tf.exp(log_scale))
