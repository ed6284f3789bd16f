"""Score-matching variational inference on TensorFlow Probability.

Each public name is imported from its module when it is first used, so that `import tfp_smvi` costs
no TensorFlow.
"""

import importlib
from typing import TYPE_CHECKING, Any

from tfp_smvi.version import __version__

if TYPE_CHECKING:
    from tfp_smvi.classification.protocol import classify
    from tfp_smvi.config import (
        AISConfig,
        ClassifyConfig,
        DataConfig,
        EvaluateConfig,
        ModelConfig,
        RunConfig,
        TrainConfig,
    )
    from tfp_smvi.core.errors import SMVIError
    from tfp_smvi.data import Dataset, load_dataset
    from tfp_smvi.evaluation.pipeline import evaluate
    from tfp_smvi.export.check import check_export
    from tfp_smvi.export.exporter import export_run
    from tfp_smvi.inference.ais import (
        AISResult,
        annealed_importance_sampling,
        reverse_annealed_importance_sampling,
    )
    from tfp_smvi.inference.importance import importance_weighted_bound
    from tfp_smvi.inference.tuning import tune_step_sizes
    from tfp_smvi.models.vae import VAE
    from tfp_smvi.objectives.divergences import score_matching_divergence
    from tfp_smvi.objectives.smvi import elbo, smvi_objective
    from tfp_smvi.runs.loading import LoadedRun, load_run
    from tfp_smvi.training.loop import FitResult, fit

__all__ = [
    "VAE",
    "AISConfig",
    "AISResult",
    "ClassifyConfig",
    "DataConfig",
    "Dataset",
    "EvaluateConfig",
    "FitResult",
    "LoadedRun",
    "ModelConfig",
    "RunConfig",
    "SMVIError",
    "TrainConfig",
    "__version__",
    "annealed_importance_sampling",
    "check_export",
    "classify",
    "elbo",
    "evaluate",
    "export_run",
    "fit",
    "importance_weighted_bound",
    "load_dataset",
    "load_run",
    "reverse_annealed_importance_sampling",
    "score_matching_divergence",
    "smvi_objective",
    "tune_step_sizes",
]

_MODULES = {
    "AISConfig": "config",
    "AISResult": "inference.ais",
    "ClassifyConfig": "config",
    "DataConfig": "config",
    "Dataset": "data",
    "EvaluateConfig": "config",
    "FitResult": "training.loop",
    "LoadedRun": "runs.loading",
    "ModelConfig": "config",
    "RunConfig": "config",
    "SMVIError": "core.errors",
    "TrainConfig": "config",
    "VAE": "models.vae",
    "annealed_importance_sampling": "inference.ais",
    "check_export": "export.check",
    "classify": "classification.protocol",
    "elbo": "objectives.smvi",
    "evaluate": "evaluation.pipeline",
    "export_run": "export.exporter",
    "fit": "training.loop",
    "importance_weighted_bound": "inference.importance",
    "load_dataset": "data",
    "load_run": "runs.loading",
    "reverse_annealed_importance_sampling": "inference.ais",
    "score_matching_divergence": "objectives.divergences",
    "smvi_objective": "objectives.smvi",
    "tune_step_sizes": "inference.tuning",
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
