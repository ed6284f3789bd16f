"""A search of settings with Optuna that ends hopeless trainings early.

Each trial is a run: it reports its test ELBO after every epoch, and Optuna's pruner ends the trials
that are worse than the median of the others at the same epoch. A pruned run is saved like one that
was stopped: `fit` with the same settings would continue it.

    pip install optuna
    python examples/optuna_search.py --trials 20 --epochs 30 --directory runs/search

Started again, it adds trials to the same study. The objective is the test ELBO at lam = 0: with
lam > 0 compare runs by the gap or the divergence too, because lam trades the one for the other.
"""

from pathlib import Path

import click
import optuna

from tfp_smvi import (
    Callback,
    DataConfig,
    EpochRecord,
    ModelConfig,
    RunConfig,
    TrainConfig,
    fit,
    load_dataset,
)


class Pruning(Callback):
    """Reports each epoch to a trial, and ends the training if the pruner says so."""

    def __init__(self, trial: optuna.Trial) -> None:
        """Stores the trial."""
        self.trial = trial

    def epoch(self, record: EpochRecord) -> None:
        """Reports the test ELBO; an exception of a callback leaves `fit`, which saves before."""
        self.trial.report(record.test.elbo, record.epoch)
        if self.trial.should_prune():
            raise optuna.TrialPruned(f"test ELBO {record.test.elbo:.2f} at epoch {record.epoch}")


def suggest(trial: optuna.Trial, epochs: int) -> RunConfig:
    """The settings of a trial."""
    return RunConfig(
        DataConfig("digits"),
        ModelConfig(
            latent_dim=trial.suggest_int("latent_dim", 2, 16),
            hidden_sizes=(trial.suggest_categorical("hidden", [16, 32, 64]),),
        ),
        TrainConfig(
            epochs=epochs,
            learning_rate=trial.suggest_float("learning_rate", 1e-6, 1e-2, log=True),
        ),
    )


@click.command()
@click.option("--trials", default=20, show_default=True, help="Trials to add.")
@click.option("--epochs", default=30, show_default=True, help="Epochs of a trial.")
@click.option(
    "--directory", type=click.Path(path_type=Path), default="runs/search", show_default=True
)
@click.option("--seed", default=0, show_default=True, help="Seed of the sampler.")
def main(trials: int, epochs: int, directory: Path, seed: int) -> None:
    """Search for the settings with the largest test ELBO."""
    directory.mkdir(parents=True, exist_ok=True)
    dataset = load_dataset("digits")
    study = optuna.create_study(
        study_name="smvi",
        storage=f"sqlite:///{directory.absolute() / 'study.db'}",
        load_if_exists=True,
        direction="maximize",
        sampler=optuna.samplers.TPESampler(seed=seed),
        pruner=optuna.pruners.MedianPruner(n_startup_trials=2),
    )

    def objective(trial: optuna.Trial) -> float:
        config = suggest(trial, epochs)
        run_dir = directory / f"trial{trial.number}"
        return fit(config, dataset, run_dir, reporter=Pruning(trial)).history[-1].test.elbo

    study.optimize(objective, n_trials=trials)
    for trial in study.trials:
        epoch = trial.last_step or 0
        value = trial.intermediate_values.get(epoch, float("nan"))
        click.echo(f"trial {trial.number}: {trial.state.name.lower()} after epoch {epoch}, {value}")
    click.echo(f"best: trial {study.best_trial.number}, {study.best_params}")


if __name__ == "__main__":
    main()
