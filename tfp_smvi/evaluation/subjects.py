"""What is evaluated: a model, its data, and what identifies both."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import tensorflow as tf

from tfp_smvi.config import BLOCK_SIZE, AISConfig, EvaluateConfig
from tfp_smvi.core.errors import SMVIError
from tfp_smvi.core.records import JSONObject
from tfp_smvi.core.reporters import EvaluationReporter
from tfp_smvi.core.runtime import uses_gpu
from tfp_smvi.data import Dataset, Split, eval_batches
from tfp_smvi.data.test_batches import TEST_SEED
from tfp_smvi.evaluation.function_check import require_function
from tfp_smvi.evaluation.results import EvaluatedModel, EvaluatedRun
from tfp_smvi.models.layers import Dense
from tfp_smvi.models.products import multiplies_bfloat16
from tfp_smvi.models.protocol import LatentVariableModel, TrainableModel
from tfp_smvi.models.vae import VAE
from tfp_smvi.runs.loading import load_data_of, load_run
from tfp_smvi.runs.models import weights_digest

__all__ = ["Subject", "read_block", "subject_of_run"]

# With 16 chains 8,000 rows of a matrix product, and some hundred megabytes of memory.
GPU_BLOCK_SIZE = 500
# The products of smaller decoders take less than the casts of their factors.
MIN_WEIGHTS_FOR_BFLOAT16 = 300_000


@dataclass(frozen=True, eq=False)
class Subject:
    """What is evaluated.

    Attributes:
        folder: the folder of the reports.
        model: the model.
        dataset: its data.
        binarize: whether bits are drawn from intensities.
        key: JSON values that the results of blocks depend on: the model and the data.
        run: the run; None for a model from outside.
        outside: the model from outside; None for a run.
        keep: writes what a model from outside is known by later, before its first result.
        warnings: lines about the model; settings are named in braces, for `name_fields`.
    """

    folder: Path
    model: LatentVariableModel
    dataset: Dataset
    binarize: bool
    key: JSONObject
    run: EvaluatedRun | None = None
    outside: EvaluatedModel | None = None
    keep: Callable[[], None] = lambda: None
    warnings: tuple[str, ...] = ()

    @property
    def has_encoder(self) -> bool:
        """Whether the model has a q(z|x)."""
        return self.outside is None or self.outside.has_encoder

    @property
    def latent_dim(self) -> int:
        """The size of z."""
        return int(self.model.prior.event_shape[-1])

    def split(self, name: str) -> Split:
        """The examples of a split, "train" or "test"."""
        return self.dataset.train if name == "train" else self.dataset.test

    def read_block(self, split: str, index: int, size: int = BLOCK_SIZE) -> tuple[tf.Tensor, int]:
        """Reads a block of a split, as `read_block`."""
        return read_block(self.split(split), index, self.binarize, size)

    def resolve(self, config: EvaluateConfig) -> EvaluateConfig:
        """The settings for this model and machine.

        Without an encoder, chains start at the prior. On a GPU, blocks are larger, since it
        computes small ones no faster. Where a processor multiplies bfloat16, it moves the chains of
        a large dense decoder.

        Raises:
            SMVIError: they ask for what needs an encoder, or for another precision of a model that
                has only its own.
        """
        config = dataclasses.replace(config, ais=self._with_precision(config.ais))
        if config.block_size is None and uses_gpu():
            config = dataclasses.replace(config, block_size=GPU_BLOCK_SIZE)
        if self.has_encoder:
            return config
        if config.local:
            raise SMVIError(
                "needs q(z|x), and the model has no encode",
                field="local",
                remedy="leave it out, or give the model encode(x)",
            )
        return dataclasses.replace(config, ais=dataclasses.replace(config.ais, initial="prior"))

    def _with_precision(self, ais: AISConfig) -> AISConfig:
        if ais.leapfrog_precision == "float32":
            return ais
        layers = self.model.decoder.layers if isinstance(self.model, VAE) else []
        has_products = bool(layers) and all(isinstance(layer, Dense) for layer in layers)
        if ais.leapfrog_precision == "bfloat16" and not has_products:
            raise SMVIError(
                "needs a decoder of dense layers of this package, whose products it sets",
                field="leapfrog_precision",
                remedy="leave it out",
            )
        num_weights = sum(layer.count_params() for layer in layers)
        if has_products and num_weights >= MIN_WEIGHTS_FOR_BFLOAT16 and multiplies_bfloat16():
            return dataclasses.replace(ais, leapfrog_precision="bfloat16")
        return ais


def subject_of_run(
    run_dir: Path,
    data_dir: Path | None,
    dataset: Dataset | None,
    reporter: EvaluationReporter,
    model: TrainableModel | None,
) -> Subject:
    """Loads a trained run and its data.

    Raises:
        SMVIError: there is no trained run, the data are not those that it was trained on, or the
            model is no function of x and z.
    """
    run = load_run(run_dir, model=model, note=reporter.note, warn=reporter.warn)
    dataset = load_data_of(run, data_dir, dataset=dataset, progress=reporter.note)
    weights = weights_digest(run.model.named_variables)
    if isinstance(run.model, VAE):
        run.model.freeze_decoder()
    binarize = run.config.model.likelihood == "bernoulli"
    require_function(run.model, read_block(dataset.test, 0, binarize)[0], run.model.named_variables)
    return Subject(
        folder=run_dir,
        model=run.model,
        dataset=dataset,
        binarize=binarize,
        key={"weights": weights, "data": dataset.fingerprint, "step": run.step},
        run=EvaluatedRun(
            config=run.config,
            step=run.step,
            epochs=len(run.history),
            weights=weights,
            data_fingerprint=run.data_fingerprint,
        ),
        warnings=run.warnings,
    )


def read_block(
    examples: Split, index: int, binarize: bool, size: int = BLOCK_SIZE
) -> tuple[tf.Tensor, int]:
    """Reads a block of examples.

    Args:
        examples: the split.
        index: the number of the block, counted from 0.
        binarize: whether to draw bits, which are the same at every call.
        size: the number of examples of a block.

    Returns:
        x, float32 [size, *image_shape], and how many of its rows are examples; after the end
        of the split, rows are zeros.
    """
    start = index * size
    # A block is whole whatever part of it is asked for, so that its bits are always the same.
    count = min(size, examples.num_examples - start)
    batches = eval_batches(
        examples,
        batch_size=size,
        seed=TEST_SEED,
        binarize=binarize,
        num_examples=count,
        start=start,
    )
    ((_, x),) = batches
    padding = [[0, size - count]] + [[0, 0]] * len(examples.image_shape)
    return tf.ensure_shape(tf.pad(x, padding), [size, *examples.image_shape]), count
