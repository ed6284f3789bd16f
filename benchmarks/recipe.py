"""Compares recipes of optimization by the objective on test data, and writes a table.

    python benchmarks/recipe.py [--epochs 15] [--runs DIR] [--output FILE.md]

Each cell is a run of `tfp-smvi train` on MNIST with seed 0. A run that exists is resumed or reused.
On two cores a run of 15 epochs takes about five minutes.
"""

import argparse
import json
import subprocess
from pathlib import Path

LAMS = (0.1, 0.5, 2.0)
# (--lam-warmup-steps, --lam-warmup-power, --clip-norm, --averaging-steps); the first is the
# default.
RECIPES = (
    ("5000", "2", "1000", "2000"),
    ("5000", "1", "1000", "2000"),
    ("0", "1", "1000", "2000"),
    ("5000", "2", "1000", "0"),
    ("5000", "2", "100", "0"),
    ("5000", "1", "100", "0"),
)
OPTIONS = ("--lam-warmup-steps", "--lam-warmup-power", "--clip-norm", "--averaging-steps")


def run(lam: float, recipe: tuple[str, ...], epochs: int, runs: Path) -> dict[str, float]:
    """Trains one model and returns its test metrics."""
    command = ["tfp-smvi", "train", "--json", "--lam", str(lam), "--epochs", str(epochs)]
    command += [text for pair in zip(OPTIONS, recipe, strict=True) for text in pair]
    command += ["--run-dir", str(runs / "-".join(("lam", f"{lam:g}", *recipe)))]
    finished = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(finished.stdout)["test"]


def main() -> None:
    """Runs the grid and writes the table row by row."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--runs", type=Path, default=Path("runs/recipe"))
    parser.add_argument("--output", type=Path, default=Path("runs/recipe/recipe.md"))
    options = parser.parse_args()
    options.output.parent.mkdir(parents=True, exist_ok=True)
    lines = [
        f"Test objective ELBO - lam * D_SM after {options.epochs} epochs (ELBO / D_SM), "
        "nats per image, seed 0:",
        "",
        "| warm-up steps | power | clip norm | averaging steps |"
        + "".join(f" lam {lam:g} |" for lam in LAMS),
        "|---" * (len(OPTIONS) + len(LAMS)) + "|",
    ]
    for recipe in RECIPES:
        cells = []
        for lam in LAMS:
            test = run(lam, recipe, options.epochs, options.runs)
            cells.append(
                f" {test['objective']:.1f} ({test['elbo']:.1f} / {test['divergence']:.1f}) |"
            )
        lines.append(f"| {' | '.join(recipe)} |" + "".join(cells))
        options.output.write_text("\n".join(lines) + "\n", encoding="utf-8")
        print(lines[-1], flush=True)


if __name__ == "__main__":
    main()
