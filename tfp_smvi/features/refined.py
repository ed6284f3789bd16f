"""Features of the best q(z|x) of each example, which a search finds from the encoder's."""

import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np

from tfp_smvi.engines.recipes import Recipe
from tfp_smvi.serving.encoders import Features, FunctionEncoder, Identity, Images

__all__ = ["RefinedEncoder"]

# Examples that are searched at once, as in an evaluation; the draws that compare iterates take
# memory.
_CHUNK = 50


class RefinedEncoder(FunctionEncoder):
    """The mean and stddev of the best q(z|x) of each example, as `tfp_smvi.export.refined` says.

    The draws of the search follow from the place of an example in its batch.

    Args:
        run_dir: the run directory; an export has no decoder for log p(x, z).
        num_steps: the most steps of the search.
        batch_size: the examples that `encode` gets at a time, which the draws depend on.
        note: receives one line on code that is imported.
        warn: receives the run's warnings; None for Python's.

    Raises:
        SMVIError: there is no trained run, or num_steps is not allowed.
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
        from tfp_smvi.export.refined import refined_part  # it loads TensorFlow
        from tfp_smvi.runs.loading import load_run
        from tfp_smvi.runs.models import weights_digest

        run = load_run(run_dir, note=note, warn=warn)
        part = refined_part(run, num_steps)
        identity: Identity = {
            "weights": weights_digest(run.model.named_variables),
            "refine": num_steps,
            "batch_size": batch_size,
        }
        self.recipe = Recipe(
            f"{__name__}:{type(self).__name__}",
            {
                "run_dir": str(Path(run_dir).absolute()),
                "num_steps": num_steps,
                "batch_size": batch_size,
            },
        )
        self._lock = threading.Lock()
        super().__init__(part.signatures, identity, run.names, str(run_dir))

    def encode(self, signature: str, images: Images) -> Features:
        """Returns the features of examples; see `tfp_smvi.serving.encoders.Encoder.encode`."""
        encode, starts = super().encode, range(0, len(images), _CHUNK)
        with self._lock:  # one search at a time uses all cores
            parts = [encode(signature, images[start : start + _CHUNK]) for start in starts]
        return Features(*(np.concatenate(values) for values in zip(*parts, strict=True)))
