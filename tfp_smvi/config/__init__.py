"""The settings that a user may choose: frozen, validated, to and from JSON.

Each field carries its help text, so that the command line's options and the documentation have one
source.
"""

from tfp_smvi.config.classify import ClassifyConfig, InputName, KernelName
from tfp_smvi.config.data import DataConfig, Kind
from tfp_smvi.config.evaluate import (
    BLOCK_SIZE,
    AISConfig,
    EvaluateConfig,
    InitialName,
    LeapfrogPrecision,
    LocalFamily,
    LocalObjectiveName,
    ScheduleName,
    SplitName,
)
from tfp_smvi.config.model import (
    Activation,
    ArchitectureName,
    FlowTransform,
    LikelihoodName,
    ModelConfig,
    PosteriorName,
)
from tfp_smvi.config.run import (
    CONSTRAINTS,
    LENGTH,
    DivergenceName,
    NetworkName,
    Precision,
    RateSchedule,
    RunConfig,
    TrainConfig,
    XLAMode,
)
from tfp_smvi.config.serving import (
    ExportPrecision,
    ExportWeights,
    FeaturesConfig,
    FormatName,
    OnError,
    PartName,
    ServeConfig,
)
from tfp_smvi.config.sweep import SweepConfig

__all__ = [
    "BLOCK_SIZE",
    "CONSTRAINTS",
    "LENGTH",
    "AISConfig",
    "Activation",
    "ArchitectureName",
    "ClassifyConfig",
    "DataConfig",
    "DivergenceName",
    "EvaluateConfig",
    "ExportPrecision",
    "ExportWeights",
    "FeaturesConfig",
    "FlowTransform",
    "FormatName",
    "InitialName",
    "InputName",
    "KernelName",
    "Kind",
    "LeapfrogPrecision",
    "LikelihoodName",
    "LocalFamily",
    "LocalObjectiveName",
    "ModelConfig",
    "NetworkName",
    "OnError",
    "PartName",
    "PosteriorName",
    "Precision",
    "RateSchedule",
    "RunConfig",
    "ScheduleName",
    "ServeConfig",
    "SplitName",
    "SweepConfig",
    "TrainConfig",
    "XLAMode",
]
