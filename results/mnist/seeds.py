"""The table of other seeds in README.md, from both sweeps: python seeds.py."""

from pathlib import Path

import numpy as np

from tfp_smvi.report.differences import crossed_mean, paired_differences
from tfp_smvi.sweeps.results import read_sweep

FOLDER = Path(__file__).parent


def main() -> None:
    """Prints it."""
    sweeps = [read_sweep(FOLDER), read_sweep(FOLDER / "seeds")]
    for lam in (0.003, 0.01):
        for kernel in ("rbf", "linear"):
            for num_labels in (600, 1000, 3000):
                for epoch in (50, 100):
                    rows = [
                        100.0 * values
                        for sweep in sweeps
                        for run in sweep.finished
                        if run.lam == lam
                        and (values := paired_differences(sweep, run, kernel, num_labels, epoch))
                        is not None
                    ]
                    mean = crossed_mean(np.stack(rows))
                    low, high = mean.mean - mean.half_width, mean.mean + mean.half_width
                    cells = [
                        *(f"{crossed_mean(row[None]).mean:+.2f}" for row in rows),
                        f"{mean.mean:+.2f} +/- {mean.standard_error:.2f}",
                        f"{low:+.2f} to {high:+.2f}",
                    ]
                    name = f"| {lam} | {kernel} | {num_labels:,} | {epoch} |"
                    print(name, " | ".join(cells), "|")


if __name__ == "__main__":
    main()
