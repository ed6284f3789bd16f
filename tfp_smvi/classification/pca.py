"""Principal components of examples, the baseline of the encoder's means."""

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import tensorflow as tf

__all__ = ["PrincipalComponents"]


class PrincipalComponents:
    """Principal component analysis of examples that need not fit in memory together.

        C = 1/n sum_i (x_i - m) (x_i - m)^T = U diag(l) U^T,    features: U_k^T (x - m)

    Args:
        batches: float32 [n, *image_shape] each; they are flattened to [n, d].
        num_components: the number of components; there are fewer where the data span fewer
            dimensions.
    """

    def __init__(self, batches: Iterable[tf.Tensor], num_components: int) -> None:
        """Finds the directions of the largest variances."""
        count, total, products = 0, np.zeros(1), np.zeros((1, 1))
        for batch in batches:
            x = _flatten(batch)
            count, total, products = count + len(x), total + x.sum(axis=0), products + x.T @ x
        self._mean = total / count
        variances, axes = np.linalg.eigh(products / count - np.outer(self._mean, self._mean))
        # Beyond the dimensions that the data span there is rounding alone.
        spanned = int(np.sum(variances > len(variances) * np.finfo(np.float64).eps * variances[-1]))
        self._axes = axes[:, ::-1][:, : min(num_components, spanned)]

    def transform(self, x: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Returns the components of examples: [n, *image_shape] -> float32 [n, num_components]."""
        return ((_flatten(x) - self._mean) @ self._axes).astype(np.float32)


def _flatten(x: npt.ArrayLike) -> npt.NDArray[np.float64]:
    x = np.asarray(x, np.float64)
    return x.reshape(len(x), -1)
