"""The pictures of the worst examples, for a report that has no data at hand."""

from collections.abc import Mapping

import numpy as np

from tfp_smvi.evaluation.results import SplitSummary
from tfp_smvi.evaluation.session import EvaluationSession
from tfp_smvi.models.vae import VAE
from tfp_smvi.runs.gallery import as_pictures

__all__ = ["worst_pictures"]


def worst_pictures(
    session: EvaluationSession, splits: Mapping[str, SplitSummary]
) -> dict[str, np.ndarray]:
    """The worst examples of each split as images, in the order of `SplitSummary.worst`.

        <split>_worst_originals        as the encoder sees them: [n, *image_shape]
        <split>_worst_reconstructions  E[x|z] at z = E_q[z|x]: [n, *image_shape]

    They have the values and dtypes of `write_gallery`.

    Args:
        session: the run.
        splits: the summaries.

    Returns:
        The arrays by name; none for data that are not images, or for a model of your own.
    """
    model = session.subject.model
    pictures: dict[str, np.ndarray] = {}
    if not isinstance(model, VAE) or len(model.image_shape) < 2:
        return {}
    for split, summary in splits.items():
        if not summary.worst:
            continue
        x = session.read_examples(split, [example.index for example in summary.worst])
        images = {
            f"{split}_worst_originals": x,
            f"{split}_worst_reconstructions": model.likelihood.typical(
                model.decode(model.encode(x).mean())
            ),
        }
        pictures |= as_pictures(model, session.subject.dataset, images)
    return pictures
