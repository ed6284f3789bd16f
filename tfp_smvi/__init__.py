"""Score-matching variational inference on TensorFlow Probability."""

from tfp_smvi.version import __version__

__all__ = ["__version__"]
