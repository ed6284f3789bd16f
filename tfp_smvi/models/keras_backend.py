"""Keras on its TensorFlow backend, imported here once for all networks."""

from tfp_smvi.core.errors import SMVIError

__all__ = ["keras"]

_REMEDY = (
    "set the environment variable KERAS_BACKEND=tensorflow before Python starts, or change "
    "~/.keras/keras.json"
)

try:
    import keras
except ImportError as error:  # the backend that Keras is set to use is not installed
    raise SMVIError(f"Keras cannot load its backend ({error})", remedy=_REMEDY) from error

if keras.config.backend() != "tensorflow":
    raise SMVIError(
        f"Keras runs on the backend {keras.config.backend()}, and tfp_smvi needs tensorflow",
        remedy=_REMEDY,
    )
