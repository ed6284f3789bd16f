"""Compares recipes of optimization by their results on test data, and writes a table.

    python benchmarks/recipe.py lam [--epochs 15] [--runs DIR] [--output FILE.md]
    python benchmarks/recipe.py networks [--epochs 20]

`lam` compares what keeps a training with lam > 0 stable; `networks` compares activations, sizes and
learning rates at lam 0. Each cell is a run of `tfp-smvi train` on MNIST with seed 0. A run that
exists is resumed or reused. On two cores a run of 15 epochs takes about five minutes.
"""

import argparse
import json
import subprocess
from pathlib import Path
from typing import NamedTuple


class Group(NamedTuple):
    """Recipes, as options of `tfp-smvi train`, each for some lams; the first is the default."""

    lams: tuple[float, ...]
    epochs: int
    recipes: tuple[str, ...]


SMALL = "--hidden-sizes 512,512"
COSINE = "--learning-rate-schedule cosine"
GROUPS = {
    "lam": Group(
        (0.1, 0.5, 2.0),
        15,
        (
            "",
            "--lam-warmup-power 1",
            "--lam-warmup-steps 0",
            "--averaging-steps 0",
            "--clip-norm 100 --averaging-steps 0",
            "--clip-norm 100 --averaging-steps 0 --lam-warmup-power 1",
        ),
    ),
    "networks": Group(
        (0.0,),
        20,
        tuple(
            f"{SMALL} --activation {activation} {schedule}".strip()
            for activation, schedule in (
                ("softplus", COSINE),
                ("softplus", f"{COSINE} --learning-rate 0.002"),
                ("silu", COSINE),
                ("silu", ""),
            )
        ),
    ),
}


def run(lam: float, recipe: str, epochs: int, options: argparse.Namespace) -> dict[str, float]:
    """Trains one model and returns its test metrics."""
    name = "-".join(("lam", f"{lam:g}", str(epochs), *recipe.replace("--", "").split()))
    command = ["tfp-smvi", "train", "--json", "--lam", str(lam), "--epochs", str(epochs)]
    command += ["--precision", options.precision, "--threads", str(options.threads)]
    command += [*recipe.split(), "--run-dir", str(options.runs / name)]
    finished = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    test: dict[str, float] = json.loads(finished.stdout)["test"]
    return test


def main() -> None:
    """Runs a group and writes the table row by row."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("group", choices=GROUPS)
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--precision", default="float32")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--runs", type=Path, default=Path("runs/recipe"))
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    group = GROUPS[options.group]
    epochs = options.epochs or group.epochs
    output = options.output or options.runs / f"{options.group}.md"
    output.parent.mkdir(parents=True, exist_ok=True)
    lines = [
        f"Test objective ELBO - lam * D_SM after {epochs} epochs (ELBO / D_SM), nats per image, "
        f"seed 0, {options.precision}:",
        "",
        "| recipe |" + "".join(f" lam {lam:g} |" for lam in group.lams),
        "|---" * (1 + len(group.lams)) + "|",
    ]
    for recipe in group.recipes:
        cells = []
        for lam in group.lams:
            test = run(lam, recipe, epochs, options)
            numbers = f"{test['elbo']:.1f} / {test['divergence']:.1f}"
            cells.append(f" {test['objective']:.1f} ({numbers}) |")
        lines.append(f"| {recipe or 'default'} |" + "".join(cells))
        output.write_text("\n".join(lines) + "\n", encoding="utf-8")
        print(lines[-1], flush=True)


if __name__ == "__main__":
    main()
