"""What a run logs and records: an epoch, and the run as config.json describes it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from tfp_smvi.config import RunConfig
from tfp_smvi.core.records import Record
from tfp_smvi.core.runtime import Machine

__all__ = ["DataRecord", "EpochRecord", "Metrics", "RunRecord"]


@dataclass(frozen=True)
class Metrics(Record):
    """Means over examples, in nats; NaN for what was not computed.

    Attributes:
        objective: ELBO - lam * divergence.
        elbo: the evidence lower bound.
        reconstruction: E_q[log p(x|z)].
        kl: KL(q(z|x), p(z)).
        divergence: D_SM(q(z|x), p(z|x)), squared nats per squared unit of z; not computed on
            training data at lam = 0.
    """

    objective: float
    elbo: float
    reconstruction: float
    kl: float
    divergence: float


@dataclass(frozen=True)
class TrainMetrics(Metrics):
    """The same on training data, and the global norm of the gradient.

    Attributes:
        gradient_norm: before clipping, the mean over steps.
    """

    gradient_norm: float = math.nan


@dataclass(frozen=True)
class EpochRecord(Record):
    """One finished epoch, a line of metrics.jsonl.

    Attributes:
        epoch: its number, counted from 1.
        step: the training steps taken by its end.
        train: means over its steps, while the weights changed.
        test: means over the test data, with the weights at its end.
        seconds: how long it took, its test included.
    """

    epoch: int
    step: int
    train: TrainMetrics
    test: Metrics
    seconds: float


@dataclass(frozen=True)
class DataRecord(Record):
    """The data that a run was trained on.

    Attributes:
        fingerprint: a hash of their content.
        image_shape: the shape of one x.
        real_valued: whether they are any real numbers and not intensities in [0, 1]; None in files
            of version 0.1 and before, which did not say.
    """

    fingerprint: str
    image_shape: tuple[int, ...]
    real_valued: bool | None = None


@dataclass(frozen=True)
class RunRecord(Record):
    """A run as its config.json describes it: everything needed to repeat it.

    Attributes:
        config: the configuration, complete.
        data: the data.
        versions: the versions of the packages that matter, by name.
        machine: the machine and its threads; None in files that do not say.
    """

    config: RunConfig
    data: DataRecord
    versions: Mapping[str, str]
    machine: Machine | None = None
