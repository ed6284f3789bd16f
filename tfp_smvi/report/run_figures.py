"""The figures of a single run that is evaluated."""

from collections.abc import Sequence
from pathlib import Path

from tfp_smvi.core.errors import SMVIError
from tfp_smvi.evaluation.results import Evaluation
from tfp_smvi.report.calibration_figure import draw_panels, read_calibrated
from tfp_smvi.report.figures import lay_out, write_figures
from tfp_smvi.report.layout import make_layout, styled
from tfp_smvi.storage.json_files import read_json

__all__ = ["is_evaluated_run", "plot_run"]


def is_evaluated_run(path: Path) -> bool:
    """Whether a folder is an evaluated run, and no sweep."""
    return (path / "evaluation.json").exists() and not (path / "sweep.json").exists()


def plot_run(
    run_dir: Path,
    directory: Path,
    formats: Sequence[str] = ("png",),
    *,
    style: str = "screen",
    columns: int | None = None,
) -> list[Path]:
    """Draws the calibration of a run, calibration.png.

    Args:
        run_dir: the run directory, with evaluation.json and evaluation.npz.
        directory: as in `plot_sweep`.
        formats: as in `plot_sweep`.
        style: as in `plot_sweep`.
        columns: as in `plot_sweep`; None: one.

    Returns:
        The files.

    Raises:
        SMVIError: an argument is not allowed, the evaluation has no calibration or cannot be read,
            or a file cannot be written.
    """
    layout = make_layout(style, columns or 1)
    evaluation = _read_evaluation(run_dir / "evaluation.json")
    calibration = evaluation.calibration
    if calibration is None or not calibration.num_examples:
        has_encoder = evaluation.model is None or evaluation.model.has_encoder
        again = "run tfp-smvi evaluate again, without --num-calibration 0"
        raise SMVIError(
            f"the evaluation of {run_dir} has no calibration",
            remedy=again if has_encoder else "it is one of q(z|x): give the model encode(x)",
        )
    with styled(style):
        name = run_dir.resolve().name
        run = read_calibrated(name, run_dir / "evaluation.npz", calibration)
        figure = draw_panels([run], layout)
        lay_out(figure)
    return write_figures({"calibration": figure}, directory, formats, style)


def _read_evaluation(path: Path) -> Evaluation:
    try:
        return Evaluation.from_json(read_json(path))
    except (OSError, ValueError, SMVIError) as error:
        reason = str(error).removesuffix(".")
        remedy = "delete it, and run the same tfp-smvi evaluate again"
        raise SMVIError(f"{path} cannot be read ({reason})", remedy=remedy) from error
