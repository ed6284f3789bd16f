"""The units of work of a classification: what each costs, and what its result depends on."""

import importlib.metadata
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from tfp_smvi.classification.results import ENCODER, FORMAT, PCA, Kernel
from tfp_smvi.classification.svm import num_candidates
from tfp_smvi.config import ClassifyConfig

__all__ = ["Unit", "baseline_key", "package_versions", "plan_units", "unit_cost"]


class Unit(NamedTuple):
    """A row of the report: one kind of features and of classifier, at one number of labels."""

    features: str
    kernel: Kernel
    num_labels: int

    @property
    def is_baseline(self) -> bool:
        """Whether its result does not depend on the weights of the run."""
        return self.features != ENCODER


def plan_units(config: ClassifyConfig, sizes: Sequence[int], kinds: Iterable[str]) -> list[Unit]:
    """Returns all units of a classification, as in the report.

    Args:
        config: the settings.
        sizes: the numbers of labels.
        kinds: the kinds of features, in the order of the report.
    """
    return [
        Unit(features, kernel, size)
        for features in kinds
        for kernel in config.kernels
        for size in sizes
    ]


def unit_cost(unit: Unit, config: ClassifyConfig) -> float:
    """Returns a number proportional to the time of a unit; the exponent is measured on MNIST."""
    return float(config.repeats * num_candidates(unit.kernel) * unit.num_labels**1.5)


def baseline_key(
    unit: Unit,
    config: ClassifyConfig,
    data_fingerprint: str,
    latent_dim: int,
    *,
    standardized: bool,
) -> dict[str, object]:
    """Returns everything that the result of a baseline depends on, as JSON values.

    Args:
        unit: the baseline.
        config: the settings.
        data_fingerprint: the fingerprint of the data.
        latent_dim: the number of principal components.
        standardized: whether the data are standardized, which their fingerprint does not tell.
    """
    settings = config.to_json()
    return {
        "format": FORMAT,
        **unit._asdict(),
        **{name: settings[name] for name in ("input", "repeats", "num_folds", "seed")},
        "latent_dim": latent_dim if unit.features == PCA else None,
        "data_fingerprint": data_fingerprint,
        **({"standardized": True} if standardized else {}),
        "versions": package_versions(),
    }


def package_versions() -> dict[str, str]:
    """The versions of the packages that a classifier depends on."""
    packages = ("tfp-smvi", "numpy", "scikit-learn")
    return {name: importlib.metadata.version(name) for name in packages}
