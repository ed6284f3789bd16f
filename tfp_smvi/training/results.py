"""What a training ends with: a trained model, or a stop by a signal."""

import math
import signal
from pathlib import Path
from typing import NamedTuple

from tfp_smvi.models.protocol import TrainableModel
from tfp_smvi.runs.records import EpochRecord
from tfp_smvi.runs.tables import Row, history_rows

__all__ = ["FitResult", "TrainingInterrupted"]


class TrainingInterrupted(Exception):  # noqa: N818
    """A signal ended the training; its state is saved.

    Attributes:
        signum: the signal's number.
        step: the training steps that are saved.
    """

    def __init__(self, signum: int, step: int) -> None:
        """Stores the signal and the step."""
        super().__init__(
            f"stopped by {signal.Signals(signum).name} after step {step}, which is saved."
        )
        self.signum, self.step = signum, step


class FitResult(NamedTuple):
    """A trained model.

    Attributes:
        model: the model: a `tfp_smvi.VAE`, or the one that was given.
        history: the epochs, as in metrics.jsonl.
        run_dir: the run directory.
        warnings: what went wrong without stopping the training, and what it lacks.
    """

    model: TrainableModel
    history: tuple[EpochRecord, ...]
    run_dir: Path
    warnings: tuple[str, ...] = ()

    def rows(self) -> list[Row]:
        """A row for each epoch, for `pandas.DataFrame(result.rows())`: epoch, ..., test_elbo."""
        return history_rows(self.history)

    def __repr__(self) -> str:
        """Such as "FitResult(50 epochs, test ELBO -91.26, D 85.30, in runs/mnist; VAE(...))"."""
        parts = [f"{len(self.history)} epochs"]
        if self.history:
            test = self.history[-1].test
            parts.append(f"test ELBO {test.elbo:.2f}")
            if not math.isnan(test.divergence):
                parts.append(f"D {test.divergence:.2f}")
        warned = f"; {len(self.warnings)} warnings" if self.warnings else ""
        return f"FitResult({', '.join(parts)}, in {self.run_dir}; {self.model!r}{warned})"
