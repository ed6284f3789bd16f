"""Score-matching variational inference on TensorFlow Probability.

Each public name is imported from its module when it is first used, so that `import tfp_smvi` costs no TensorFlow.
"""

import importlib
from typing import TYPE_CHECKING, Any

from tfp_smvi.version import __version__

if TYPE_CHECKING:
    from tfp_smvi.config import DataConfig, ModelConfig, RunConfig, TrainConfig
    from tfp_smvi.data import Dataset, load_dataset
    from tfp_smvi.errors import SMVIError
    from tfp_smvi.loading import LoadedRun, load_run
    from tfp_smvi.model import VAE
    from tfp_smvi.objective import elbo, score_matching_divergence, smvi_objective
    from tfp_smvi.training import FitResult, fit

__all__ = [
    "VAE",
    "DataConfig",
    "Dataset",
    "FitResult",
    "LoadedRun",
    "ModelConfig",
    "RunConfig",
    "SMVIError",
    "TrainConfig",
    "__version__",
    "elbo",
    "fit",
    "load_dataset",
    "load_run",
    "score_matching_divergence",
    "smvi_objective",
]

_MODULES = {
    "VAE": "model",
    "DataConfig": "config",
    "Dataset": "data",
    "FitResult": "training",
    "LoadedRun": "loading",
    "ModelConfig": "config",
    "RunConfig": "config",
    "SMVIError": "errors",
    "TrainConfig": "config",
    "elbo": "objective",
    "fit": "training",
    "load_dataset": "data",
    "load_run": "loading",
    "score_matching_divergence": "objective",
    "smvi_objective": "objective",
}


if not TYPE_CHECKING:  # a type checker would take any name for one that exists

    def __getattr__(name: str) -> Any:
        """Imports a public name at its first use [PEP 562]."""
        if name not in _MODULES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
        globals()[name] = value  # so that the next use does not come here
        return value


def __dir__() -> list[str]:
    """Lists the public names whether they are imported yet or not."""
    return sorted({*globals(), *__all__})
