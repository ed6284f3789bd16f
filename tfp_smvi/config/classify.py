"""How a run's features are classified."""

from dataclasses import dataclass
from typing import Literal

from tfp_smvi.config.base import Settings, option, require, require_seed, require_whole

__all__ = ["DEFAULT_LABELS", "ClassifyConfig", "InputName", "KernelName"]

KernelName = Literal["rbf", "linear", "both"]
InputName = Literal["intensities", "binarized"]
# Those of Levy and Ermon, of which data with few examples or other classes allow only some.
DEFAULT_LABELS = (600, 1000, 3000)


@dataclass(frozen=True)
class ClassifyConfig(Settings):
    """How many labels a classifier on the encoder's means gets, and what kind it is."""

    labels: tuple[int, ...] | None = option(
        None,
        "Numbers of labelled examples, each a multiple of the number of classes.  [default: those "
        "of 600,1000,3000 that the data allow]",
    )
    kernel: KernelName = option("both", "The support vector machine's kernel.")
    input: InputName = option(
        "intensities", "What the encoder sees: intensities, or bits drawn from them."
    )
    repeats: int = option(10, "Labelled subsets of each size.")
    num_folds: int = option(5, "Folds of the cross-validation inside a labelled subset.")
    seed: int = option(0, "Seed of the labelled subsets.")

    def _check(self) -> None:
        if self.labels is not None:
            ok = len(self.labels) >= 1 and all(2 <= size < 2**31 for size in self.labels)
            ok = ok and len({*self.labels}) == len(self.labels)
            require("labels", self.labels, ok, "one or more different whole numbers of at least 2")
        require_whole("repeats", self.repeats, least=1)
        require_whole("num_folds", self.num_folds, least=2)
        require_seed(self.seed)

    @property
    def kernels(self) -> tuple[Literal["rbf", "linear"], ...]:
        """The kernels, in the order of the report."""
        return ("rbf", "linear") if self.kernel == "both" else (self.kernel,)
