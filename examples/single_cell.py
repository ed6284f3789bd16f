"""Counts like those of single cells: simulated, trained on, evaluated, and encoded, in one go.

    python examples/single_cell.py

Cells of a type share an expression profile; a gene's count is negative binomial, and its mean also
follows from the depth of the cell. The negative binomial likelihood is that of the simulation.
"""

from pathlib import Path

import click
import numpy as np
from sklearn.linear_model import LogisticRegression

import tfp_smvi
from tfp_smvi.runs.loading import load_run

DISPERSION = 2.0


def simulate(cells: int, genes: int, types: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns counts, int64 [cells, genes], and the type of each cell, int64 [cells]."""
    rng = np.random.default_rng(seed)
    # Few genes are high, most are low, and a tenth differs between the types.
    base = rng.normal(-1.0, 1.5, genes)
    marker = (rng.random((types, genes)) < 0.1) * rng.normal(0.0, 1.5, (types, genes))
    labels = rng.integers(0, types, cells)
    depth = rng.normal(0.0, 0.3, (cells, 1))
    mean = np.exp(np.minimum(base + marker[labels] + depth, 6.0))
    rates = rng.gamma(DISPERSION, mean / DISPERSION)
    return rng.poisson(rates), labels


@click.command()
@click.option("--cells", default=2000)
@click.option("--genes", default=2000)
@click.option("--types", default=5)
@click.option("--epochs", default=40)
@click.option("--hidden", default=128, help="Units of a hidden layer.")
@click.option("--examples", default=50, help="Cells to evaluate, and to simulate.")
@click.option("--temperatures", default=48, help="Of annealed importance sampling.")
@click.option("--run-dir", default="runs/single-cell", type=Path)
def main(
    cells: int,
    genes: int,
    types: int,
    epochs: int,
    hidden: int,
    examples: int,
    temperatures: int,
    run_dir: Path,
) -> None:
    """Trains, evaluates and encodes."""
    counts, labels = simulate(cells, genes, types, seed=0)
    cut = cells * 3 // 4
    data = tfp_smvi.Dataset.from_arrays(
        counts[:cut], counts[cut:], y_train=labels[:cut], y_test=labels[cut:], name="cells"
    )
    config = tfp_smvi.RunConfig(
        data.config,
        tfp_smvi.ModelConfig("negative_binomial", latent_dim=10, hidden_sizes=(hidden,)),
        tfp_smvi.TrainConfig(lam=0.01, epochs=epochs, batch_size=64, lam_warmup_steps=200),
    )
    tfp_smvi.fit(config, data, run_dir)
    settings = tfp_smvi.EvaluateConfig(
        tfp_smvi.AISConfig(num_temperatures=temperatures),
        num_examples=examples,
        num_simulated=examples,
        num_elbo_samples=256,
    )
    evaluation = tfp_smvi.evaluate(run_dir, settings, dataset=data)
    assert evaluation is not None
    test, bracket = evaluation.splits["test"], evaluation.bracket
    print(f"ELBO            {test.elbo} nats a cell")
    print(f"log-likelihood  {test.log_likelihood}")
    print(f"gap             {test.gap}")
    print(f"bracket         {bracket.width}")
    # Features are the means of q(z|x).
    model = load_run(run_dir, warn=lambda line: None).model
    train, held_out = (
        model.encode(x.astype(np.float32)).mean().numpy() for x in (counts[:cut], counts[cut:])
    )
    classifier = LogisticRegression(max_iter=1000).fit(train, labels[:cut])
    print(f"accuracy        {classifier.score(held_out, labels[cut:]):.3f} of the types")


if __name__ == "__main__":
    main()
