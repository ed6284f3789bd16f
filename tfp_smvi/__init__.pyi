# The public names, each once: where it is, for readers, for type checkers, and for the import at
# its first use.
from .classification.given import classify_features as classify_features
from .classification.protocol import classify as classify
from .classification.results import Classification as Classification
from .config import (
    AISConfig as AISConfig,
)
from .config import (
    ClassifyConfig as ClassifyConfig,
)
from .config import (
    DataConfig as DataConfig,
)
from .config import (
    EvaluateConfig as EvaluateConfig,
)
from .config import (
    ModelConfig as ModelConfig,
)
from .config import (
    RunConfig as RunConfig,
)
from .config import (
    TrainConfig as TrainConfig,
)
from .core.errors import SMVIError as SMVIError
from .core.estimates import Estimate as Estimate
from .data import (
    Dataset as Dataset,
)
from .data import (
    load_dataset as load_dataset,
)
from .evaluation.outside import OutsideModel as OutsideModel
from .evaluation.pipeline import evaluate as evaluate
from .evaluation.results import Evaluation as Evaluation
from .export.check import check_export as check_export
from .export.exporter import export_run as export_run
from .inference.ais import (
    annealed_importance_sampling as annealed_importance_sampling,
)
from .inference.ais import (
    reverse_annealed_importance_sampling as reverse_annealed_importance_sampling,
)
from .inference.importance import importance_weighted_bound as importance_weighted_bound
from .inference.pareto import pareto_k as pareto_k
from .inference.results import AISResult as AISResult
from .inference.starts import widened as widened
from .inference.tuning import tune_step_sizes as tune_step_sizes
from .models.architectures import network_shapes as network_shapes
from .models.exploring import (
    generate as generate,
)
from .models.exploring import (
    interpolate as interpolate,
)
from .models.exploring import (
    reconstruct as reconstruct,
)
from .models.protocol import TrainableModel as TrainableModel
from .models.vae import VAE as VAE
from .objectives.divergences import (
    score_matching_divergence as score_matching_divergence,
)
from .objectives.divergences import (
    weighted_divergence as weighted_divergence,
)
from .objectives.smvi import (
    elbo as elbo,
)
from .objectives.smvi import (
    smvi_objective as smvi_objective,
)
from .runs.early_stopping import EarlyStopping as EarlyStopping
from .runs.loading import (
    LoadedRun as LoadedRun,
)
from .runs.loading import (
    load_run as load_run,
)
from .runs.records import EpochRecord as EpochRecord
from .tracking.tracker import track as track
from .training.distributed import (
    connect_devices as connect_devices,
)
from .training.loop import (
    fit as fit,
)
from .training.reporter import (
    Callback as Callback,
)
from .training.reporter import (
    TrainingProgress as TrainingProgress,
)
from .training.results import FitResult as FitResult
from .version import __version__ as __version__
